"""The machine: several instances of the broker, one provider, and all events that can happen."""

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

RECOVERY_S = 3700


class BrokerMachine(Callers, Interleaving, Owners, Weather):
    """Checks the promises after each step, and in the end that every connection recovers."""

    @invariant()
    def promises_hold(self) -> None:
        kept: set[str] = set()
        for name in self.names:
            kept = kept.union(*self.world.watched.held(name))
        for token_id in self.promises.to_revoke:
            if self._must_be_revoked(token_id) and token_id not in kept:
                self.promises.breaks(f"a dropped token {token_id} is still valid and nobody will revoke it")
        assert not self.promises.broken, "\n".join(self.promises.broken)

    def _must_be_revoked(self, token_id: str) -> bool:
        """Whether a dropped token is valid and can be revoked.

        It cannot if it is unreadable, if its revocation was refused, or if the settings named another host since.
        """
        issue = self.server.issued[token_id]
        now = self.world.clock()
        if not (self.case.revocable and issue.good(now) and self.promises.to_revoke[token_id] > now):
            return False
        name = next(name for name in self.names if self.client(name) == issue.client)
        has_left = self.promises.history.has_left(name, issue.host, issue.issued_at)
        return not has_left and token_id not in self.server.unrevokable | self.promises.unreadable

    def teardown(self) -> None:
        """Every connection gets tokens again, and all dropped tokens are revoked."""
        try:
            if not self.promises.broken:
                self._restore()
                for name in self.names:
                    self._recovers(name)
                self.promises_hold()
        finally:
            for operation in list(self.stage.waiting):
                self.stage.kill(operation)

    def _restore(self) -> None:
        for operation in list(self.stage.waiting):
            self.kill(operation)
        self.bring_up()
        self.server.trouble.clear()
        self.server.down = None
        self.server.lifetime_s = self.case.lifetimes_s[0]
        for name in self.names:
            self.world.settings(name, **self.case.settings)
            self.new_secret(name, is_right=True)
        self.world.clock.advance(RECOVERY_S)

    def _recovers(self, name: ConnectionName) -> None:
        for scope in self.case.scopes:
            response = self._must_get_token(name, scope, None)
            if not self.server.good(response.access_token):
                response = self._must_get_token(name, scope, response.token.token_id)
            assert self.server.good(response.access_token), "a reported token was not replaced"
        for record in self.world.tokens.records(name):
            self.world.clock.advance(61)
            self.renew(record.key, None)
        _, retired = self.world.watched.held(name)
        assert not (retired and self.case.revocable), "the worker left dropped tokens valid"

    def _must_get_token(self, name: ConnectionName, scope: str | None, rejected: str | None) -> TokenResponse:
        """Unresolved logins can cost one more cooldown."""
        self.world.clock.advance(61)
        for _ in range(2 if self.case.traits.login else 1):
            call = partial(self.world.get_token, name=name, scope=scope, rejected=rejected)
            operation = self.start("get_token", call, None)
            if isinstance(operation.result, TokenResponse):
                return operation.result
            self.world.clock.advance(REFUSED_COOLDOWNS[0].total_seconds())
        raise AssertionError(f"no token although nothing is wrong any more: {operation.error!r}")
