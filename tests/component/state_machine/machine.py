"""The machine: several instances of the broker, one provider, and everything that can happen between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.component.state_machine.judging import judge
from tests.component.state_machine.promises import REFUSED_REST
from tests.component.state_machine.servers import TROUBLES
from tests.component.state_machine.stage import Operation, Stage
from tests.component.state_machine.world import Kind, MachineWorld
from tests.fakes import CALLER
from tests.fakes.world import SETTINGS
from token_broker.broker import Broker, Handout
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.sweep import sweep

INSTANCES = 3
AT_ONCE = 4
REQUEST_TIME = timedelta(seconds=26)
PORTS = ("tokens", "connections", "vault", "sealer", "queue")
# How many port calls an operation passes before it stands still; None: to the end.
HOPS = st.one_of(st.none(), st.integers(1, 12))
SOME_HOPS = st.integers(1, 10)
# Mostly the first one, so that operations meet.
WHICH = st.sampled_from([0, 0, 0, 1, 2])
MIN_TTL = st.sampled_from([None, None, 0, 20, 200, 3600])
DEEDS = st.sampled_from(
    ["purge", "purge", "trial", "trial", {}, {"lifetime_s": 900}, {"keep_warm": "always"}, {"suspended": True}]
)
DEFAULT_MIN_TTL_S = 30
OUTAGE_S = 20
LEASE_OVER_S = 18.5


class BrokerMachine(RuleBasedStateMachine):
    """Rules start operations, let them go on, kill them, and change the world meanwhile."""

    kind: Kind

    def __init__(self) -> None:
        super().__init__()
        kind = self.kind
        self.world = MachineWorld(lambda world: Stage(world.clock), kind)
        self.stage, self.server, self.promises = self.world.stage, self.world.server, self.world.promises
        self.server.life_s = kind.lives[0]
        self.instances = [self.world.fresh_instance() for _ in range(INSTANCES)]
        self.at_work: dict[Operation, int] = {}
        self.held: list[Handout] = []
        self.secrets = 0
        self.last_place = -1
        self.names = [ConnectionName(kind.provider, connection) for connection in kind.connections]
        for name in self.names:
            self.world.settings(name, **kind.settings)
            self._new_secret(name, is_right=True)

    # ------------------------------------------------------------------ callers and functions
    def _can_start(self) -> bool:
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

    def _settle(self, operation: Operation) -> None:
        if not operation.ended:
            return
        place = self.at_work.pop(operation)
        if operation.dead:
            self.instances[place] = self.world.fresh_instance()
            return
        judge(self, operation)
        if isinstance(operation.result, Handout):
            self.held = [*self.held[-7:], operation.result]

    def name(self, which: int) -> ConnectionName:
        return self.names[which % len(self.names)]

    @precondition(_can_start)
    @rule(which=WHICH, scope=WHICH, min_ttl=MIN_TTL)
    def ask(self, which: int, scope: int, min_ttl: float | None) -> None:
        self._ask(which, scope, min_ttl, None)

    @precondition(_can_start)
    @rule(which=WHICH, scope=WHICH, min_ttl=MIN_TTL, hops=SOME_HOPS)
    def ask_and_stand_still(self, which: int, scope: int, min_ttl: float | None, hops: int) -> None:
        self._ask(which, scope, min_ttl, hops)

    def _ask(self, which: int, scope: int, min_ttl: float | None, hops: int | None) -> None:
        name, text = self.name(which), self.kind.scopes[scope % len(self.kind.scopes)]
        wanted = DEFAULT_MIN_TTL_S if min_ttl is None else min_ttl
        call = partial(self.world.ask, name=name, scope=text, min_ttl=min_ttl)
        self.start("ask", call, hops, min_ttl_s=wanted)

    def _ask_for(self, key: TokenKey, hops: int | None) -> None:
        self.start("ask", lambda broker: self.world.ask(broker, key.name, scope=key.scope or None), hops)

    @precondition(lambda self: self._can_start() and self.held)
    @rule(which=st.integers(0, 7), honest=st.booleans(), hops=HOPS)
    def report(self, which: int, honest: bool, hops: int | None) -> None:
        """A caller whose token the API refused; a dishonest one says so all the same."""
        handout = self.held[which % len(self.held)]
        if honest and self.server.good(handout.access_token):
            return
        self._report(handout, hops)

    def _report(self, handout: Handout, hops: int | None) -> Operation:
        name, scope, token_id = handout.connection.name, self._scope_of(handout), handout.token.token_id
        return self.start("report", lambda broker: self.world.ask(broker, name, scope=scope, rejected=token_id), hops)

    def _scope_of(self, handout: Handout) -> str | None:
        return self.server.issues[handout.token.token_id].scope or None

    @precondition(_can_start)
    @rule(hops=HOPS)
    def sweep(self, hops: int | None) -> None:
        deadline = self.world.clock() + timedelta(seconds=50)
        self.start(
            "sweep", lambda broker: sweep(broker.parts, scheduled_at=self.world.clock(), deadline=deadline), hops
        )

    @precondition(lambda self: self._can_start() and self.world.queue.messages)
    @rule(hops=HOPS, again=st.booleans())
    def work(self, hops: int | None, again: bool) -> None:
        """The worker takes a message; the queue may deliver it again."""
        message = self.world.queue.messages[0] if again else self.world.queue.messages.pop(0)
        self._renew(message.pk, message.sk, hops)

    @precondition(_can_start)
    @rule(which=WHICH, scope=WHICH, hops=HOPS)
    def renew_in_time(self, which: int, scope: int, hops: int | None) -> None:
        """The time of a token has come, and so has the worker."""
        self._renew_in_time(which, scope, hops)

    def _renew_in_time(self, which: int, scope: int, hops: int | None) -> None:
        name = self.name(which)
        key = TokenKey(name, self.kind.scopes[scope % len(self.kind.scopes)] or self.kind.settings.get("scope", ""))
        token = self.world.tokens.read(key)[1].token
        if token is not None:
            self.world.clock.advance(to=token.renew_at)
            self._renew(key.pk, key.sk, hops)

    def _renew(self, pk: str, sk: str, hops: int | None) -> None:
        name = ConnectionName(*pk.removeprefix("C#").split("/"))
        self.start("renew", lambda broker: broker.renew(name, sk), hops)

    @precondition(_can_start)
    @rule(which=WHICH, scope=WHICH, all_scopes=st.booleans(), force=st.booleans(), what=DEEDS, hops=HOPS)
    def manage(
        self, which: int, scope: int, all_scopes: bool, force: bool, what: str | Mapping[str, Any], hops: int | None
    ) -> None:
        """A DELETE of tokens, a trial, or other settings."""
        name, text = self.name(which), None if all_scopes else self.kind.scopes[scope % len(self.kind.scopes)] or ""
        deadline = self.world.clock() + REQUEST_TIME
        if what == "purge":
            self.start("purge", lambda broker: broker.purge(name, text, deadline=deadline), hops)
        elif what == "trial":
            self.start("trial", lambda broker: broker.attempt(name, force=force), hops)
        else:
            changes = dict(what) if isinstance(what, Mapping) else {}
            whole = {"allowed_callers": [CALLER], **SETTINGS[name.provider], **self.kind.settings, **changes}
            self.start("put", lambda broker: broker.registry.put(name, whole, expected=None, absent=False), hops)

    # ------------------------------------------------------------------ who stands still goes on, or does not
    @precondition(lambda self: self.stage.waiting)
    @rule(which=st.integers(0, AT_ONCE - 1), hops=HOPS)
    def go_on(self, which: int, hops: int | None) -> None:
        operation = self.stage.waiting[which % len(self.stage.waiting)]
        self.stage.go_on(operation, hops)
        self._settle(operation)

    @precondition(lambda self: len(self.stage.waiting) > 1)
    @rule(turns=st.lists(st.integers(0, AT_ONCE - 1), min_size=2, max_size=12))
    def take_turns(self, turns: list[int]) -> None:
        """One call each, in this order."""
        for turn in turns:
            if self.stage.waiting:
                operation = self.stage.waiting[turn % len(self.stage.waiting)]
                self.stage.go_on(operation, 0)
                self._settle(operation)

    @precondition(lambda self: self.stage.waiting)
    @rule(which=st.integers(0, AT_ONCE - 1))
    def kill(self, which: int) -> None:
        operation = self.stage.waiting[which % len(self.stage.waiting)]
        self.stage.kill(operation)
        self._settle(operation)

    @precondition(_can_start)
    @rule(which=WHICH, scope=WHICH, is_renewal=st.booleans(), hops=SOME_HOPS)
    def start_and_die(self, which: int, scope: int, is_renewal: bool, hops: int) -> None:
        """A process is killed with its lease held, and the lease runs out."""
        before = set(self.stage.waiting)
        if is_renewal:
            self._renew_in_time(which, scope, hops)
        else:
            self._ask(which, scope, None, hops)
        for operation in [operation for operation in self.stage.waiting if operation not in before]:
            self.stage.kill(operation)
            self._settle(operation)
            self.world.clock.advance(LEASE_OVER_S)

    @precondition(lambda self: self._can_start() and self.stage.waiting)
    @rule(which=st.integers(0, AT_ONCE - 1), hops=HOPS)
    def freeze(self, which: int, hops: int | None) -> None:
        """A process stands still past its lease, while another one takes over; then it goes on."""
        operation = self.stage.waiting[which % len(self.stage.waiting)]
        self.world.clock.advance(LEASE_OVER_S)
        if operation.seen.key is not None:
            self._ask_for(operation.seen.key, None)
        self.stage.go_on(operation, hops)
        self._settle(operation)

    @rule(which=WHICH, scope=WHICH, is_over=st.booleans(), hops=st.lists(SOME_HOPS, min_size=2, max_size=3))
    def race(self, which: int, scope: int, is_over: bool, hops: list[int]) -> None:
        """Several callers at once, of a key whose token has ended perhaps."""
        if is_over:
            self._advance_to_the_end(self.name(which), -1)
        for some in hops:
            if self._can_start():
                self._ask(which, scope, None, some)

    @rule(which=WHICH, scope=WHICH)
    def ask_everywhere(self, which: int, scope: int) -> None:
        """Every instance that is free has the token in its memory."""
        for _ in range(INSTANCES):
            if self._can_start():
                self._ask(which, scope, None, None)

    @precondition(lambda self: self.stage.waiting)
    @rule(
        which=st.integers(0, AT_ONCE - 1),
        fault=st.sampled_from(["fail", "lose_answer", "send_twice", "send_again_later"]),
        hops=HOPS,
    )
    def fault(self, which: int, fault: str, hops: int | None) -> None:
        """The call before which an operation stands goes wrong."""
        operation = self.stage.waiting[which % len(self.stage.waiting)]
        call = operation.stops_at or ""
        if call.partition(".")[0] in self.world.faults.down:
            return
        if call == "answer":
            operation.cut = True
        elif "." in call and fault == "send_again_later":
            self.world.faults.send_twice(call, between=lambda: self.stage.stop("between"))
        elif "." in call:
            getattr(self.world.faults, fault)(call)
        operation.seen.faulted = True
        self.stage.go_on(operation, hops)
        self._settle(operation)

    # ------------------------------------------------------------------ the world
    @rule(seconds=st.sampled_from([0.5, 5, 13, 17.5, 18.5, 18.5, 31, 31, 61, 200, 905, 3601]))
    def advance(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    @rule(which=WHICH, before=st.sampled_from([-2, -0.3, 0.05, 0.3, 10, 29, 100]))
    def advance_to_the_end_of_a_token(self, which: int, before: float) -> None:
        self._advance_to_the_end(self.name(which), before)

    def _advance_to_the_end(self, name: ConnectionName, before: float) -> None:
        live = [record.token for record in self.world.tokens.records(name) if record.token is not None]
        if live:
            self.world.clock.advance(to=live[-1].expires_at - timedelta(seconds=before))

    @rule(troubles=st.lists(st.sampled_from([*TROUBLES, "ok"]), max_size=4))
    def provider_will(self, troubles: list[str]) -> None:
        self.server.trouble.clear()
        self.server.trouble.extend(troubles)

    @rule(
        down=st.sampled_from([None, None, None, "503", "hang", "unreachable", "lost"]),
        life=st.integers(0, 3),
        ends=st.one_of(st.none(), st.integers(0, 7)),
    )
    def provider_is(self, down: str | None, life: int, ends: int | None) -> None:
        """Up or down; its tokens live for so long from now on; one of them it ends before its time."""
        self.server.down = down
        self.server.life_s = self.kind.lives[life % len(self.kind.lives)]
        if ends is not None and self.held:
            handout = self.held[ends % len(self.held)]
            self.server.issues[handout.token.token_id].end("by the provider", self.world.clock())

    @precondition(_can_start)
    @rule(
        which=WHICH,
        how=st.sampled_from(["right", "right", "right", "wrong", "pending", "pending wrong", "there", "only heard of"]),
        heard=st.booleans(),
        hops=HOPS,
    )
    def change_secret(self, which: int, how: str, heard: bool, hops: int | None) -> None:
        """In our vault, at the provider ("there"), or at both ("right"). Whether an event comes is another matter."""
        name = self.name(which)
        if how == "there":
            self.server.accepted[self._client(name)] = "changed over there"
        elif how == "pending":
            accepted = self.server.accepted[self._client(name)]
            self._new_secret(name, is_right=True, stage="AWSPENDING")
            self.server.accepted[self._client(name)] = accepted
        elif how != "only heard of":
            stage = "AWSPENDING" if how == "pending wrong" else "AWSCURRENT"
            self._new_secret(name, is_right=how == "right", stage=stage)
        if heard:
            self.start("secret_changed", lambda broker: broker.secret_changed(name), hops)

    @rule(port=st.sampled_from(PORTS))
    def take_down(self, port: str) -> None:
        """For a while."""
        self.world.faults.take_down(port)
        self.world.clock.at(OUTAGE_S, self.bring_up)
        for operation in self.stage.waiting:
            operation.seen.faulted = True

    def bring_up(self) -> None:
        for port in PORTS:
            self.world.faults.bring_up(port)

    def _client(self, name: ConnectionName) -> str:
        return f"client-{name.connection}"

    def _new_secret(self, name: ConnectionName, *, is_right: bool, stage: str = "AWSCURRENT") -> None:
        self.secrets += 1
        secret, client = f"secret-{self.secrets}", self._client(name)
        names = ("username", "password") if self.kind.manners.login else ("client_id", "client_secret")
        self.world.vault.put(name, dict(zip(names, (client, secret), strict=True)), stage=stage)
        if is_right:
            self.server.accepted[client] = secret

    # ------------------------------------------------------------------ what holds
    @invariant()
    def promises_hold(self) -> None:
        current: set[str] = set()
        retired: set[str] = set()
        for name in self.names:
            found = self.world.watched.held(name)
            current, retired = current | found[0], retired | found[1]
        for token_id, expires_at in self.promises.watched_over.items():
            issue, now = self.server.issues[token_id], self.world.clock()
            lives = issue.good(now) and expires_at > now and self.kind.revocable
            if lives and token_id not in current | retired | self.server.unrevokable:
                self.promises.breaks(f"a dropped token {issue.token} lives and nobody will revoke it")
        assert not self.promises.broken, "\n".join(self.promises.broken)

    def teardown(self) -> None:
        """Everything heals: every connection gives tokens again, and what was dropped is revoked."""
        try:
            if not self.promises.broken:
                self._heal()
                for name in self.names:
                    self._recovers(name)
                self.promises_hold()
        finally:
            for operation in list(self.stage.waiting):
                self.stage.kill(operation)

    def _heal(self) -> None:
        for operation in list(self.stage.waiting):
            self.stage.kill(operation)
            self._settle(operation)
        self.bring_up()
        self.server.trouble.clear()
        self.server.down, self.server.life_s = None, self.kind.lives[0]
        for name in self.names:
            self.world.settings(name, **self.kind.settings)
            self._new_secret(name, is_right=True)
        self.world.clock.advance(3700)

    def _recovers(self, name: ConnectionName) -> None:
        for scope in self.kind.scopes:
            handout = self._must_hand_out(name, scope, None)
            if not self.server.good(handout.access_token):
                handout = self._must_hand_out(name, scope, handout.token.token_id)
            assert self.server.good(handout.access_token), "a reported token was not replaced"
        for record in self.world.tokens.records(name):
            self.world.clock.advance(61)
            self._renew(record.key.pk, record.key.sk, None)
        _, retired = self.world.watched.held(name)
        assert not (retired and self.kind.revocable), "the worker left dropped tokens alive"

    def _must_hand_out(self, name: ConnectionName, scope: str | None, rejected: str | None) -> Handout:
        """Logins whose outcome nobody knows may cost one rest more."""
        self.world.clock.advance(61)
        for _ in range(2 if self.kind.manners.login else 1):
            call = partial(self.world.ask, name=name, scope=scope, rejected=rejected)
            operation = self.start("ask", call, None)
            if isinstance(operation.result, Handout):
                return operation.result
            self.world.clock.advance(REFUSED_REST.total_seconds())
        raise AssertionError(f"no token although everything has healed: {operation.error!r}")
