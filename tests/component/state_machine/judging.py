"""What an operation that has ended must not have done."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.component.state_machine.history import host_in
from tests.component.state_machine.servers import Issue
from tests.component.state_machine.stage import Operation
from token_broker.core.names import fingerprint
from token_broker.core.records import TokenRecord
from token_broker.errors import BrokerError, BrokerUnavailable, ConnectionSuspended, UnknownConnection
from token_broker.ports import StoredSettings
from token_broker.service import PurgeResult, TokenResponse

if TYPE_CHECKING:
    from tests.component.state_machine.base import Base

MEMORY_TIME = timedelta(seconds=30)
LONGEST_S = 26.0
EARLY_SPACING = timedelta(seconds=30)


def judge(machine: Base, operation: Operation, known_seq: int) -> None:
    """Adds to the machine's broken promises. `known_seq`: when the instance had last read the connection before."""
    breaks, error, seen = machine.promises.breaks, operation.error, operation.seen
    if error is not None and not isinstance(error, BrokerError):
        breaks(f"{operation.kind} ended with {error!r}")
    if operation.kind in ("renew", "sweep") and error is not None and not isinstance(error, BrokerUnavailable):
        breaks(f"{operation.kind} raised {error!r}")
    if operation.own_time_s > LONGEST_S:
        breaks(f"{operation.kind} took {operation.own_time_s} s and {operation.calls} calls")
    if (
        isinstance(error, BrokerUnavailable)
        and not _stood_still(machine, operation, 1)
        and not _disturbed(machine, operation)
    ):
        breaks(f"{operation.kind} found our own services down while they were up")
    if isinstance(operation.result, TokenResponse):
        _judge_handout(machine, operation, operation.result)
        _judge_settings(machine, operation, operation.result, known_seq)
    elif operation.kind == "ask":
        _judge_refusal(machine, operation)
    elif isinstance(operation.result, PurgeResult):
        _judge_purge(machine, operation, operation.result)
        if operation.kind == "delete":
            _judge_delete(machine, operation)
    if not _disturbed(machine, operation):
        nobodys = {token_id: end for token_id, end in seen.fenced.items() if token_id not in machine.promises.stored}
        machine.promises.watched_over.update(nobodys)


def _disturbed(machine: Base, operation: Operation) -> bool:
    return operation.seen.faulted or bool(machine.world.faults.down)


def _stood_still(machine: Base, operation: Operation, slack_s: float = 0) -> bool:
    own_time = timedelta(seconds=operation.own_time_s + slack_s)
    return machine.world.clock() - operation.started_at > own_time


# ---------------------------------------------------------------------- tokens
def _judge_handout(machine: Base, operation: Operation, handout: TokenResponse) -> None:
    breaks, now = machine.promises.breaks, machine.world.clock()
    token, issue = handout.token, machine.server.issues[handout.token.token_id]
    if token.expires_at <= now or issue.ends_at <= now:
        breaks(f"P2: an expired token from {handout.source}")
    _judge_length(machine, operation, handout)
    if token.expires_at > issue.ends_at:
        breaks("P2: a token was said to live longer than it does")
    if fingerprint(handout.access_token) != token.token_id:
        breaks("P7: another token than the one that was decided on")
    if issue.client != machine.client(handout.connection.name):
        breaks("P7: a token of another account")
    if issue.host != urlsplit(handout.connection.endpoints.token).netloc:
        breaks(f"P8: a token of {issue.host} under settings that name another host, from {handout.source}")
    if not _disturbed(machine, operation):
        _judge_dropped(machine, operation, handout, issue)


def _judge_dropped(machine: Base, operation: Operation, handout: TokenResponse, issue: Issue) -> None:
    """What a purge took, or we had revoked, is gone within 30 s."""
    breaks, purge = machine.promises.breaks, machine.promises.purged_at.get(handout.token.token_id)
    if purge is not None and issue.issues == 1:
        read_later = handout.source == "table" and operation.seen.read_seq > purge[0]
        remembered = handout.source == "memory" and handout.now - purge[1] > MEMORY_TIME
        if read_later or remembered:
            breaks(f"a purged token came from {handout.source}")
    if issue.ended == "revoked by us" and issue.ended_at is not None:
        late = handout.now - issue.ended_at > MEMORY_TIME
        if late and machine.kind.manners.reissue_window_s is None:
            breaks(f"a token that we had revoked came from {handout.source}")


