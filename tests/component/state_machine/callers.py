"""Rules: callers, the sweep and its worker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.component.state_machine.base import EXPIRED, HOPS, MAX_OPERATIONS, SOME_HOPS, TROUBLE, WHICH, Base
from token_broker.core.names import ConnectionName
from token_broker.errors import BrokerError
from token_broker.ports import RenewalMessage
from token_broker.service import Broker, TokenResponse
from token_broker.service.renew import Renewal

MIN_TTL = st.sampled_from([None, None, 0, 20, 200, 3600])
OFTEN = st.sampled_from(["refused", "503", "lost", "429", "unknown"])
TROUBLE_SEQUENCES = st.sampled_from(
    [
        ("refused", "503", "503"),
        ("refused", "503", "refused"),
        ("refused", "refused", "refused"),
        ("lost", "lost", "lost"),
        ("503", "503", "503"),
        ("429", "503", "503"),
        ("unknown", "unknown", "unknown"),
    ]
)


class Callers(Base):
    """Callers get tokens and report rejected ones. The worker renews tokens in advance."""

    @initialize(keep_warm=st.sampled_from(["used", "used", "always", "never"]), how_many=st.sampled_from([0, 1, 3, 3]))
    def begin(self, keep_warm: str, how_many: int) -> None:
        """Some keys have tokens."""
        for name in self.names:
            self.put(name, "none", keep_warm, None)
            for scope in range(min(how_many, len(self.case.scopes))):
                self.get_one(self.names.index(name), scope, None)

    @precondition(Base.can_start)
    @rule(which=WHICH, scope=WHICH, min_ttl=MIN_TTL, is_expired=EXPIRED, trouble=TROUBLE, hops=HOPS)
    def get(
        self, which: int, scope: int, min_ttl: float | None, is_expired: bool, trouble: str | None, hops: int | None
    ) -> None:
        if is_expired:
            self.advance_to_expiry(self.name(which), -1)
        self.server.meet(trouble)
        self.get_one(which, scope, hops, min_ttl=min_ttl)

    @precondition(lambda self: not self.stage.waiting)
    @rule(
        which=WHICH,
        scope=WHICH,
        is_expired=EXPIRED,
        with_trial=st.booleans(),
        troubles=st.one_of(TROUBLE_SEQUENCES, st.lists(OFTEN, min_size=2, max_size=5)),
    )
    def retry(self, which: int, scope: int, is_expired: bool, with_trial: bool, troubles: Sequence[str]) -> None:
        """A caller meets one trouble after the other. It retries a moment before Retry-After, and then in time.

        `with_trial`: after the first trouble the owner runs a trial, which meets the second.
        """
        name = self.name(which)
        if is_expired:
            self.advance_to_expiry(name, -1)
        self.server.meet(*troubles)
        for turn in range(len(troubles) + 1):
            error = self.get_one(which, scope, None).error
            if with_trial and turn == 0:
                self.start("trial", lambda broker: broker.trial(name, force=True), None)
            if not isinstance(error, BrokerError) or error.retry_after is None:
                return
            self.world.clock.advance(error.retry_after.total_seconds() - 1)
            self.get_one(which, scope, None)
            self.world.clock.advance(1)

    @rule(which=WHICH, scope=WHICH)
    def get_in_all(self, which: int, scope: int) -> None:
        """Every idle instance gets the token into its memory."""
        self.get_everywhere(which, scope)

    @rule(
        which=WHICH, scope=WHICH, is_expired=EXPIRED, trouble=TROUBLE, hops=st.lists(SOME_HOPS, min_size=2, max_size=3)
    )
    def race(self, which: int, scope: int, is_expired: bool, trouble: str | None, hops: list[int]) -> None:
        """Several callers at once, perhaps after the token expired."""
        if is_expired:
            self.advance_to_expiry(self.name(which), -1)
        self.server.meet(trouble)
        for some in hops:
            if self.can_start():
                self.get_one(which, scope, some)

    @precondition(lambda self: self.can_start() and self.held)
    @rule(which=st.integers(0, 7), honest=st.booleans(), times=st.sampled_from([1, 1, 8]), hops=HOPS)
    def report(self, which: int, honest: bool, times: int, hops: int | None) -> None:
        """A caller reports its token as rejected. A dishonest one reports valid tokens."""
        response = self.held[which % len(self.held)]
        if honest and self.server.good(response.access_token):
            return
        token_id = response.token.token_id
        scope = self.server.issued[token_id].scope or None
        operation = self.get_token_of(response.connection.name, scope, hops, rejected=token_id)
        while (times := times - 1) and isinstance(operation.result, TokenResponse):
            token_id = operation.result.token.token_id
            operation = self.get_token_of(response.connection.name, scope, None, rejected=token_id)

    @precondition(Base.can_start)
    @rule(hops=HOPS, minutes=st.sampled_from([0, 1, 3, 16]))
    def sweep(self, hops: int | None, minutes: int) -> None:
        """A sweep, perhaps after some minutes of regular sweeps and work."""
        for _ in range(minutes):
            self._sweep(None)
            for message in self.world.queue.take():
                self._work(message, None)
            self.world.clock.advance(60)
        self._sweep(hops)

    def _sweep(self, hops: int | None) -> None:
        now = self.world.clock()
        deadline = now + timedelta(seconds=50)
        self.start("sweep", lambda broker: broker.sweep(scheduled_at=now, deadline=deadline), hops)

    @precondition(lambda self: self.can_start() and self.world.queue.messages)
    @rule(hops=HOPS, fate=st.sampled_from(["once", "again", "lost", "other release"]))
    def work(self, hops: int | None, fate: str) -> None:
        """The worker takes a message. The queue may deliver it again, or lose all.

        The worker of another release does not know the provider.
        """
        if fate == "lost":
            self.world.queue.take()
            return
        message = self.world.queue.messages[0] if fate == "again" else self.world.queue.messages.pop(0)
        self._work(message, hops, self.world.other_release() if fate == "other release" else None)

    def _work(self, message: RenewalMessage, hops: int | None, worker: Broker | None = None) -> None:
        def renew(broker: Broker) -> Renewal:
            return (worker or broker).renew(message.name, message.scope_id, message.token_id)

        self.start("renew" if message.scope_id is not None else "keep_consent", renew, hops)

    @precondition(Base.can_start)
    @rule(which=WHICH, scope=WHICH, trouble=TROUBLE, hops=HOPS, knows_provider=st.sampled_from([True, True, False]))
    def renew_in_time(
        self, which: int, scope: int, trouble: str | None, hops: int | None, knows_provider: bool
    ) -> None:
        """The worker comes when a token is due. It may be of a release that does not know the provider."""
        self.server.meet(trouble)
        key = self.key(which, scope)
        token = self.world.tokens.read(key)[1].token
        if token is not None:
            self.world.clock.advance(to=token.renew_at)
            self._work(
                RenewalMessage(key.name, key.scope_id), hops, None if knows_provider else self.world.other_release()
            )

    @precondition(lambda self: self.case.limit is not None and not self.stage.waiting)
    @rule(before_s=st.sampled_from([1, 5, 20]), are_renewals=st.booleans())
    def crowd(self, before_s: float, are_renewals: bool) -> None:
        """All keys need a new token at the end of one minute and again at the beginning of the next."""
        now = self.world.clock()
        self.world.clock.advance(to=now.replace(second=0, microsecond=0) + timedelta(seconds=60 - before_s))
        for _ in range(2):
            for name in self.names:
                self._need_new_tokens(name, are_renewals=are_renewals)
            self.world.clock.advance(before_s)

    def _need_new_tokens(self, name: ConnectionName, *, are_renewals: bool) -> None:
        if are_renewals:
            self.send_event(name, None)
        else:
            deadline = self.world.clock()
            self.start("purge", lambda broker: broker.purge_and_revoke(name, None, deadline=deadline), None)
        for scope in range(min(len(self.case.scopes), MAX_OPERATIONS)):
            if are_renewals:
                self.renew(self.key(self.names.index(name), scope), None)
            else:
                self.get_one(self.names.index(name), scope, None)
