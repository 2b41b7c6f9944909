"""The machine: several instances of the broker, one provider, and everything that can happen between them."""

from __future__ import annotations

from functools import partial

from hypothesis.stateful import invariant

from tests.component.state_machine.callers import Callers
from tests.component.state_machine.cooldowns import REFUSED_COOLDOWNS
from tests.component.state_machine.interleaving import Interleaving
from tests.component.state_machine.owners import Owners
from tests.component.state_machine.weather import Weather
from token_broker.core.names import ConnectionName
from token_broker.service import TokenResponse

HEALED_S = 3700


class BrokerMachine(Callers, Interleaving, Owners, Weather):
    """What always holds, and that everything heals."""

    @invariant()
    def promises_hold(self) -> None:
        kept: set[str] = set()
        for name in self.names:
            kept = kept.union(*self.world.watched.held(name))
        for token_id in self.promises.watched_over:
            if self._lives_unwatched(token_id) and token_id not in kept:
                self.promises.breaks(f"a dropped token {token_id} lives and nobody will revoke it")
        assert not self.promises.broken, "\n".join(self.promises.broken)

    def _lives_unwatched(self, token_id: str) -> bool:
        """Unless nobody can end it: it does not open, its revocation was refused, the settings left its host."""
        issue, now = self.server.issues[token_id], self.world.clock()
        if not (self.kind.revocable and issue.good(now) and self.promises.watched_over[token_id] > now):
            return False
        name = next(name for name in self.names if self.client(name) == issue.client)
        has_left = self.promises.history.has_left(name, issue.host, issue.issued_at)
        return not has_left and token_id not in self.server.unrevokable | self.promises.unreadable

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
            self.kill(operation)
        self.bring_up()
        self.server.trouble.clear()
        self.server.down, self.server.life_s = None, self.kind.lives[0]
        for name in self.names:
            self.world.settings(name, **self.kind.settings)
            self.new_secret(name, is_right=True)
        self.world.clock.advance(HEALED_S)

    def _recovers(self, name: ConnectionName) -> None:
        for scope in self.kind.scopes:
            handout = self._must_hand_out(name, scope, None)
            if not self.server.good(handout.access_token):
                handout = self._must_hand_out(name, scope, handout.token.token_id)
            assert self.server.good(handout.access_token), "a reported token was not replaced"
        for record in self.world.tokens.records(name):
            self.world.clock.advance(61)
            self.renew(record.key, None)
        _, retired = self.world.watched.held(name)
        assert not (retired and self.kind.revocable), "the worker left dropped tokens alive"

    def _must_hand_out(self, name: ConnectionName, scope: str | None, rejected: str | None) -> TokenResponse:
        """Logins whose outcome nobody knows may cost one rest more."""
        self.world.clock.advance(61)
        for _ in range(2 if self.kind.manners.login else 1):
            call = partial(self.world.ask, name=name, scope=scope, rejected=rejected)
            operation = self.start("ask", call, None)
            if isinstance(operation.result, TokenResponse):
                return operation.result
            self.world.clock.advance(REFUSED_COOLDOWNS[0].total_seconds())
        raise AssertionError(f"no token although everything has healed: {operation.error!r}")
