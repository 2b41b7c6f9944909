"""P4 as a ledger: which failures are remembered, how long they keep everybody from asking, and what lifts them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.component.state_machine.servers import RETRY_AFTER_S, Received
from tests.component.state_machine.stage import Operation, SentRequest, Stage
from token_broker.core.connections import settings_digest
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey

REFUSED_REST = timedelta(minutes=15)
REFUSED_COOLDOWNS = (REFUSED_REST, timedelta(hours=1), timedelta(hours=4), timedelta(hours=24))
LIMIT_REST = timedelta(seconds=RETRY_AFTER_S)
OUTAGE_RESTS = tuple(timedelta(seconds=s) for s in (2, 30, 60, 120, 240, 300))
DOUBT = timedelta(seconds=60)
OUTAGES = ("503", "html", "unreachable", "hang", "lost", "429")
REFUSALS = ("refused", "invalid_scope")
MOST_NEW_SECRETS = 3
# An attempt is counted before it leaves, up to the 12 s of an acquisition.
NEW_SECRETS_TIME = timedelta(hours=1) - timedelta(seconds=12)
# Of a connection: the secret that was sent.
Credentials = tuple[ConnectionName, str | None]


@dataclass(frozen=True)
class Rest:
    """A failure that was met and remembered. `scope` None: it rests the whole connection.

    `refusals` and `outages`: how many in a row, with this one. `origin_seq`: of the refusal that an outage left stored.
    """

    name: ConnectionName
    scope: str | None
    since_seq: int
    origin_seq: int
    until: datetime
    refused: bool
    secret: str | None
    settings_digest: str
    refusals: int
    outages: int


@dataclass(frozen=True)
class Limit:
    """A provider's wish to be left alone, for a connection or one of its scopes, whatever it is asked with."""

    name: ConnectionName
    scope: str | None
    since_seq: int
    until: datetime


def asked(by: SentRequest) -> str:
    """Settings as far as the provider sees them."""
    return settings_digest(by.settings.settings) if by.settings is not None else ""


def _in_a_row(last: Rest | None, secret: str | None, version: str) -> tuple[int, int]:
    """How many refusals and outages the next one follows. Behind a refusal, outages are a row as long as it is kept:
    for the same secret and settings."""
    if last is None:
        return 0, 0
    is_kept = not last.refused or (last.secret, last.settings_digest) == (secret, version)
    return last.refusals if last.refused and last.secret == secret else 0, last.outages if is_kept else 0


