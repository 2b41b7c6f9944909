"""Unidy: client credentials as JSON, with scopes of a fixed list. It appears to be a Doorkeeper server."""

from __future__ import annotations

from dataclasses import dataclass

from .doorkeeper import Doorkeeper
from .options import Options
from .wire import Reply, Request

SCOPES = (
    "subscriptions:read",
    "subscriptions:write",
    "subscriptions_batch:write",
    "custom_attributes:read",
    "custom_attributes:write",
    "users:read",
    "users:read_by_email",
    "users:change_email",
    "users:write",
    "newsletter_subscriptions:write",
)


@dataclass(frozen=True)
class UnidyOptions(Options):
    lifetime_s: float = 7200


class Unidy(Doorkeeper):
    """A request without a scope gets all of them, which is why the broker requires one."""

    slug = "unidy"
    defaults = UnidyOptions()

    def token(self, request: Request) -> Reply:
        account, requested = self.client_credentials(request)
        scope = requested or " ".join(SCOPES)
        self.require_known_scopes(scope, SCOPES)
        token = self.issue(account, scope)
        return self.token_reply(token, self.token_document(token))
