"""The broker: hands out, acquires, renews, tries and revokes tokens, and keeps connections."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from token_broker.broker.acquisition import Acquirer
from token_broker.broker.asking import Asker
from token_broker.broker.handing_out import Ask, HandingOut, Handout
from token_broker.broker.parts import Parts
from token_broker.broker.revocation import NotRevoked, Purge, Revoker
from token_broker.core.names import ConnectionName

# A hand-out needs none of these, and what is imported costs every cold start: each is loaded by its first use.
if TYPE_CHECKING:
    from token_broker.broker.registry import Registry
    from token_broker.broker.renewal import Renewal
    from token_broker.broker.trial import TrialResult

__all__ = [
    "Ask",
    "Broker",
    "Handout",
    "NotRevoked",
    "Parts",
    "Purge",
]


class Broker:
    """All that the functions call. Holds one instance's memory; everything else is in the stores."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._revoker = Revoker(parts)
        self._asker = Asker(parts)
        self._acquirer = Acquirer(parts, self._asker, self._revoker)
        self._handing_out = HandingOut(parts, self._acquirer)

    @cached_property
    def registry(self) -> Registry:
        """The connections."""
        from token_broker.broker.registry import Registry

        return Registry(self.parts, self._revoker)

    def hand_out(self, ask: Ask) -> Handout:
        """A valid token for a caller. Raises BrokerError."""
        return self._handing_out.hand_out(ask)

    def renew(self, name: ConnectionName, sk: str) -> Renewal:
        """Renews a key of the due index if it is due. Raises BrokerUnavailable."""
        from token_broker.broker.renewal import Renewer

        return Renewer(self.parts, self._acquirer, self._revoker).renew(name, sk)

    def purge(self, name: ConnectionName, scope: str | None, *, deadline: datetime) -> Purge:
        """Drops a connection's tokens (of one scope set, or all) and revokes what can be. Raises BrokerError."""
        stored = self.parts.stored(name)
        self._handing_out.forget(name)
        return self._revoker.purge(stored, scope, deadline=deadline)

    def attempt(self, name: ConnectionName, *, force: bool) -> TrialResult:
        """Tries a connection's pending or current credentials. Raises BrokerError."""
        from token_broker.broker.trial import Trials

        return Trials(self.parts, self._asker, self._acquirer, self._revoker).attempt(name, force=force)

    def secret_changed(self, name: ConnectionName) -> int:
        """Makes the tokens of a connection due. Returns how many keys."""
        return self.parts.tokens.mark_stale(name, self.parts.clock())
