"""Checks an operation that has ended: what it returned, raised and did."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.component.state_machine.history import host_in
from tests.component.state_machine.servers import IssuedByServer
from tests.component.state_machine.stage import Operation
from token_broker.core.names import fingerprint
from token_broker.core.records import TokenRecord
from token_broker.errors import (
    BrokerError,
    BrokerUnavailable,
    ConnectionSuspended,
    ConsentRequired,
    UnknownConnection,
)
from token_broker.ports import StoredSettings
from token_broker.service import PurgeResult, TokenResponse

if TYPE_CHECKING:
    from tests.component.state_machine.base import Base

MEMORY_TIME = timedelta(seconds=30)
MAX_OWN_TIME_S = 26.0
MIN_SPACING = timedelta(seconds=30)


def judge(machine: Base, operation: Operation, known_seq: int) -> None:
    """Adds to the machine's broken promises. `known_seq`: when the instance had last read the connection before."""
    _judge_ending(machine, operation)
    if isinstance(operation.result, TokenResponse):
        _judge_response(machine, operation, operation.result)
        _judge_settings(machine, operation, operation.result, known_seq)
        _judge_stale(machine, operation, operation.result)
    elif operation.kind == "get_token":
        _judge_error(machine, operation)
    elif isinstance(operation.result, PurgeResult):
        _judge_purge(machine, operation, operation.result)
        if operation.kind == "delete":
            _judge_delete(machine, operation)
    if not _disturbed(machine, operation):
        for token_id in operation.trace.received:
            if operation.kind != "trial" and token_id not in machine.promises.stored:
                machine.promises.to_revoke[token_id] = machine.server.issued[token_id].expires_at


def _judge_ending(machine: Base, operation: Operation) -> None:
    """Which errors an operation may raise, and how long it may take."""
    breaks = machine.promises.breaks
    error = operation.error
    if error is not None and not isinstance(error, BrokerError):
        breaks(f"{operation.kind} ended with {error!r}")
    if (
        operation.kind in ("renew", "keep_consent", "sweep")
        and error is not None
        and not isinstance(error, BrokerUnavailable)
    ):
        breaks(f"{operation.kind} raised {error!r}")
    if operation.own_time_s > MAX_OWN_TIME_S:
        breaks(f"{operation.kind} took {operation.own_time_s} s and {operation.calls} calls")
    undisturbed = not _was_paused(machine, operation, 1) and not _disturbed(machine, operation)
    if isinstance(error, BrokerUnavailable) and undisturbed and not _remembers_our_failure(operation):
        breaks(f"{operation.kind} raised BrokerUnavailable while all services of ours were up")


def _disturbed(machine: Base, operation: Operation) -> bool:
    return operation.trace.faulted or bool(machine.world.faults.down)


def _was_paused(machine: Base, operation: Operation, tolerance_s: float = 0) -> bool:
    own_time = timedelta(seconds=operation.own_time_s + tolerance_s)
    return machine.world.clock() - operation.started_at > own_time


def _remembers_our_failure(operation: Operation) -> bool:
    """Whether an earlier failure of our own services was still cooling down when the operation began."""
    record = operation.trace.record
    failure = record.failure if record is not None else None
    return failure is not None and failure.code == BrokerUnavailable.code and failure.retry_at > operation.started_at


# ---------------------------------------------------------------------- tokens
def _judge_response(machine: Base, operation: Operation, response: TokenResponse) -> None:
    breaks = machine.promises.breaks
    now, token = machine.world.clock(), response.token
    issued = machine.server.issued[token.token_id]
    # A server that always tells the full lifetime misleads a broker that does not know the token yet.
    expires_at = token.expires_at if machine.case.traits.tells_full_lifetime else issued.expires_at
    if token.expires_at <= now or expires_at <= now:
        breaks(f"P2: an expired token from {response.source}")
    _judge_lifetime(machine, operation, response)
    if token.expires_at > expires_at:
        breaks("P2: a token expires earlier than the response says")
    if fingerprint(response.access_token) != token.token_id:
        breaks("P7: another token than the one that was decided on")
    if issued.client != machine.world.client(response.connection.name):
        breaks("P7: a token of another account")
    if issued.host != urlsplit(response.connection.endpoints.token).netloc:
        breaks(f"P8: a token of {issued.host} under settings that name another host, from {response.source}")
    if not _disturbed(machine, operation):
        _judge_dropped(machine, operation, response, issued)


def _judge_dropped(machine: Base, operation: Operation, response: TokenResponse, issued: IssuedByServer) -> None:
    """A purged or revoked token is not returned for longer than 30 s."""
    breaks = machine.promises.breaks
    purge = machine.promises.purged_at.get(response.token.token_id)
    if purge is not None and issued.times_issued == 1:
        read_later = response.source == "table" and operation.trace.read_seq > purge[0]
        remembered = response.source == "memory" and response.now - purge[1] > MEMORY_TIME
        if read_later or remembered:
            breaks(f"a purged token came from {response.source}")
    if issued.revoked_because == "revoked by us" and issued.revoked_at is not None:
        late = response.now - issued.revoked_at > MEMORY_TIME
        if late and machine.case.traits.reissue_window_s is None:
            breaks(f"a token that we had revoked came from {response.source}")


