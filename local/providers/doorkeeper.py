"""What Commerce Layer and Unidy share: the behaviour of Doorkeeper, the OAuth server library for Rails."""

from __future__ import annotations

from typing import ClassVar

from .accounts import Account
from .simulator import Simulator
from .token_ledger import IssuedToken
from .wire import Refusal, Reply, Request


class Doorkeeper(Simulator):
    """Client credentials in a JSON body. `created_at` is the token's issue, `expires_in` its remaining lifetime."""

    routes: ClassVar = {"/oauth/token": "token", "/oauth/revoke": "revoke", "/api/resource": "resource"}
    client_auth = ("json", "form")  # form only at /oauth/revoke: the token endpoint accepts JSON only
    token_type: ClassVar[str] = "Bearer"

    def token_document(self, token: IssuedToken) -> dict[str, object]:
        return {
            "access_token": token.value,
            "token_type": self.token_type,
            "expires_in": self.remaining_s(token),
            "scope": token.scope,
            "created_at": int(token.issued_at + self.options.clock_skew_s),
        }

    def client_credentials(self, request: Request) -> tuple[Account, str]:
        """The client of a well-formed request, and the requested scope ('' for none)."""
        sent = self.token_fields(request, ("json",))
        account = self.authenticate(request, sent)
        self.require_grant_type(sent, "client_credentials")
        return account, sent.get("scope", "")

    def revoke(self, request: Request) -> Reply:
        """As RFC 7009, but an unknown client gets 403 unauthorized_client instead of 401."""
        try:
            return super().revoke(request)
        except Refusal as refusal:
            if refusal.code != "invalid_client":
                raise
        raise Refusal("unauthorized_client", "You are not authorized to revoke this token", status=403)
