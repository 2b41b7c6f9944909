"""What all rules use: the instances, and how an operation starts, goes on and ends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from tests.component.state_machine.judging import judge
from tests.component.state_machine.servers import TROUBLES
from tests.component.state_machine.stage import Operation
from tests.component.state_machine.world import MachineWorld, ProviderCase
from tests.fakes.world import PORTS
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.service import Broker, TokenResponse
from token_broker.service.connections import SettingsChange

INSTANCES = 3
MAX_OPERATIONS = 4
# How many port calls an operation makes before it pauses; None: it runs to the end.
HOPS = st.one_of(st.none(), st.integers(1, 12))
SOME_HOPS = st.integers(1, 10)
# Mostly the first one, so that operations compete for it.
WHICH = st.sampled_from([0, 0, 0, 1, 2])
EXPIRED = st.sampled_from([False, False, True])
# What the provider does with the next request instead of a regular response.
TROUBLE = st.sampled_from([None, None, None, None, None, "refused", *TROUBLES])
DEFAULT_MIN_TTL_S = 30
# Lambda ends a function at its time-out. The worker relies on that for purges: it looks at a token to be revoked a
# minute after the purge stored it, and takes one that is still current for the remains of a purge that was killed.
FUNCTION_TIME_OUT = timedelta(seconds=28)
ENDED_BY_TIME_OUT = ("purge", "delete")
LEASE_EXPIRED_S = 18.5


class Base(RuleBasedStateMachine):
    """Several instances over one world. Without rules.

    `applied`: the versions of settings whose PUT succeeded. `told`: the version of each secret that an event told of.
    """

    case: ProviderCase

    def __init__(self) -> None:
        super().__init__()
        case = self.case
        self.world = MachineWorld(case)
        self.stage = self.world.stage
        self.server = self.world.server
        self.promises = self.world.promises
        self.instances = [self.world.fresh_instance() for _ in range(INSTANCES)]
        self.running_at: dict[Operation, int] = {}
        # When each instance last read a connection.
        self.known: list[dict[ConnectionName, int]] = [defaultdict(int) for _ in range(INSTANCES)]
        self.held: list[TokenResponse] = []
        self.applied: set[str] = set()
        self.told: dict[ConnectionName, str | None] = {}
        self.last_instance = -1
        self.names = [ConnectionName(case.provider, connection) for connection in case.connections]
        for name in self.names:
            self.applied.add(self.world.settings(name, **case.settings))
            self.world.new_secret(name, is_right=True)
            self.told[name] = self.secret_version(name)

    def name(self, which: int) -> ConnectionName:
        return self.names[which % len(self.names)]

    def key(self, which: int, scope: int) -> TokenKey:
        text = self.case.scopes[scope % len(self.case.scopes)]
        return TokenKey(self.name(which), text or self.case.settings.get("scope", ""))

    def secret_version(self, name: ConnectionName) -> str | None:
        return self.world.secrets.version(name)

    # ------------------------------------------------------------------ operations
    def can_start(self) -> bool:
        return len(self.stage.waiting) < MAX_OPERATIONS and self._idle() is not None

    def _idle(self) -> int | None:
        busy = {place for operation, place in self.running_at.items() if not operation.ended}
        turns = (place % INSTANCES for place in range(self.last_instance + 1, self.last_instance + 1 + INSTANCES))
        return next((place for place in turns if place not in busy), None)

    def start(
        self,
        kind: str,
        call: Callable[[Broker], Any],
        hops: int | None,
        *,
        min_ttl_s: float | None = None,
        rejected: str | None = None,
        then: Callable[[Any], object] | None = None,
    ) -> Operation:
        """Starts an operation. `then`: called with its result if it succeeds."""
        place = self._idle()
        assert place is not None
        self.last_instance = place
        broker = self.instances[place]
        operation = self.stage.start(kind, lambda: call(broker), hops, min_ttl_s=min_ttl_s, rejected=rejected)
        operation.then = then
        self.running_at[operation] = place
        self._settle(operation)
        return operation

    def go_on_with(self, operation: Operation, hops: int | None) -> None:
        if operation.kind in ENDED_BY_TIME_OUT and self.world.clock() - operation.started_at > FUNCTION_TIME_OUT:
            self.kill(operation)
            return
        self.stage.go_on(operation, hops)
        self._settle(operation)

    def kill(self, operation: Operation) -> None:
        self.stage.kill(operation)
        self._settle(operation)

    def _settle(self, operation: Operation) -> None:
        if not operation.ended:
            return
        place = self.running_at.pop(operation)
        if operation.dead:
            self.instances[place] = self.world.fresh_instance()
            self.known[place] = defaultdict(int)
            return
        trace = operation.trace
        response = operation.result
        name = trace.record.key.name if trace.record is not None else None
        if isinstance(response, TokenResponse):
            name = response.connection.name
            self.held = [*self.held[-7:], response]
        judge(self, operation, self.known[place][name] if name is not None else 0)
        if name is not None and operation.kind in ("get_token", "report"):
            self.known[place][name] = max(self.known[place][name], trace.read_seq)
        if operation.then is not None and operation.error is None:
            operation.then(operation.result)

    # ------------------------------------------------------------------ what callers and the worker do
    def get_token_of(
        self,
        name: ConnectionName,
        scope: str | None,
        hops: int | None,
        *,
        min_ttl: float | None = None,
        rejected: str | None = None,
    ) -> Operation:
        """A caller's GET; scope None: the connection's own. `rejected`: the token that it reports."""
        kind = "get_token" if rejected is None else "report"
        wanted = DEFAULT_MIN_TTL_S if min_ttl is None else min_ttl
        call = partial(self.world.get_token, name=name, scope=scope, min_ttl=min_ttl, rejected=rejected)
        return self.start(kind, call, hops, min_ttl_s=wanted, rejected=rejected)

    def get_one(self, which: int, scope: int, hops: int | None, *, min_ttl: float | None = None) -> Operation:
        text = self.case.scopes[scope % len(self.case.scopes)]
        return self.get_token_of(self.name(which), text, hops, min_ttl=min_ttl)

    def get_everywhere(self, which: int, scope: int) -> None:
        """At every instance that is idle."""
        for _ in range(INSTANCES):
            if self.can_start():
                self.get_one(which, scope, None)

    def renew(self, key: TokenKey, hops: int | None) -> Operation:
        return self.start("renew", lambda broker: broker.renew(key.name, key.scope_id), hops)

    def put(self, name: ConnectionName, change: str, keep_warm: str, hops: int | None) -> None:
        """The owner changes settings: `change` names what, beside keep_warm."""
        changes: dict[str, dict[str, Any]] = {
            "none": {},
            "lifetime": {"lifetime_s": 900},
            "suspended": {"suspended": True},
            "other host": dict(self.case.other_host),
        }
        whole = self.case.body(keep_warm=keep_warm, **changes[change])
        before, version = self.world.connections.get(name), self.secret_version(name)
        resumes = before is not None and before.settings.get("suspended") and change != "suspended"

        def applied(change: SettingsChange) -> None:
            self.applied.add(change.connection.version)
            if resumes:
                self.told[name] = version

        self.start(
            "put",
            lambda broker: broker.connections.put(name, whole, expected=None, absent=False),
            hops,
            then=applied,
        )

    def send_event(self, name: ConnectionName, hops: int | None) -> Operation:
        """AWS tells that a secret changed."""
        version = self.secret_version(name)
        return self.start(
            "secret_changed",
            lambda broker: broker.secret_changed(name),
            hops,
            then=lambda _count: self.told.update({name: version}),
        )

    def advance_to_expiry(self, name: ConnectionName, before_s: float) -> None:
        live = [record.token for record in self.world.tokens.items(name).records if record.token is not None]
        if live:
            self.world.clock.advance(to=live[-1].expires_at - timedelta(seconds=before_s))

    def bring_up(self) -> None:
        for port in PORTS:
            self.world.faults.bring_up(port)
