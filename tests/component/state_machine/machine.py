"""The machine: several instances of the broker, one provider, and all events that can happen."""

from __future__ import annotations

from hypothesis.stateful import invariant

from tests.component.state_machine.callers import Callers
from tests.component.state_machine.interleaving import Interleaving
from tests.component.state_machine.owners import Owners
from tests.component.state_machine.recovery import check_recovery, check_schedule
from tests.component.state_machine.weather import Weather


class BrokerMachine(Callers, Interleaving, Owners, Weather):
    """Checks the promises after each step, and that everything would recover from there."""

    steps = 0

    @invariant()
    def promises_hold(self) -> None:
        broken = [*self.promises.broken, *self._not_revoked(), *check_schedule(self)]
        assert not broken, "\n".join(broken)

    @invariant()
    def everything_recovers(self) -> None:
        self.steps += 1
        for sweep_alone in (False, True):
            with_event = (self.steps + sweep_alone) % 2 == 0
            broken = list(check_recovery(self, with_event=with_event, sweep_alone=sweep_alone))
            assert not broken, "\n".join(broken)

    def _not_revoked(self) -> list[str]:
        items = [self.world.tokens.items(name) for name in self.names]
        kept = {record.token.token_id for found in items for record in found.records if record.token is not None}
        kept |= {item.token_id for found in items for item in found.retired if item.revoke}
        return [
            f"a dropped token {token_id} is still valid and nobody will revoke it"
            for token_id in self.promises.to_revoke
            if token_id not in kept and self._must_be_revoked(token_id)
        ]

    def _must_be_revoked(self, token_id: str) -> bool:
        """Whether a dropped token is valid and can be revoked.

        It cannot if it is unreadable, if its revocation was refused, or if the settings named another host since.
        """
        issue, now = self.server.issued[token_id], self.world.clock()
        if not (self.case.revocable and issue.good(now) and self.promises.to_revoke[token_id] > now):
            return False
        name = next(name for name in self.names if self.world.client(name) == issue.client)
        has_left = self.promises.history.has_left(name, issue.host, issue.issued_at)
        return not has_left and token_id not in self.server.unrevokable | self.promises.unreadable

    def teardown(self) -> None:
        for operation in list(self.stage.waiting):
            self.stage.kill(operation)
