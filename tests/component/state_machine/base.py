"""What every rule stands on: the instances, who is at work, and how an operation starts, goes on and ends."""

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
from tests.component.state_machine.world import Kind, MachineWorld
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.service import Broker, TokenResponse

INSTANCES = 3
AT_ONCE = 4
PORTS = ("tokens", "connections", "vault", "sealer", "queue")
# How many port calls an operation passes before it stands still; None: to the end.
HOPS = st.one_of(st.none(), st.integers(1, 12))
SOME_HOPS = st.integers(1, 10)
# Mostly the first one, so that operations meet.
WHICH = st.sampled_from([0, 0, 0, 1, 2])
DEFAULT_MIN_TTL_S = 30
LEASE_OVER_S = 18.5


class Base(RuleBasedStateMachine):
    """Several instances over one world. Without rules."""

    kind: Kind

    def __init__(self) -> None:
        super().__init__()
        kind = self.kind
        self.world = MachineWorld(lambda world: Stage(world.clock), kind)
        self.stage, self.server, self.promises = self.world.stage, self.world.server, self.world.promises
        self.server.life_s = kind.lives[0]
        self.instances = [self.world.fresh_instance() for _ in range(INSTANCES)]
        self.at_work: dict[Operation, int] = {}
        # When each instance has last read which connection.
        self.known: list[dict[ConnectionName, int]] = [defaultdict(int) for _ in range(INSTANCES)]
        self.held: list[TokenResponse] = []
        self.secrets = 0
        self.last_place = -1
        self.names = [ConnectionName(kind.provider, connection) for connection in kind.connections]
        for name in self.names:
            self.world.settings(name, **kind.settings)
            self.new_secret(name, is_right=True)

    def name(self, which: int) -> ConnectionName:
        return self.names[which % len(self.names)]

    def key(self, which: int, scope: int) -> TokenKey:
        text = self.kind.scopes[scope % len(self.kind.scopes)]
        return TokenKey(self.name(which), text or self.kind.settings.get("scope", ""))

    # ------------------------------------------------------------------ operations
    def can_start(self) -> bool:
        return len(self.stage.waiting) < AT_ONCE and self._idle() is not None

    def _idle(self) -> int | None:
        busy = {place for operation, place in self.at_work.items() if not operation.ended}
        turns = (place % INSTANCES for place in range(self.last_place + 1, self.last_place + 1 + INSTANCES))
        return next((place for place in turns if place not in busy), None)

    def start(
        self, kind: str, call: Callable[[Broker], Any], hops: int | None, *, min_ttl_s: float | None = None
    ) -> Operation:
        place = self._idle()
        assert place is not None
        self.last_place, broker = place, self.instances[place]
        operation = self.stage.start(kind, lambda: call(broker), hops, min_ttl_s=min_ttl_s)
        self.at_work[operation] = place
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
        place = self.at_work.pop(operation)
        if operation.dead:
            self.instances[place], self.known[place] = self.world.fresh_instance(), defaultdict(int)
            return
        seen, handout = operation.seen, operation.result
        name = seen.record.key.name if seen.record is not None else None
        if isinstance(handout, TokenResponse):
            name = handout.connection.name
            self.held = [*self.held[-7:], handout]
        judge(self, operation, self.known[place][name] if name is not None else 0)
        if name is not None and operation.kind in ("ask", "report"):
            self.known[place][name] = max(self.known[place][name], seen.read_seq)

    # ------------------------------------------------------------------ what callers and the worker do
    def ask_for(
        self, name: ConnectionName, scope: str | None, hops: int | None, *, min_ttl: float | None = None
    ) -> Operation:
        """A caller's GET; scope None: the connection's own."""
        wanted = DEFAULT_MIN_TTL_S if min_ttl is None else min_ttl
        call = partial(self.world.ask, name=name, scope=scope, min_ttl=min_ttl)
        return self.start("ask", call, hops, min_ttl_s=wanted)

    def ask_as(self, which: int, scope: int, hops: int | None, *, min_ttl: float | None = None) -> Operation:
        text = self.kind.scopes[scope % len(self.kind.scopes)]
        return self.ask_for(self.name(which), text, hops, min_ttl=min_ttl)

    def ask_everywhere(self, which: int, scope: int) -> None:
        """At every instance that is free."""
        for _ in range(INSTANCES):
            if self.can_start():
                self.ask_as(which, scope, None)

    def renew(self, key: TokenKey, hops: int | None) -> Operation:
        return self.start("renew", lambda broker: broker.renew(key.name, key.sk), hops)

    def to_the_end_of_a_token(self, name: ConnectionName, before_s: float) -> None:
        live = [record.token for record in self.world.tokens.records(name) if record.token is not None]
        if live:
            self.world.clock.advance(to=live[-1].expires_at - timedelta(seconds=before_s))

    # ------------------------------------------------------------------ what owners do
    def client(self, name: ConnectionName) -> str:
        return f"client-{name.connection}"

    def new_secret(self, name: ConnectionName, *, is_right: bool, stage: str = "AWSCURRENT") -> None:
        self.secrets += 1
        secret, client = f"secret-{self.secrets}", self.client(name)
        names = ("username", "password") if self.kind.manners.login else ("client_id", "client_secret")
        self.world.secrets.put(name, dict(zip(names, (client, secret), strict=True)), stage=stage)
        if is_right:
            self.server.accepted[client] = secret

    def bring_up(self) -> None:
        for port in PORTS:
            self.world.faults.bring_up(port)
