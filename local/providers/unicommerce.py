"""Unicommerce marketplace: a login at /authToken by GET (query) or POST (JSON). Refusals have HTTP status 200."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from .accounts import Account
from .options import Options
from .simulator import Simulator
from .wire import Refusal, Reply, Request, fields_of, json_reply, pairs_of

# `status` for a wrong password, by method, as the vendor's two pages say.
WRONG_LOGIN = {"GET": "FAILED", "POST": "INVALID_CREDENTIALS"}


@dataclass(frozen=True)
class UnicommerceOptions(Options):
    lifetime_s: float = 86_400  # the page: 24 to 48 hours; the reply does not say it
    lock_after: int | None = None  # how many consecutive wrong passwords lock an account


class Unicommerce(Simulator):
    """A marketplace that serves several sellers; the token says which. A new token does not revoke the old one."""

    slug = "unicommerce"
    routes: ClassVar = {"/authToken": "token", "/api/resource": "resource"}
    methods: ClassVar = {**Simulator.methods, "token": ("GET", "POST")}
    defaults = UnicommerceOptions()
    options: UnicommerceOptions

    def token(self, request: Request) -> Reply:
        account = self._login(self._credentials(request), WRONG_LOGIN[request.method])
        token = self.issue(account)
        return self.token_reply(token, {"status": "SUCCESS", "accessToken": token.value})

    def _credentials(self, request: Request) -> dict[str, str]:
        if request.header("Authorization") is not None:
            raise Refusal("invalid_request", "a login has no Authorization header")
        if request.media_type != "application/json":
            raise Refusal("invalid_request", "Content-Type has to be application/json, on GET too")
        if request.method == "POST":
            sent = fields_of(request, ("json",))
        else:
            self._check_get(request)
            sent = pairs_of(request.query)
        if set(sent) != {"username", "password"} or not all(sent.values()):
            raise Refusal("invalid_request", "username and password are needed, and nothing else")
        return sent

    def _check_get(self, request: Request) -> None:
        """Refuses a body: the page's text says body, but its table and sample say query. The URL holds the password, so
        the request must tell caches not to store it."""
        if request.body:
            raise Refusal("invalid_request", "a GET has no body")
        if "no-store" not in (request.header("Cache-Control") or ""):
            raise Refusal("invalid_request", "Cache-Control: no-store is missing")

    def _login(self, sent: Mapping[str, str], wrong_login: str) -> Account:
        for account in self.accounts.values():
            if account.secret.get("username") != sent["username"]:
                continue
            if not account.locked and account.secret.get("password") == sent["password"]:
                account.failed_logins = 0
                return account
            account.failed_logins += 1
            limit = self.options.lock_after
            account.locked = account.locked or (limit is not None and account.failed_logins >= limit)
        raise Refusal(wrong_login, "Invalid username or password", status=200)

    def refused(self, refusal: Refusal) -> Reply:
        status = refusal.code if refusal.code in WRONG_LOGIN.values() else "FAILED"
        document = {"status": status, "message": refusal.description}
        return json_reply(self.options.error_status or refusal.status, document, outcome=refusal.code)

    def presented_token(self, request: Request) -> str:
        return request.header("apiKey") or ""

    def resource_refused(self) -> Reply:
        body = json.dumps({"status": "FAILED", "message": "Invalid apiKey"}).encode()
        return Reply(401, body, {"Content-Type": "application/json"}, "no live token")