def _judge_lifetime(machine: Base, operation: Operation, response: TokenResponse) -> None:
    """A token shorter than min_ttl comes with a warning, and only where no longer one can be had."""
    if operation.min_ttl_s is None or response.token.remaining(response.now) >= timedelta(seconds=operation.min_ttl_s):
        return
    breaks = machine.promises.breaks
    token, trace = response.token, operation.trace
    # A slow port call makes a token shorter than it was when it was decided on.
    was_paused = _was_paused(machine, operation)
    if "min_ttl_unmet" not in response.warnings and not was_paused:
        breaks(f"P2: a token shorter than min_ttl from {response.source}, without a warning")
    record, server = trace.record, machine.server
    if response.source != "table" or record is None or trace.met or record.failures() or record.lease:
        return
    window_s = server.traits.reissue_window_s
    reissued = window_s is not None and token.remaining(response.now) > timedelta(seconds=window_s)
    early = response.now - token.issued_at < MIN_SPACING or reissued
    can_be_had = timedelta(seconds=operation.min_ttl_s) <= token.lifetime and not early
    if can_be_had and not _disturbed(machine, operation) and not was_paused and machine.case.limit is None:
        breaks("P2: a token shorter than min_ttl while a longer one could be had")


def _judge_settings(machine: Base, operation: Operation, response: TokenResponse, known_seq: int) -> None:
    """New settings apply within 30 s, and at once in an instance that has read them."""
    breaks, name = machine.promises.breaks, response.connection.name
    if response.connection.suspended:
        breaks(f"P9: a token of a suspended connection from {response.source}")
    end = machine.promises.history.end_of(name, response.connection.version)
    if end is None:
        return
    read_seq = known_seq if response.source == "memory" else operation.trace.read_seq
    if end.seq < read_seq:
        breaks(f"P9: a token from {response.source} under settings that this instance knew to be replaced")
    if response.source == "memory" and response.now - end.at > MEMORY_TIME and not _disturbed(machine, operation):
        breaks("P9: a token from memory under settings that were replaced more than 30 s ago")


def _judge_stale(machine: Base, operation: Operation, response: TokenResponse) -> None:
    """A token of other settings, or from before a change, is served only while no new one can be had."""
    record, trace = operation.trace.record, operation.trace
    if response.source != "table" or record is None or record.lease is not None or trace.met is not None:
        return
    other_settings = response.token.settings_digest != response.connection.settings_digest
    is_stale = other_settings or record.stale_at is not None
    if is_stale and "renewal_failing" not in response.warnings and not _was_paused(machine, operation):
        machine.promises.breaks("P9: a stale token was served while a new one could be had")


# ---------------------------------------------------------------------- errors
def _judge_error(machine: Base, operation: Operation) -> None:
    """A caller gets an error only if there is no valid token and there is a reason why none could be acquired."""
    breaks = machine.promises.breaks
    error, trace = operation.error, operation.trace
    if isinstance(error, BrokerUnavailable) or trace.record is None or trace.faulted or machine.world.faults.down:
        return
    word = type(error).__name__
    if trace.settings is None or trace.settings.settings.get("suspended"):
        if not isinstance(error, (ConnectionSuspended, UnknownConnection)):
            breaks(f"{word} for a connection that is suspended or deleted")
        return
    if _has_token(machine, trace.record, trace.settings):
        breaks(f"P4: {word} although there was a valid token")
    elif not _has_reason(machine, operation, trace.record):
        breaks(f"{word} without a reason why no token could be acquired")


def _has_token(machine: Base, record: TokenRecord, settings: StoredSettings) -> bool:
    token = record.live_token(machine.world.clock())
    if token is None or token.token_id in machine.promises.unreadable:
        return False
    return machine.server.issued[token.token_id].host == host_in(settings)


def _has_reason(machine: Base, operation: Operation, record: TokenRecord) -> bool:
    trace = operation.trace
    met_trouble = trace.met not in (None, "ok")
    was_limited = record.failures() or record.health.unresolved_logins or machine.case.limit
    has_company = record.lease is not None or machine.stage.waiting or _was_paused(machine, operation)
    no_secret = machine.world.secrets.read(record.key.name) is None
    of_consent = machine.case.traits.consent and _has_reason_of_consent(machine, operation, record)
    return bool(met_trouble or was_limited or has_company or no_secret or of_consent)


def _has_reason_of_consent(machine: Base, operation: Operation, record: TokenRecord) -> bool:
    """A person is needed only where the vendor's rule allows no resend. Somebody else may hold the consent's lease."""
    name = record.key.name
    if isinstance(operation.error, ConsentRequired):
        return machine.world.needs_person(name)
    return machine.world.consents.read(name).leased(machine.world.clock())


# ---------------------------------------------------------------------- purges
def _judge_purge(machine: Base, operation: Operation, purge: PurgeResult) -> None:
    """A DELETE names every token that is still valid, and calls no valid token revoked."""
    breaks, now, issued = machine.promises.breaks, machine.world.clock(), machine.server.issued
    named = {*purge.revoked, *(item.token_id for item in purge.not_revoked)}
    for token_id, expires_at in operation.trace.dropped.items():
        if token_id not in named and expires_at > now and issued[token_id].good(now) and not operation.trace.faulted:
            breaks(f"{operation.kind} did not name a token that is still valid")
    if any(issued[token_id].good(now) for token_id in purge.revoked):
        breaks(f"{operation.kind} called a token revoked that is still valid")


def _judge_delete(machine: Base, operation: Operation) -> None:
    """A connection that is created again finds no token of the deleted one."""
    for name in machine.names:
        if machine.world.connections.get(name) is not None:
            continue
        records = machine.world.tokens.items(name).records
        tokens = [record.token for record in records if record.token is not None]
        if any(token.issued_at < operation.started_at for token in tokens):
            machine.promises.breaks("a token was still stored after the DELETE of its connection")
