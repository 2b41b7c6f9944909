"""P4: checks which failures are remembered, for how long nobody may ask the provider, and what clears a failure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tests.component.state_machine.servers import RETRY_AFTER_S, Received
from tests.component.state_machine.stage import Operation, Stage, Trace
from token_broker.core.connections import settings_digest
from token_broker.core.failures import Failure
from token_broker.core.names import ConnectionName, TokenKey

FIRST_REFUSED_COOLDOWN = timedelta(minutes=15)
REFUSED_COOLDOWNS = (FIRST_REFUSED_COOLDOWN, timedelta(hours=1), timedelta(hours=4), timedelta(hours=24))
RATE_LIMIT_COOLDOWN = timedelta(seconds=RETRY_AFTER_S)
OUTAGE_COOLDOWNS = tuple(timedelta(seconds=s) for s in (2, 30, 60, 120, 240, 300))
DOUBTED_COOLDOWN = timedelta(seconds=60)
OUTAGES = ("503", "html", "unreachable", "hang", "lost", "429")
REFUSALS = ("refused", "invalid_scope")
MAX_NEW_SECRETS = 3
# A new secret is counted before its request is sent, by up to the 12 s of an acquisition.
NEW_SECRETS_PERIOD = timedelta(hours=1) - timedelta(seconds=12)
# A connection and the secret that was sent.
Credentials = tuple[ConnectionName, str | None]


@dataclass(frozen=True)
class Cooldown:
    """The cooldown of a remembered failure. `scope` None: it holds for the whole connection.

    `refusals` and `outages`: how many in a row, this one included. `origin_seq`: when the refusal was met that an
    outage left stored.
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
class RateLimit:
    """A provider's request to slow down, for a connection or one of its scopes. It holds for every secret."""

    name: ConnectionName
    scope: str | None
    since_seq: int
    until: datetime


def digest_of(trace: Trace) -> str:
    """The digest of the settings that an operation read."""
    return settings_digest(trace.settings.settings) if trace.settings is not None else ""


def _counts_before(last: Cooldown | None, secret: str | None, digest: str) -> tuple[int, int]:
    """How many refusals and how many outages in a row come before the next failure.

    Outages after a refusal count in a row while the refusal is stored, which is for the same secret and settings.
    """
    if last is None:
        return 0, 0
    is_stored = not last.refused or (last.secret, last.settings_digest) == (secret, digest)
    return last.refusals if last.refused and last.secret == secret else 0, last.outages if is_stored else 0