class Rests:
    """Hears of every failure that is stored, and of what ends one."""

    def __init__(self, stage: Stage, breaks: Callable[[str], object], *, login: bool) -> None:
        self._stage = stage
        self._breaks = breaks
        self._login = login
        self._rests: list[Rest] = []
        self._limits: list[Limit] = []
        self._hosts: dict[str, tuple[int, datetime]] = {}
        self._worked: set[Credentials] = set()
        self._doubted: set[Credentials] = set()
        self._new_secrets: dict[ConnectionName, dict[str, datetime]] = defaultdict(dict)

    # ------------------------------------------------------------------ what begins one
    def remembered(self, name: ConnectionName, scope: str | None, by: SentRequest, failure: Failure) -> None:
        if failure.rate_limited:
            self._limited(name, scope, by, failure)
            return
        met_at, secret, version = by.met_at or failure.at, by.secret or by.read_secret, failure.settings_digest
        # Where an outage ends no refusal, the old one is stored again.
        is_new_refusal = failure.refused and failure.at >= met_at
        if by.met in OUTAGES and is_new_refusal and not self._login:
            self._breaks(f"P4: an outage ({by.met}) was taken for a refusal")
        before = [
            rest for rest in self._rests if (rest.name, rest.scope) == (name, scope) and rest.since_seq <= by.read_seq
        ]
        last = before[-1] if before else None
        if not is_new_refusal:
            self._check_kept(last, failure, secret, version)
        refusals, outages = _in_a_row(last, secret, version)
        refusals, outages = refusals + is_new_refusal, 0 if is_new_refusal else outages + (by.met in OUTAGES)
        least = self._least((name, secret), by, refusals if is_new_refusal else 0, outages, refused=failure.refused)
        until = met_at + least
        # Other settings lift a rest, even where they are the old ones again later.
        # A refusal is newer news than an outage before it, and a new secret lifts it.
        self._rests = [
            rest
            for rest in self._rests
            if not (is_new_refusal and not rest.refused and (rest.name, rest.scope) == (name, scope))
            and (rest.name != name or rest.settings_digest == version)
        ]
        is_kept = failure.refused and not is_new_refusal
        seq = self._stage.next_seq()
        origin_seq = max((rest.origin_seq for rest in before if rest.refused), default=seq) if is_kept else seq
        self._rests.append(
            Rest(name, scope, seq, origin_seq, until, failure.refused, secret, version, refusals, outages)
        )

    def _limited(self, name: ConnectionName, scope: str | None, by: SentRequest, failure: Failure) -> None:
        if by.met != "429":
            self._breaks(f"P4: {by.met} was taken for a limit")
        known = [limit for limit in self._limits if (limit.name, limit.scope) == (name, scope)]
        if any(limit.until > failure.retry_at for limit in known if limit.since_seq <= by.read_seq):
            self._breaks("P4: a failure shortened the rest that the provider had asked for")
        until = (by.met_at or failure.at) + LIMIT_REST
        self._limits.append(Limit(name, scope, self._stage.next_seq(), until))

    def _check_kept(self, last: Rest | None, failure: Failure, secret: str | None, version: str) -> None:
        """An outage, or a trial that met one, ends nothing that still holds."""
        if last is None or (last.secret, last.settings_digest) != (secret, version):
            return
        if last.refused and not failure.refused:
            self._breaks("P4: an outage ended a refusal")
        elif last.until > failure.retry_at:
            self._breaks("P4: a failure shortened the rest of another")

    def _least(self, which: Credentials, by: SentRequest, refusals: int, outages: int, *, refused: bool) -> timedelta:
        """How long it must rest at least. `refused`: a refusal is stored, new or old."""
        if refusals:
            return REFUSED_COOLDOWNS[min(refusals, len(REFUSED_COOLDOWNS)) - 1]
        if by.met in REFUSALS and not refused:
            # Unicommerce says FAILED for an outage too: doubted once where the credentials worked before.
            if not self._login or which in self._doubted or which not in self._worked:
                self._breaks("P4: a refusal was taken for an outage")
            self._doubted.add(which)
            return DOUBT
        return OUTAGE_RESTS[min(max(outages, 1), len(OUTAGE_RESTS)) - 1]

    def host_rests(self, host: str, until: datetime) -> None:
        self._hosts[host] = (self._stage.next_seq(), until)

    # ------------------------------------------------------------------ what ends one
    def worked(self, name: ConnectionName, by: SentRequest) -> None:
        """A token was issued and stored: what the operation knew of is over."""
        self._rests = [rest for rest in self._rests if rest.name != name or rest.origin_seq > by.read_seq]
        self._limits = [limit for limit in self._limits if limit.name != name or limit.since_seq > by.read_seq]
        self._worked.add((name, by.secret))
        self._clear(name)

    def ended(self, name: ConnectionName) -> None:
        self._rests = [rest for rest in self._rests if rest.name != name]
        self._limits = [limit for limit in self._limits if limit.name != name]
        self._clear(name)

    def purged(self, key: TokenKey) -> None:
        self._rests = [rest for rest in self._rests if (rest.name, rest.scope) != (key.name, key.scope)]
        self._limits = [limit for limit in self._limits if (limit.name, limit.scope) != (key.name, key.scope)]

    def _clear(self, name: ConnectionName) -> None:
        self._doubted = {which for which in self._doubted if which[0] != name}
        self._new_secrets.pop(name, None)

    # ------------------------------------------------------------------ what it forbids
    def check(self, operation: Operation, key: TokenKey, received: Received) -> None:
        """A request of a grant leaves the broker."""
        by, now = operation.seen, self._stage.clock()
        seq, until = self._hosts.get(received.host, (0, now))
        if seq < by.lease_seq and now < until:
            self._breaks("P4: a host that asked to be left alone was asked")
        if operation.kind == "trial":
            return
        self._check_limits(key, by, now)
        secret, version = received.secret or by.read_secret, asked(by)
        known = [rest for rest in self._rests if rest.name == key.name and rest.since_seq <= by.read_seq]
        failed = {rest.secret for rest in known if rest.scope is None}
        if failed and secret not in failed:
            self._check_new_secret(key.name, secret or "", now)
        for rest in known:
            if rest.scope not in (None, key.scope) or (rest.refused and rest.secret != secret):
                continue
            if rest.settings_digest != version:
                continue
            if now < rest.until:
                self._breaks(f"P4: asked {received.step} although a failure rests until {rest.until}")
            elif rest.refused and operation.kind == "renew":
                self._breaks("P4: the sweep repeated a refusal")

    def _check_limits(self, key: TokenKey, by: SentRequest, now: datetime) -> None:
        for limit in self._limits:
            is_known = limit.name == key.name and limit.scope in (None, key.scope) and limit.since_seq <= by.read_seq
            if is_known and now < limit.until:
                self._breaks(f"P4: asked although the provider wishes to be left alone until {limit.until}")

    def _check_new_secret(self, name: ConnectionName, secret: str, now: datetime) -> None:
        """A new secret is tried behind a failure, and not more often than an account bears."""
        tried = self._new_secrets[name]
        tried.setdefault(secret, now)
        if sum(1 for at in tried.values() if now - at < NEW_SECRETS_TIME) > MOST_NEW_SECRETS:
            self._breaks(f"P4: more than {MOST_NEW_SECRETS} new secrets were tried in an hour")