def _judge_length(machine: Base, operation: Operation, handout: TokenResponse) -> None:
    """A token that is too short says so, and comes only where no longer one could be had."""
    if operation.min_ttl_s is None or handout.token.remaining(handout.now) >= timedelta(seconds=operation.min_ttl_s):
        return
    breaks, token, seen = machine.promises.breaks, handout.token, operation.seen
    # A port call that takes its time makes a token shorter than it was when it was decided on.
    stood_still = _stood_still(machine, operation)
    if "min_ttl_unmet" not in handout.warnings and not stood_still:
        breaks(f"P2: a token shorter than min_ttl from {handout.source}, without a warning")
    record, server = seen.record, machine.server
    if handout.source != "table" or record is None or seen.met or record.failures() or record.lease:
        return
    reissued_until = timedelta(seconds=server.manners.reissue_window_s or 0)
    early = handout.now - token.issued_at < EARLY_SPACING or (
        reissued_until and token.remaining(handout.now) > reissued_until
    )
    can_be_had = timedelta(seconds=operation.min_ttl_s) <= token.lifetime and not early
    if can_be_had and not _disturbed(machine, operation) and not stood_still and machine.kind.limit is None:
        breaks("P2: a token shorter than min_ttl while a longer one could be had")


def _judge_settings(machine: Base, operation: Operation, handout: TokenResponse, known_seq: int) -> None:
    """Settings act within 30 s, and at once for who has read them."""
    breaks, name = machine.promises.breaks, handout.connection.name
    if handout.connection.suspended:
        breaks(f"P9: a token of a suspended connection from {handout.source}")
    end = machine.promises.history.end_of(name, handout.connection.version)
    if end is None:
        return
    read_seq = known_seq if handout.source == "memory" else operation.seen.read_seq
    if end.seq < read_seq:
        breaks(f"P9: a token from {handout.source} under settings that this instance had seen replaced")
    if handout.source == "memory" and handout.now - end.at > MEMORY_TIME and not _disturbed(machine, operation):
        breaks("P9: a token from memory under settings that ended more than 30 s ago")


# ---------------------------------------------------------------------- refusals
def _judge_refusal(machine: Base, operation: Operation) -> None:
    """No outage, refusal or report takes a valid token away; where nothing stands in the way, there is a token."""
    breaks, error, seen = machine.promises.breaks, operation.error, operation.seen
    if isinstance(error, BrokerUnavailable) or seen.record is None or seen.faulted or machine.world.faults.down:
        return
    word = type(error).__name__
    if seen.settings is None or seen.settings.settings.get("suspended"):
        if not isinstance(error, (ConnectionSuspended, UnknownConnection)):
            breaks(f"{word} for a connection that is suspended or gone")
        return
    if _has_token(machine, seen.record, seen.settings):
        breaks(f"P4: {word} although a token was there")
    elif not _is_in_the_way(machine, operation, seen.record):
        breaks(f"{word} although nothing stood in the way of a token")


def _has_token(machine: Base, record: TokenRecord, settings: StoredSettings) -> bool:
    token = record.token
    if token is None or not token.alive(machine.world.clock()) or token.token_id in machine.promises.unreadable:
        return False
    return machine.server.issues[token.token_id].host == host_in(settings)


def _is_in_the_way(machine: Base, operation: Operation, record: TokenRecord) -> bool:
    seen = operation.seen
    met_trouble = (
        seen.met not in (None, "ok") or record.failures() or record.health.unresolved_logins or machine.kind.limit
    )
    has_company = record.lease is not None or machine.stage.waiting or _stood_still(machine, operation)
    return bool(met_trouble or has_company or machine.world.secrets.read(record.key.name) is None)


# ---------------------------------------------------------------------- purges
def _judge_purge(machine: Base, operation: Operation, purge: PurgeResult) -> None:
    """A DELETE is silent about no token that lives, and says of none that it ended which did not."""
    breaks, now, issues = machine.promises.breaks, machine.world.clock(), machine.server.issues
    told = {*purge.revoked, *(item.token_id for item in purge.not_revoked)}
    for token_id, expires_at in operation.seen.dropped.items():
        if token_id not in told and expires_at > now and issues[token_id].good(now) and not operation.seen.faulted:
            breaks(f"{operation.kind} said nothing of a token that lives on")
    if any(issues[token_id].good(now) for token_id in purge.revoked):
        breaks(f"{operation.kind} called a token revoked that lives")


def _judge_delete(machine: Base, operation: Operation) -> None:
    """A connection that is made anew finds nothing of the old one."""
    for name in machine.names:
        if machine.world.connections.get(name) is not None:
            continue
        tokens = [record.token for record in machine.world.tokens.records(name) if record.token is not None]
        if any(token.issued_at < operation.started_at for token in tokens):
            machine.promises.breaks("a token outlived the DELETE of its connection")
