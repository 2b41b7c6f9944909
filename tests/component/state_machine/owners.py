"""Rules: what the owners of connections do, and what an attacker does to our tables."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.component.state_machine.base import HOPS, WHICH, Base
from token_broker.core.names import ConnectionName

REQUEST_TIME = timedelta(seconds=26)
ACTIONS = st.sampled_from(["purge", "purge", "trial", "trial", "delete"])
# Other settings. "other host": those of the case that name another host.
CHANGES = st.sampled_from(["none", "none", "lifetime", "suspended", "suspended", "other host", "other host"])
WARM = st.sampled_from(["used", "always", "always", "never"])
SECRETS = st.sampled_from(
    [
        *("right", "right", "right", "right soon", "right soon", "wrong", "pending", "pending wrong"),
        *("provider", "unreadable", "none", "event only"),
    ]
)
SEALED = st.sampled_from(["token", "token", "refresh_token", "retired"])
MEMORY_EXPIRED_S = 31
# Shorter than the default min_ttl.
SHORT_S = 20
# Some providers accept new credentials only this long after they were made.
ACCEPTED_AFTER_S = 45


class Owners(Base):
    """Tokens, settings, connections and secrets change while callers use them."""

    @precondition(Base.can_start)
    @rule(which=WHICH, scope=WHICH, all_scopes=st.booleans(), force=st.booleans(), what=ACTIONS, hops=HOPS)
    def manage(self, which: int, scope: int, all_scopes: bool, force: bool, what: str, hops: int | None) -> None:
        """Deletes tokens or the connection, or runs a trial. Creates a deleted connection again."""
        name = self.name(which)
        text = None if all_scopes else self.case.scopes[scope % len(self.case.scopes)] or ""
        if self.world.connections.get(name) is None:
            self.put(name, "none", "always", hops)
        elif what == "purge":
            deadline = self.world.clock() + REQUEST_TIME
            self.start("purge", lambda broker: broker.purge_and_revoke(name, text, deadline=deadline), hops)
        elif what == "trial":
            self.start("trial", lambda broker: broker.trial(name, force=force), hops)
        else:
            self.start("delete", lambda broker: broker.connections.delete(name, expected=None), hops)

    @precondition(Base.can_start)
    @rule(which=WHICH, change=CHANGES, keep_warm=WARM, hops=HOPS)
    def change_settings(self, which: int, change: str, keep_warm: str, hops: int | None) -> None:
        self.put(self.name(which), change, keep_warm, hops)

    @precondition(lambda self: not self.stage.waiting)
    @rule(which=WHICH, keep_warm=WARM)
    def suspend_rotate_and_resume(self, which: int, keep_warm: str) -> None:
        """No event tells of the new secret."""
        name = self.name(which)
        self.put(name, "suspended", keep_warm, None)
        self._change_secret(name, "right")
        self.put(name, "none", keep_warm, None)

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
            self.put(name, change, "used", None)
        self.world.clock.advance(MEMORY_EXPIRED_S)
        self.get_everywhere(which, scope)
        if down is not None and not self.world.faults.down:
            self.world.faults.take_down(down)
            self.world.clock.advance(MEMORY_EXPIRED_S)
            self.get_everywhere(which, scope)
            self.world.faults.bring_up(down)

    @precondition(lambda self: self.case.traits.consent and self.can_start())
    @rule(which=WHICH, what=st.sampled_from(["consent", "drop"]), hops=HOPS)
    def change_consent(self, which: int, what: str, hops: int | None) -> None:
        """A person consents again, and the refresh token is put into the secret; or the consent is dropped."""
        name = self.name(which)
        if what == "consent":
            self.world.consent(name)
            self._change_secret(name, "right")
        elif self.world.connections.get(name) is not None:
            self.start("purge", lambda broker: broker.drop_consent(name), hops)

    @precondition(lambda self: self.case.traits.consent and not self.stage.waiting and not self.world.faults.down)
    @rule()
    def lose_tokens(self) -> None:
        """TokenTable is emptied. A key returns to the due index with its next caller that memory does not serve."""
        self.world.lose_tokens()
        self.promises.tokens_lost()
        self.world.clock.advance(MEMORY_EXPIRED_S)
        for which, _ in enumerate(self.names):
            self.get_one(which, 0, None)

    @precondition(Base.can_start)
    @rule(which=WHICH, how=SECRETS, with_event=st.booleans(), hops=HOPS)
    def change_secret(self, which: int, how: str, with_event: bool, hops: int | None) -> None:
        """The secret changes in our store, only at the provider ("provider"), or in both ("right", "right soon")."""
        name = self.name(which)
        self._change_secret(name, how)
        if with_event:
            self.send_event(name, hops)

    def _change_secret(self, name: ConnectionName, how: str) -> None:
        self.world.clock.advance(0.001)
        client = self.world.client(name)
        accepted = self.server.accepted[client]
        if how == "provider":
            self.server.accepted[client] = "changed at the provider"
        elif how == "unreadable":
            self.world.secrets.unreadable.add(name)
        elif how == "none":
            self.world.secrets.delete(name)
        elif how.startswith("pending"):
            self.world.new_secret(name, is_right=how == "pending", stage="AWSPENDING")
            self.server.accepted[client] = accepted
        elif how != "event only":
            later = ACCEPTED_AFTER_S if how == "right soon" else 0
            self.world.new_secret(name, is_right=how.startswith("right"), accepted_after_s=later)
            self.world.secrets.unreadable.discard(name)

    @precondition(lambda self: not self.stage.waiting)
    @rule(which=WHICH, scope=WHICH, times=st.integers(2, 6))
    def guess(self, which: int, scope: int, times: int) -> None:
        """The owner puts one wrong secret after the other."""
        for _ in range(times):
            self._change_secret(self.name(which), "wrong")
            self.advance_to_expiry(self.name(which), -1)
            self.world.clock.advance(MEMORY_EXPIRED_S)
            self.get_one(which, scope, None)

    @rule(which=WHICH, scope=WHICH, what=SEALED, other=WHICH, then=st.sampled_from([None, "get", "get a longer one"]))
    def tamper(self, which: int, scope: int, what: str, other: int, then: str | None) -> None:
        """Replaces a sealed value by one that cannot be opened, or by one of another key.

        Then a caller may get a token, or need a longer one while the provider fails.
        """
        self.promises.unreadable |= self.world.tokens.tamper(self.key(which, scope), what, self.key(other, other))
        if then == "get a longer one":
            self.advance_to_expiry(self.name(which), SHORT_S)
            self.server.meet("503")
        if then is not None and self.can_start():
            self.get_one(which, scope, None)
