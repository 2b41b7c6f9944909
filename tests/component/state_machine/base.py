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
from tests.component.state_machine.stage import Operation, Stage
from tests.component.state_machine.world import MachineWorld, ProviderCase
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.service import Broker, TokenResponse

INSTANCES = 3
MAX_OPERATIONS = 4
PORTS = ("tokens", "connections", "secrets", "sealer", "queue")
# How many port calls an operation makes before it pauses; None: it runs to the end.
HOPS = st.one_of(st.none(), st.integers(1, 12))
SOME_HOPS = st.integers(1, 10)
# Mostly the first one, so that operations compete for it.
WHICH = st.sampled_from([0, 0, 0, 1, 2])
DEFAULT_MIN_TTL_S = 30
LEASE_EXPIRED_S = 18.5


class Base(RuleBasedStateMachine):
    """Several instances over one world. Without rules."""

    case: ProviderCase

    def __init__(self) -> None:
        super().__init__()
        case = self.case
        self.world = MachineWorld(lambda world: Stage(world.clock), case)
        self.stage = self.world.stage
        self.server = self.world.server
        self.promises = self.world.promises
        self.server.lifetime_s = case.lifetimes_s[0]
        self.instances = [self.world.fresh_instance() for _ in range(INSTANCES)]
        self.running_at: dict[Operation, int] = {}
        # When each instance last read a connection.
        self.known: list[dict[ConnectionName, int]] = [defaultdict(int) for _ in range(INSTANCES)]
        self.held: list[TokenResponse] = []
        self.secrets = 0
        self.last_instance = -1
        self.names = [ConnectionName(case.provider, connection) for connection in case.connections]
        for name in self.names:
            self.world.settings(name, **case.settings)
            self.new_secret(name, is_right=True)

    def name(self, which: int) -> ConnectionName:
        return self.names[which % len(self.names)]

    def key(self, which: int, scope: int) -> TokenKey:
        text = self.case.scopes[scope % len(self.case.scopes)]
        return TokenKey(self.name(which), text or self.case.settings.get("scope", ""))

    # ------------------------------------------------------------------ operations
    def can_start(self) -> bool:
        return len(self.stage.waiting) < MAX_OPERATIONS and self._idle() is not None

    def _idle(self) -> int | None:
        busy = {place for operation, place in self.running_at.items() if not operation.ended}
        turns = (place % INSTANCES for place in range(self.last_instance + 1, self.last_instance + 1 + INSTANCES))
        return next((place for place in turns if place not in busy), None)

    def start(
        self, kind: str, call: Callable[[Broker], Any], hops: int | None, *, min_ttl_s: float | None = None
    ) -> Operation:
        place = self._idle()
        assert place is not None
        self.last_instance = place
        broker = self.instances[place]
        operation = self.stage.start(kind, lambda: call(broker), hops, min_ttl_s=min_ttl_s)
        self.running_at[operation] = place
        self._settle(operation)
        return operation

    def go_on_with(self, operation: Operation, hops: int | None) -> None:
        self.stage.go_on(operation, hops)
        self._settle(operation)

    def kill(self, operation: Operation) -> None:
        self.stage.kill(operation)
        self._settle(operation)

    def _settle(self, operation: Operation) -> None:
        if not operation.ended:
            return
        place = self.running_at.pop(operation)
        if operation.killed:
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

    # ------------------------------------------------------------------ what callers and the worker do
    def get_token_of(
        self, name: ConnectionName, scope: str | None, hops: int | None, *, min_ttl: float | None = None
    ) -> Operation:
        """A caller's GET; scope None: the connection's own."""
        wanted = DEFAULT_MIN_TTL_S if min_ttl is None else min_ttl
        call = partial(self.world.get_token, name=name, scope=scope, min_ttl=min_ttl)
        return self.start("get_token", call, hops, min_ttl_s=wanted)

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

    def advance_to_expiry(self, name: ConnectionName, before_s: float) -> None:
        live = [record.token for record in self.world.tokens.records(name) if record.token is not None]
        if live:
            self.world.clock.advance(to=live[-1].expires_at - timedelta(seconds=before_s))

    # ------------------------------------------------------------------ what owners do
    def client(self, name: ConnectionName) -> str:
        return f"client-{name.connection}"

    def new_secret(self, name: ConnectionName, *, is_right: bool, stage: str = "AWSCURRENT") -> None:
        self.secrets += 1
        secret = f"secret-{self.secrets}"
        client = self.client(name)
        names = ("username", "password") if self.case.traits.login else ("client_id", "client_secret")
        self.world.secrets.put(name, dict(zip(names, (client, secret), strict=True)), stage=stage)
        if is_right:
            self.server.accepted[client] = secret

    def bring_up(self) -> None:
        for port in PORTS:
            self.world.faults.bring_up(port)
