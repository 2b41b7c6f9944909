"""P12: from the state that a machine has reached, everything recovers by itself once nothing is wrong any more.

Checked in copies of the world after each step. In a copy all processes are gone and the queue is empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.component.state_machine.cooldowns import MAX_NEW_SECRETS, REFUSED_COOLDOWNS
from tests.component.state_machine.logins import MAX_UNRESOLVED
from tests.component.state_machine.watched import secret_value
from tests.component.state_machine.world import MachineWorld
from token_broker.core.connections import settings_digest
from token_broker.core.health import ConnectionHealth
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import Token, TokenRecord
from token_broker.core.schedule import KEEP, LOOK_AGAIN, SWEEP_INTERVAL, is_kept_warm
from token_broker.errors import BrokerError
from token_broker.ports import StoredSettings
from token_broker.service import TokenResponse

if TYPE_CHECKING:
    from tests.component.state_machine.base import Base

# How long a caller waits at most: a lease, the longest cooldown of an outage, and a full budget or report bucket.
CALLER_TIME = timedelta(seconds=18.5) + timedelta(minutes=5) + timedelta(minutes=1)
# How long a key that is kept warm waits for the sweep at most: a lost claim ends, the key is looked at, a worker comes.
SWEEP_TIME = LOOK_AGAIN + 5 * SWEEP_INTERVAL
# A caller asks again at least this often. A changed secret is looked up every 30 s.
PATIENCE = timedelta(seconds=31)
SWEEP_DEADLINE = timedelta(seconds=50)


def check_schedule(machine: Base) -> Iterator[str]:
    """Every key that is to be kept warm is in the due index, and no item is deleted while it is needed."""
    table, now = machine.world.table, machine.world.clock()
    for record in table.records.values():
        if record.due_at is not None and record.delete_at is not None and record.delete_at < record.due_at + KEEP:
            yield f"the item of {record.key} can be deleted at {record.delete_at}, but is due at {record.due_at}"
        if record.keep_warm == "always" and record.delete_at is not None:
            yield f"the item of {record.key} can be deleted, but is always kept warm"
    for name in machine.names:
        stored = machine.world.connections.get(name)
        if stored is None or stored.version not in machine.applied:
            continue
        for record in _warm_records(machine.world, stored, now):
            if record.due_at is None:
                yield f"{record.key} is to be kept warm, but is not in the due index"
        for retired in table.retired[name].values():
            if retired.revoke and retired.due_at is None:
                yield f"{retired.token_id} is to be revoked, but is not in the due index"


def check_recovery(machine: Base, *, with_event: bool, sweep_alone: bool) -> Iterator[str]:
    """All is mended in a copy. Then every caller gets a token, or (`sweep_alone`) every key that is kept warm has one.

    `with_event`: AWS tells that the secret changed, late but in the end.
    """
    world = machine.world.copy()
    told = {name: _mend(machine, world, name, with_event=with_event) for name in machine.names}
    for name in machine.names:
        if sweep_alone:
            yield from _sweep_recovers(world, name, must_be_new=told[name])
        else:
            for scope in machine.case.scopes:
                yield from _caller_recovers(world, name, scope, must_be_new=told[name])
    yield from (f"in recovery: {what}" for what in world.promises.broken)


def _mend(machine: Base, world: MachineWorld, name: ConnectionName, *, with_event: bool) -> bool:
    """Makes settings and secret right, and changes no more than that. Returns whether the broker knows the secret.

    A secret gets another version only if the current one is wrong or was refused.
    """
    broker = world.fresh_instance()
    stored = world.connections.get(name)
    told = machine.told[name]
    if stored is None or stored.settings.get("suspended") or stored.version not in machine.applied:
        # A PUT that did not succeed is repeated as it was.
        body = dict(stored.settings) if stored is not None else machine.case.body()
        if body.pop("suspended", False):
            told = machine.secret_version(name)
        _run(world, "put", lambda: broker.connections.put(name, body, expected=None, absent=False))
        stored = world.connections.get(name)
    assert stored is not None
    if machine.case.traits.consent and world.needs_person(name):
        world.consent(name)
        world.new_secret(name, is_right=True)
    secret = world.secrets.read(name)
    accepted = secret is not None and world.server.accepts(world.client(name), secret_value(secret))
    if secret is None or not accepted or _is_refused(world, stored, secret.version):
        world.new_secret(name, is_right=True)
    version = world.secrets.version(name)
    if with_event and told != version:
        _run(world, "secret_changed", lambda: broker.secret_changed(name))
        told = version
    return told == version


def _is_refused(world: MachineWorld, stored: StoredSettings, version: str) -> bool:
    failures = [failure for record in world.tokens.items(stored.name).records for failure in record.failures()]
    digest = settings_digest(stored.settings)
    return any(
        failure.refused and failure.secret_version == version and failure.settings_digest == digest
        for failure in failures
    )


def _run(world: MachineWorld, kind: str, call: Any, *, rejected: str | None = None) -> Any:
    """An operation's result or error."""
    operation = world.stage.start(kind, call, None, rejected=rejected)
    if operation.error is not None and not isinstance(operation.error, BrokerError):
        raise operation.error
    return operation.result if operation.error is None else operation.error