class Cooldowns:
    """Records every failure that is stored and everything that clears one, and checks each request against them."""

    def __init__(self, stage: Stage, breaks: Callable[[str], object], *, login: bool) -> None:
        self._stage = stage
        self._breaks = breaks
        self._login = login
        self._cooldowns: list[Cooldown] = []
        self._rate_limits: list[RateLimit] = []
        self._hosts: dict[str, tuple[int, datetime]] = {}
        self._worked: set[Credentials] = set()
        self._doubted: set[Credentials] = set()
        self._new_secrets: dict[ConnectionName, dict[str, datetime]] = defaultdict(dict)

    # ------------------------------------------------------------------ what starts a cooldown
    def remembered(self, name: ConnectionName, scope: str | None, trace: Trace, failure: Failure) -> None:
        if failure.rate_limited:
            self._rate_limited(name, scope, trace, failure)
            return
        met_at = trace.met_at or failure.at
        secret = trace.secret or trace.read_secret
        digest = failure.settings_digest
        # An outage does not clear a refusal: the old refusal is stored again.
        is_new_refusal = failure.refused and failure.at >= met_at
        if trace.met in OUTAGES and is_new_refusal and not self._login:
            self._breaks(f"P4: an outage ({trace.met}) counted as a refusal")
        before = [
            cooldown
            for cooldown in self._cooldowns
            if (cooldown.name, cooldown.scope) == (name, scope) and cooldown.since_seq <= trace.read_seq
        ]
        last = before[-1] if before else None
        if not is_new_refusal:
            self._check_kept(last, failure, secret, digest)
        refusals, outages = _counts_before(last, secret, digest)
        refusals += is_new_refusal
        outages = 0 if is_new_refusal else outages + (trace.met in OUTAGES)
        least = self._least((name, secret), trace, refusals if is_new_refusal else 0, outages, refused=failure.refused)
        # A change of the settings ends a cooldown, even if they are changed back later. A new refusal replaces an
        # earlier outage, because a new secret clears it.
        self._cooldowns = [
            cooldown
            for cooldown in self._cooldowns
            if not (is_new_refusal and not cooldown.refused and (cooldown.name, cooldown.scope) == (name, scope))
            and (cooldown.name != name or cooldown.settings_digest == digest)
        ]
        is_kept = failure.refused and not is_new_refusal
        seq = self._stage.next_seq()
        refused_seqs = (cooldown.origin_seq for cooldown in before if cooldown.refused)
        origin_seq = max(refused_seqs, default=seq) if is_kept else seq
        until = met_at + least
        self._cooldowns.append(
            Cooldown(name, scope, seq, origin_seq, until, failure.refused, secret, digest, refusals, outages)
        )

    def _rate_limited(self, name: ConnectionName, scope: str | None, trace: Trace, failure: Failure) -> None:
        if trace.met != "429":
            self._breaks(f"P4: {trace.met} counted as a rate limit")
        known = [limit for limit in self._rate_limits if (limit.name, limit.scope) == (name, scope)]
        if any(limit.until > failure.retry_at for limit in known if limit.since_seq <= trace.read_seq):
            self._breaks("P4: a failure shortened the cooldown that the provider had asked for")
        until = (trace.met_at or failure.at) + RATE_LIMIT_COOLDOWN
        self._rate_limits.append(RateLimit(name, scope, self._stage.next_seq(), until))

    def _check_kept(self, last: Cooldown | None, failure: Failure, secret: str | None, digest: str) -> None:
        """An outage, in a trial too, neither clears a refusal nor shortens a cooldown."""
        if last is None or (last.secret, last.settings_digest) != (secret, digest):
            return
        if last.refused and not failure.refused:
            self._breaks("P4: an outage cleared a refusal")
        elif last.until > failure.retry_at:
            self._breaks("P4: a failure shortened the cooldown of another")

    def _least(
        self, credentials: Credentials, trace: Trace, refusals: int, outages: int, *, refused: bool
    ) -> timedelta:
        """The shortest cooldown that is allowed. `refused`: a refusal is stored, new or old."""
        if refusals:
            return REFUSED_COOLDOWNS[min(refusals, len(REFUSED_COOLDOWNS)) - 1]
        if trace.met in REFUSALS and not refused:
            # Unicommerce answers FAILED in an outage too. Credentials that worked before get one second chance.
            if not self._login or credentials in self._doubted or credentials not in self._worked:
                self._breaks("P4: a refusal counted as an outage")
            self._doubted.add(credentials)
            return DOUBTED_COOLDOWN
        return OUTAGE_COOLDOWNS[min(max(outages, 1), len(OUTAGE_COOLDOWNS)) - 1]

    def host_cools_down(self, host: str, until: datetime) -> None:
        self._hosts[host] = (self._stage.next_seq(), until)

    # ------------------------------------------------------------------ what ends a cooldown
    def worked(self, name: ConnectionName, trace: Trace) -> None:
        """A token was issued and stored: all failures that the operation knew of are cleared."""
        self._cooldowns = [
            cooldown for cooldown in self._cooldowns if cooldown.name != name or cooldown.origin_seq > trace.read_seq
        ]
        self._rate_limits = [
            limit for limit in self._rate_limits if limit.name != name or limit.since_seq > trace.read_seq
        ]
        self._worked.add((name, trace.secret))
        self._clear(name)

    def ended(self, name: ConnectionName) -> None:
        self._cooldowns = [cooldown for cooldown in self._cooldowns if cooldown.name != name]
        self._rate_limits = [limit for limit in self._rate_limits if limit.name != name]
        self._clear(name)

    def purged(self, key: TokenKey) -> None:
        place = (key.name, key.scope)
        self._cooldowns = [cooldown for cooldown in self._cooldowns if (cooldown.name, cooldown.scope) != place]
        self._rate_limits = [limit for limit in self._rate_limits if (limit.name, limit.scope) != place]

    def _clear(self, name: ConnectionName) -> None:
        self._doubted = {credentials for credentials in self._doubted if credentials[0] != name}
        self._new_secrets.pop(name, None)

    # ------------------------------------------------------------------ what a cooldown forbids
    def check(self, operation: Operation, key: TokenKey, received: Received) -> None:
        """A grant's request leaves the broker."""
        trace = operation.trace
        now = self._stage.clock()
        seq, until = self._hosts.get(received.host, (0, now))
        if seq < trace.lease_seq and now < until:
            self._breaks("P4: a request to a host during the host's cooldown")
        if operation.kind == "trial":
            return
        self._check_rate_limits(key, trace, now)
        secret = received.secret or trace.read_secret
        digest = digest_of(trace)
        known = [
            cooldown
            for cooldown in self._cooldowns
            if cooldown.name == key.name and cooldown.since_seq <= trace.read_seq
        ]
        failed = {cooldown.secret for cooldown in known if cooldown.scope is None}
        if failed and secret not in failed:
            self._check_new_secret(key.name, secret or "", now)
        for cooldown in known:
            if cooldown.scope not in (None, key.scope) or (cooldown.refused and cooldown.secret != secret):
                continue
            if cooldown.settings_digest != digest:
                continue
            if now < cooldown.until:
                self._breaks(f"P4: a {received.step} request during a cooldown until {cooldown.until}")
            elif cooldown.refused and operation.kind == "renew":
                self._breaks("P4: the sweep repeated a refused request")

    def _check_rate_limits(self, key: TokenKey, trace: Trace, now: datetime) -> None:
        for limit in self._rate_limits:
            is_known = limit.name == key.name and limit.scope in (None, key.scope) and limit.since_seq <= trace.read_seq
            if is_known and now < limit.until:
                self._breaks(f"P4: a request although the provider asked for none until {limit.until}")

    def _check_new_secret(self, name: ConnectionName, secret: str, now: datetime) -> None:
        """After a failure a new secret is used, but not more often than an account tolerates."""
        used = self._new_secrets[name]
        used.setdefault(secret, now)
        if sum(1 for at in used.values() if now - at < NEW_SECRETS_PERIOD) > MAX_NEW_SECRETS:
            self._breaks(f"P4: more than {MAX_NEW_SECRETS} new secrets were used in an hour")
