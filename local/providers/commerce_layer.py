"""Commerce Layer: client credentials as JSON, the same token until its last 15 minutes, 30 requests a minute."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from .doorkeeper import Doorkeeper
from .jwt_shape import jwt
from .options import Options
from .token_ledger import TokenDraft
from .wire import Refusal, Reply, Request, json_reply

SCOPE_ITEM = re.compile(r"(market|store|stock_location):(all|(id|code):[^:,\s]+)")
STATUS_WORDS = {400: "BAD_REQUEST", 401: "UNAUTHORIZED", 403: "FORBIDDEN", 429: "TOO_MANY_REQUESTS"}


@dataclass(frozen=True)
class CommerceLayerOptions(Options):
    lifetime_s: float = 7200  # an integration's
    sales_channel_lifetime_s: float = 14_400
    reuse: bool = True
    reissue_window_s: float = 900
    rate_limit: int | None = 30
    errors_as_object: bool = False  # `errors` is one object instead of a list


class CommerceLayer(Doorkeeper):
    """An account without a secret is a sales channel and must name a market. One with a secret is an integration."""

    slug = "commerce-layer"
    token_type = "bearer"
    defaults = CommerceLayerOptions()
    options: CommerceLayerOptions

    def token(self, request: Request) -> Reply:
        account, requested = self.client_credentials(request)
        sales_channel = "client_secret" not in account.secret
        items = requested.split(" ") if requested else []
        if not all(SCOPE_ITEM.fullmatch(item) for item in items):
            raise Refusal("invalid_scope", "The requested scope is invalid, unknown, or malformed.")
        if sales_channel and not any(item.startswith("market:") for item in items):
            raise Refusal("invalid_scope", "A sales channel needs a market in scope.")
        lifetime_s = self.options.sales_channel_lifetime_s if sales_channel else self.options.lifetime_s
        token = self.issue(account, requested or "market:all", lifetime_s=lifetime_s)
        return self.token_reply(token, self.token_document(token))

    def mint(self, draft: TokenDraft) -> str:
        public = "client_secret" not in draft.account.secret
        return jwt(
            {
                "organization": {"id": "enWoxFMOnp", "slug": "fake-brand", "enterprise": False, "region": "eu-west-1"},
                "application": {
                    "id": "DNOPYiZYpn" if public else "ApRniWdJoG",
                    "kind": "sales_channel" if public else "integration",
                    "public": public,
                },
                # The token grows with each market in scope.
                "market": [
                    {
                        "scope": item,
                        "price_list_id": secrets.token_hex(5),
                        "stock_location_ids": [secrets.token_hex(5) for _ in range(8)],
                    }
                    for item in draft.scope.split(" ")
                ],
                "scope": draft.scope,
                "exp": int(draft.expires_at),
                "iat": int(draft.issued_at),
                "iss": "https://auth.commerce-layer.example",
                "test": True,
                "rand": secrets.randbelow(10**12),
            }
        )

    def refused(self, refusal: Refusal) -> Reply:
        return self._errors(refusal.status, refusal.code, refusal.description)

    def rate_limited(self) -> Reply:
        """No Retry-After: the vendor does not say when the window ends."""
        return self._errors(429, "rate limited", "You have been rate limited.")

    def _errors(self, status: int, title: str, detail: str) -> Reply:
        """`title` has OAuth's code, `code` a word for the status."""
        status = self.options.error_status or status
        error = {"title": title, "detail": detail, "code": STATUS_WORDS.get(status, "ERROR"), "status": status}
        return json_reply(status, {"errors": error if self.options.errors_as_object else [error]}, outcome=title)

    def resource_refused(self) -> Reply:
        error = {
            "title": "Invalid token",
            "detail": "The access token you provided is invalid.",
            "code": "INVALID_TOKEN",
            "status": "401",
        }
        return json_reply(401, {"errors": [error]}, outcome="no live token")
