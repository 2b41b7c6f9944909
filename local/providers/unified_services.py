"""Unified Services (Nexi): client credentials by Basic header and form body, replies like Entra's."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import ClassVar

from .jwt_shape import jwt
from .options import Options
from .simulator import Simulator
from .token_ledger import TokenDraft
from .wire import Refusal, Reply, Request

SCOPE = "api://unified/.default"


@dataclass(frozen=True)
class UnifiedServicesOptions(Options):
    lifetime_s: float = 3599
    basic_encoding: str = "raw"  # 'percent': as RFC 6749 section 2.3.1 and an Entra-like issuer decode it
    refresh_in_s: float = 0  # when the vendor wants an early renewal; 0: not given


class UnifiedServices(Simulator):
    """The identity provider of the Unified API. URL and scope are invented: the vendor's page prints neither."""

    slug = "unified-services"
    routes: ClassVar = {"/oauth2/v2.0/token": "token", "/api/resource": "resource"}
    defaults = UnifiedServicesOptions()
    options: UnifiedServicesOptions

    def accepted_client_auth(self) -> tuple[str, ...]:
        return ("basic",) if self.options.basic_encoding == "percent" else ("basic-raw",)

    def token(self, request: Request) -> Reply:
        sent = self.token_fields(request, ("form",))
        account = self.authenticate(request, sent)
        self.require_grant_type(sent, "client_credentials")
        if sent.get("scope", SCOPE) != SCOPE:
            raise Refusal("invalid_scope", f"AADSTS1002012: the scope is not valid, expected {SCOPE}")
        token = self.issue(account, SCOPE)
        expires_in = self.remaining_s(token)
        document: dict[str, object] = {"token_type": "Bearer", "expires_in": expires_in, "ext_expires_in": expires_in}
        if self.options.refresh_in_s:
            document["refresh_in"] = int(self.options.refresh_in_s)
        return self.token_reply(token, {**document, "access_token": token.value})

    def mint(self, draft: TokenDraft) -> str:
        return jwt(
            {
                "aud": draft.scope.removesuffix("/.default"),
                "iss": "https://sts.unified.example/9f0c7a52-5a3c-4f1d-8e0a-2b6d7f1c3e44/",
                "iat": int(draft.issued_at),
                "nbf": int(draft.issued_at),
                "exp": int(draft.expires_at),
                "aio": secrets.token_urlsafe(48),
                "idtyp": "app",
                "roles": ["Payments.Process", "Orders.Read", "Orders.Write", "Terminals.Read"],
                "sub": "5b1f6a0e-7c62-4a0e-9d1f-0c8a3f5e2d71",
                "tid": "9f0c7a52-5a3c-4f1d-8e0a-2b6d7f1c3e44",
                "ver": "1.0",
            }
        )

    def refused(self, refusal: Refusal) -> Reply:
        document = {
            "error": refusal.code,
            "error_description": refusal.description,
            "error_codes": [7000215 if refusal.code == "invalid_client" else 900144],
            "trace_id": secrets.token_hex(16),
            "correlation_id": secrets.token_hex(16),
        }
        return self.error_reply(refusal, document)

    def rate_limited(self) -> Reply:
        headers = {"Content-Type": "text/plain", "Retry-After": str(max(1, round(self.options.rate_window_s)))}
        return Reply(429, b"Too many requests", headers, "rate limited")
