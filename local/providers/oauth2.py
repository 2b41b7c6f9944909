"""A standard OAuth 2.0 server: client credentials (RFC 6749 section 4.4), any client authentication and encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from .jwt_shape import jwt
from .options import Options
from .simulator import Simulator
from .token_ledger import TokenDraft
from .wire import Refusal, Reply, Request, fields_of

SCOPES = ("api.read", "api.write", "api.admin")


@dataclass(frozen=True)
class OAuth2Options(Options):
    # Names as in a connection's client_auth. With 'none', a client that has a secret need not send it.
    client_auth: tuple[str, ...] = ("basic", "basic-raw", "form", "json")
    encoding: str = "any"  # of a body that does not hold the secret: form | json | any
    required_params: Mapping[str, str] = field(default_factory=dict)
    tell_expires_in: bool = True
    jwt: bool = False


class OAuth2(Simulator):
    """Accepts everything standard unless the options restrict it."""

    slug = "oauth2"
    routes: ClassVar = {"/token": "token", "/revoke": "revoke", "/api/resource": "resource"}
    defaults = OAuth2Options()
    options: OAuth2Options

    def accepted_client_auth(self) -> tuple[str, ...]:
        return tuple(self.options.client_auth)

    def token(self, request: Request) -> Reply:
        sent = self._fields(request)
        account = self.authenticate(request, sent)
        self.require_grant_type(sent, "client_credentials")
        if any(sent.get(name) != value for name, value in self.options.required_params.items()):
            raise Refusal("invalid_request", "a required parameter is missing or wrong")
        scope = sent.get("scope", SCOPES[0])
        self.require_known_scopes(scope, SCOPES)
        token = self.issue(account, scope)
        document: dict[str, object] = {"access_token": token.value, "token_type": "Bearer", "scope": scope}
        if self.options.tell_expires_in:
            document["expires_in"] = self.remaining_s(token)
        return self.token_reply(token, document)

    def _fields(self, request: Request) -> dict[str, str]:
        """The fields of the body. The option `encoding` applies unless the body holds the secret."""
        sent = self.token_fields(request, ("form", "json"), wanted=self.options.required_params)
        if "client_secret" in sent or self.options.encoding == "any":
            return sent
        return fields_of(request, (self.options.encoding,))

    def mint(self, draft: TokenDraft) -> str:
        if not self.options.jwt:
            return super().mint(draft)
        times = {"iat": int(draft.issued_at), "exp": int(draft.expires_at)}
        return jwt({"iss": "https://oauth2.example", "scope": draft.scope, **times})