# ---------------------------------------------------------------------- callers
def _caller_recovers(
    world: MachineWorld, name: ConnectionName, scope: str | None, *, must_be_new: bool
) -> Iterator[str]:
    broker, rejected, result = world.fresh_instance(), None, None
    end = world.clock() + CALLER_TIME + _extra_time(world, name)
    while world.clock() <= end:
        kind = "get_token" if rejected is None else "report"
        get = partial(world.get_token, broker, name, scope=scope, rejected=rejected)
        result = _run(world, kind, get, rejected=rejected)
        wait = PATIENCE
        if isinstance(result, TokenResponse):
            is_good = world.server.good(result.access_token)
            rejected = None if is_good else result.token.token_id
            if is_good and _is_current(world, result.token, name, must_be_new=must_be_new):
                return
            wait = PATIENCE if is_good else timedelta()
        elif isinstance(result, BrokerError) and result.retry_after is not None:
            wait = min(result.retry_after, PATIENCE)
        world.clock.advance(max(wait.total_seconds(), 0.1))
    yield f"a caller of {name} {scope} still has no current token: {result!r}"


def _is_current(world: MachineWorld, token: Token, name: ConnectionName, *, must_be_new: bool) -> bool:
    stored = world.connections.get(name)
    is_of_secret = token.secret_version == world.secrets.version(name)
    return (
        stored is not None
        and token.settings_digest == settings_digest(stored.settings)
        and (is_of_secret or not must_be_new)
    )


def _extra_time(world: MachineWorld, name: ConnectionName) -> timedelta:
    """What else may hold back a request: three new secrets within an hour, or logins whose outcome is unknown."""
    health = world.table.health.get(name, ConnectionHealth())
    if len(health.recent_versions(world.clock())) >= MAX_NEW_SECRETS:
        return timedelta(hours=1)
    if health.unresolved_logins < MAX_UNRESOLVED:
        return timedelta()
    # The next request counts as one more refusal of this secret, and its cooldown follows.
    failure = health.failure
    is_known = failure is not None and failure.refused and failure.secret_version == world.secrets.version(name)
    refusals = failure.count if failure is not None and is_known else 0
    return REFUSED_COOLDOWNS[min(refusals, len(REFUSED_COOLDOWNS) - 1)]


# ---------------------------------------------------------------------- the sweep
def _warm_records(world: MachineWorld, stored: StoredSettings, now: datetime) -> list[TokenRecord]:
    """The keys of a connection that its settings keep warm."""
    keep_warm = stored.settings.get("keep_warm", "used")
    if stored.settings.get("suspended"):
        return []
    records = list(world.tokens.items(stored.name).records)
    own_key = TokenKey(stored.name, stored.settings.get("scope", ""))
    if keep_warm == "always" and all(record.key != own_key for record in records):
        records.append(TokenRecord(own_key))
    return [record for record in records if is_kept_warm(replace(record, keep_warm=keep_warm), now)]


def _sweep_recovers(world: MachineWorld, name: ConnectionName, *, must_be_new: bool) -> Iterator[str]:
    """The sweep and its worker alone. Nobody asks for a token."""
    stored = world.connections.get(name)
    assert stored is not None
    start = world.clock()
    # A key that met the limit of new secrets is left alone until then, even if another key has a token meanwhile.
    deferred = [record.deferred_until for record in world.tokens.items(name).records if record.deferred_until]
    end = max([start, *deferred]) + SWEEP_TIME + _extra_time(world, name)
    broker = world.fresh_instance()
    while True:
        left = [
            record
            for record in _warm_records(world, stored, end)
            if not _is_warm(world, record, must_be_new=must_be_new)
        ]
        if not left or world.clock() > end:
            break
        start = world.clock()
        _run(world, "sweep", partial(broker.sweep, scheduled_at=start, deadline=start + SWEEP_DEADLINE))
        for message in sorted(world.queue.take(), key=lambda message: message.delay):
            world.clock.advance(to=start + message.delay)
            kind = "renew" if message.scope_id is not None else "keep_consent"
            _run(world, kind, partial(broker.renew, message.name, message.scope_id, message.token_id))
        world.clock.advance(to=start + SWEEP_INTERVAL)
    yield from (f"the sweep alone brings no current token for {record.key}: {record}" for record in left)


def _is_warm(world: MachineWorld, record: TokenRecord, *, must_be_new: bool) -> bool:
    token = record.live_token(world.clock())
    return token is not None and _is_current(world, token, record.key.name, must_be_new=must_be_new)
