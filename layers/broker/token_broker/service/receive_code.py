"""Takes a redirect that comes without a signature. It can seal, write one item that exists, and queue: nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from token_broker.core.consent_sessions import CONSENT_CODE, SessionFailure, code_place, consent_id_of
from token_broker.core.names import fingerprint
from token_broker.errors import ConnectionMisconfigured, InvalidRequest
from token_broker.oauth.consents import MAX_REDIRECT_CHARACTERS, read_redirect
from token_broker.ports import CodeReceipt
from token_broker.service.consent_sessions import PROVIDER_REFUSED
from token_broker.service.context import BrokerContext

MAX_PARAMETERS = 50


@dataclass(frozen=True, slots=True)
class CodeReceiver:
    """The public side of a consent. It reads no item, no settings and no secret, and calls no provider.

    The function that exchanges the code checks what this cannot know: the settings, and whom the code is for.
    """

    context: BrokerContext

    def receive(self, provider: str, pairs: Sequence[tuple[str, str]]) -> str | None:
        """Takes a redirect's parameters. Returns the session's consent_id; None where nothing was stored.

        Raises BrokerUnavailable.
        """
        context = self.context
        try:
            found = context.catalogue.get(provider)
        except ConnectionMisconfigured:
            return None
        too_long = len(pairs) > MAX_PARAMETERS or sum(len(n) + len(v) for n, v in pairs) > MAX_REDIRECT_CHARACTERS
        if found is None or found.consent is None or too_long:
            return None
        try:
            redirect = read_redirect(pairs, found.consent, found.response)
        except InvalidRequest:
            return None
        consent_id = consent_id_of(redirect.state)
        revision = context.new_id()[:16]
        if redirect.code is None:
            failure = SessionFailure(PROVIDER_REFUSED, redirect.error)
            receipt = CodeReceipt(consent_id, provider, redirect.iss, failure=failure, revision=revision)
            return consent_id if context.consent_sessions.receive(receipt, context.clock()) else None
        seal = context.consent_sealer.prepare(code_place(provider, consent_id), CONSENT_CODE)
        receipt = CodeReceipt(
            consent_id,
            provider,
            redirect.iss,
            code_id=fingerprint(redirect.code),
            sealed_code=seal(redirect.code),
            kept=redirect.kept,
            revision=revision,
        )
        if not context.consent_sessions.receive(receipt, context.clock()):
            return None
        context.consent_queue.send(consent_id)
        return consent_id
