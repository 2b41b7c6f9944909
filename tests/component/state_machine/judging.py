"""What an operation that has ended must not have done."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from tests.component.state_machine.stage import Operation
from token_broker.broker import Handout
from token_broker.errors import BrokerError, BrokerUnavailable, ConnectionSuspended

if TYPE_CHECKING:
    from tests.component.state_machine.machine import BrokerMachine

MEMORY_TIME = timedelta(seconds=30)
LONGEST_S = 26.0
MOST_CALLS = 400
EARLY_SPACING = timedelta(seconds=30)


def judge(machine: BrokerMachine, operation: Operation) -> None:
    """Adds to the machine's broken promises."""
    breaks, error, seen = machine.promises.breaks, operation.error, operation.seen
    if error is not None and not isinstance(error, BrokerError):
        breaks(f"{operation.kind} ended with {error!r}")
    if operation.kind in ("renew", "sweep") and error is not None and not isinstance(error, BrokerUnavailable):
        breaks(f"{operation.kind} raised {error!r}")
    if operation.own_time_s > LONGEST_S or operation.calls > MOST_CALLS:
        breaks(f"{operation.kind} took {operation.own_time_s} s and {operation.calls} calls")
    stood_still = machine.world.clock() - operation.started_at > timedelta(seconds=operation.own_time_s + 1)
    if isinstance(error, BrokerUnavailable) and not stood_still and not _disturbed(machine, operation):
        breaks(f"{operation.kind} found our own services down while they were up")
    if operation.kind in ("ask", "report"):
        if isinstance(operation.result, Handout):
            _judge_handout(machine, operation, operation.result)
        elif operation.kind == "ask":
            _judge_refusal(machine, operation)
    if not _disturbed(machine, operation):
        machine.promises.watched_over.update(seen.fenced)


def _disturbed(machine: BrokerMachine, operation: Operation) -> bool:
    return operation.seen.faulted or bool(machine.world.faults.down)


def _judge_handout(machine: BrokerMachine, operation: Operation, handout: Handout) -> None:
    breaks, now, seen = machine.promises.breaks, machine.world.clock(), operation.seen
    token, issue = handout.token, machine.server.issues[handout.token.token_id]
    if token.expires_at <= now or issue.ends_at <= now:
        breaks(f"P2: an expired token from {handout.source}")
    _judge_length(machine, operation, handout)
    if token.expires_at > issue.ends_at:
        breaks("P2: a token was said to live longer than it does")
    purge = machine.promises.purged_at.get(token.token_id)
    read_later = purge is not None and handout.source == "table" and seen.read_seq > purge[0]
    if purge is not None and issue.issues == 1 and not _disturbed(machine, operation):
        remembered = handout.source == "memory" and handout.now - purge[1] > MEMORY_TIME
        if read_later or remembered:
            breaks(f"a purged token came from {handout.source}")
    if issue.ended == "revoked by us" and issue.ended_at is not None and not _disturbed(machine, operation):
        late = handout.now - issue.ended_at > MEMORY_TIME
        if late and machine.kind.manners.reissue_window_s is None:
            breaks(f"a token that we had revoked came from {handout.source}")


def _judge_length(machine: BrokerMachine, operation: Operation, handout: Handout) -> None:
    """A token that is too short says so, and comes only where no longer one could be had."""
    if operation.min_ttl_s is None or handout.token.left(handout.now) >= timedelta(seconds=operation.min_ttl_s):
        return
    breaks, token, seen = machine.promises.breaks, handout.token, operation.seen
    # A port call that takes its time makes a token shorter than it was when it was decided on.
    stood_still = machine.world.clock() - operation.started_at > timedelta(seconds=operation.own_time_s)
    if "min_ttl_unmet" not in handout.warnings and not stood_still:
        breaks(f"P2: a token shorter than min_ttl from {handout.source}, without a warning")
    record, server = seen.record, machine.server
    if handout.source != "table" or record is None or seen.requests or record.failures() or record.lease:
        return
    reissued_until = timedelta(seconds=server.manners.reissue_window_s or 0)
    early = handout.now - token.issued_at < EARLY_SPACING or (
        reissued_until and token.left(handout.now) > reissued_until
    )
    can_be_had = timedelta(seconds=operation.min_ttl_s) <= token.life and not early
    if can_be_had and not _disturbed(machine, operation) and not stood_still and machine.kind.limit is None:
        breaks("P2: a token shorter than min_ttl while a longer one could be had")


def _judge_refusal(machine: BrokerMachine, operation: Operation) -> None:
    """No outage, refusal or report takes a valid token away."""
    error, seen = operation.error, operation.seen
    if isinstance(error, (BrokerUnavailable, ConnectionSuspended)) or seen.record is None or seen.faulted:
        return
    token = seen.record.token
    if token is not None and token.alive(machine.world.clock()) and not machine.world.faults.down:
        machine.promises.breaks(f"P4: {type(error).__name__} although a token was there")
