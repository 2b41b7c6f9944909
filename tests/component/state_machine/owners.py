"""Rules: what the owners of connections do, and what an attacker does to our tables."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.component.state_machine.base import HOPS, WHICH, Base
from tests.fakes import CALLER
from tests.fakes.world import SETTINGS
from token_broker.core.names import ConnectionName

REQUEST_TIME = timedelta(seconds=26)
ACTIONS = st.sampled_from(["purge", "purge", "trial", "trial", "delete"])
# Other settings. "other host": those of the case that name another host.
CHANGES = st.sampled_from(["none", "none", "lifetime", "warm", "suspended", "suspended", "other host", "other host"])
SECRETS = st.sampled_from(["right", "right", "right", "wrong", "pending", "pending wrong", "provider", "event only"])
SEALED = st.sampled_from(["token", "token", "refresh_token", "retired"])
MEMORY_EXPIRED_S = 31
# Shorter than the default min_ttl.
SHORT_S = 20


class Owners(Base):
    """Tokens, settings, connections and secrets change while callers use them."""

    @precondition(Base.can_start)
    @rule(which=WHICH, scope=WHICH, all_scopes=st.booleans(), force=st.booleans(), what=ACTIONS, hops=HOPS)
    def manage(self, which: int, scope: int, all_scopes: bool, force: bool, what: str, hops: int | None) -> None:
        """Deletes tokens or the connection, or runs a trial. Creates a deleted connection again."""
        name = self.name(which)
        text = None if all_scopes else self.case.scopes[scope % len(self.case.scopes)] or ""
        if self.world.connections.get(name) is None:
            self._put(name, "none", hops)
        elif what == "purge":
            deadline = self.world.clock() + REQUEST_TIME
            self.start("purge", lambda broker: broker.purge(name, text, deadline=deadline), hops)
        elif what == "trial":
            self.start("trial", lambda broker: broker.trial(name, force=force), hops)
        else:
            self.start("delete", lambda broker: broker.connections.delete(name, expected=None), hops)

    @precondition(Base.can_start)
    @rule(which=WHICH, change=CHANGES, hops=HOPS)
    def put(self, which: int, change: str, hops: int | None) -> None:
        self._put(self.name(which), change, hops)

    def _put(self, name: ConnectionName, change: str, hops: int | None) -> None:
        changes: dict[str, dict[str, Any]] = {
            "none": {},
            "lifetime": {"lifetime_s": 900},
            "warm": {"keep_warm": "always"},
            "suspended": {"suspended": True},
            "other host": dict(self.case.other_host),
        }
        whole = {"allowed_callers": [CALLER], **SETTINGS[name.provider], **self.case.settings, **changes[change]}
        self.start("put", lambda broker: broker.connections.put(name, whole, expected=None, absent=False), hops)

    @precondition(lambda self: not self.stage.waiting)
    @rule(
        which=WHICH,
        scope=WHICH,
        change=CHANGES,
        is_deleted=st.sampled_from([False, False, True]),
        down=st.sampled_from([None, "tokens", "tokens"]),
    )
    def change_and_read_everywhere(
        self, which: int, scope: int, change: str, is_deleted: bool, down: str | None
    ) -> None:
        """All instances have a token in memory and then read other settings. Then our table may fail."""
        name = self.name(which)
        self.get_everywhere(which, scope)
        if is_deleted:
            self.start("delete", lambda broker: broker.connections.delete(name, expected=None), None)
        else:
            self._put(name, change, None)
        self.world.clock.advance(MEMORY_EXPIRED_S)
        self.get_everywhere(which, scope)
        if down is not None and not self.world.faults.down:
            self.world.faults.take_down(down)
            self.world.clock.advance(MEMORY_EXPIRED_S)
            self.get_everywhere(which, scope)
            self.world.faults.bring_up(down)

    @precondition(Base.can_start)
    @rule(which=WHICH, how=SECRETS, with_event=st.booleans(), hops=HOPS)
    def change_secret(self, which: int, how: str, with_event: bool, hops: int | None) -> None:
        """The secret changes in our store, only at the provider ("provider"), or in both ("right")."""
        name = self.name(which)
        if how == "provider":
            self.server.accepted[self.client(name)] = "changed at the provider"
        elif how == "pending":
            accepted = self.server.accepted[self.client(name)]
            self.new_secret(name, is_right=True, stage="AWSPENDING")
            self.server.accepted[self.client(name)] = accepted
        elif how != "event only":
            stage = "AWSPENDING" if how == "pending wrong" else "AWSCURRENT"
            self.new_secret(name, is_right=how == "right", stage=stage)
        if with_event:
            self.start("secret_changed", lambda broker: broker.secret_changed(name), hops)

    @precondition(lambda self: not self.stage.waiting)
    @rule(which=WHICH, scope=WHICH, times=st.integers(2, 6))
    def guess(self, which: int, scope: int, times: int) -> None:
        """The owner puts one wrong secret after the other."""
        for _ in range(times):
            self.new_secret(self.name(which), is_right=False)
            self.advance_to_expiry(self.name(which), -1)
            self.world.clock.advance(MEMORY_EXPIRED_S)
            self.get_one(which, scope, None)

    @rule(which=WHICH, scope=WHICH, what=SEALED, other=WHICH, then=st.sampled_from([None, "get", "get a longer one"]))
    def tamper(self, which: int, scope: int, what: str, other: int, then: str | None) -> None:
        """Replaces a sealed value by one that cannot be opened, or by one of another key.

        Then a caller may get a token, or need a longer one while the provider fails.
        """
        self.world.watched.tamper(self.key(which, scope), what, self.key(other, other))
        if then == "get a longer one":
            self.advance_to_expiry(self.name(which), SHORT_S)
            self.server.trouble.appendleft("503")
        if then is not None and self.can_start():
            self.get_one(which, scope, None)
