"""Ucommerce Headless: a code by redirect, exchanged for a short-lived token and a rotating refresh token."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote

from .accounts import Account
from .jwt_shape import jwt
from .options import Options
from .simulator import Simulator
from .token_ledger import TokenDraft
from .wire import NO_STORE, Refusal, Reply, Request, html_reply, pairs_of

DAY_S = 86_400
CONNECT_FIELDS = {"client_id", "redirect_uri", "response_type"}


@dataclass(frozen=True)
class UcommerceOptions(Options):
    lifetime_s: float = 300
    jwt_lifetime_s: float = 3600  # the exp of the vendor's sample token, which contradicts expires_in
    code_lifetime_s: float = 60
    refresh_lifetime_s: float = 14 * DAY_S
    rotate: bool = True  # False: a refresh returns no new refresh token, and the old one stays valid
    raw_plus: bool = True  # does not escape '+' in Location, which a form decoder turns into a space
    connect_refusal_status: int = 400  # of the page if redirect_uri is not on the whitelist; can be 200


@dataclass(slots=True)
class Ticket:
    """A code or refresh token: valid once, until it expires, for one client. `redirect_uri`: the one at connect."""

    account: str
    family: str
    expires_at: float
    redirect_uri: str
    used: bool = False
    revoked: bool = False


class NotRedirected(Refusal):
    """Connect refuses. The reply is a page for people."""


class Ucommerce(Simulator):
    """One store. A code or refresh token used twice revokes its whole family (RFC 6749 section 4.1.2, RFC 9700)."""

    slug = "ucommerce"
    routes: ClassVar = {"/api/v1/oauth/connect": "connect", "/api/v1/oauth/token": "token", "/api/resource": "resource"}
    charset = "iso-8859-1"
    defaults = UcommerceOptions()
    options: UcommerceOptions

    def _reset(self) -> None:
        super()._reset()
        self._codes: dict[str, Ticket] = {}
        self._refresh_tokens: dict[str, Ticket] = {}

    def handlers(self) -> dict[str, Callable[[Request], Reply]]:
        return {**super().handlers(), "connect": self.connect}

    def connect(self, request: Request) -> Reply:
        """The redirect with the code, or a page if redirect_uri is not on the whitelist."""
        try:
            return self._redirected(request)
        except Refusal as refusal:
            raise NotRedirected(refusal.code, refusal.description) from None

    def _redirected(self, request: Request) -> Reply:
        fields = pairs_of(request.query)
        if not CONNECT_FIELDS <= set(fields) <= CONNECT_FIELDS | {"scope"}:
            raise Refusal("invalid_request", "client_id, redirect_uri and response_type are needed, nothing else")
        client_id = fields["client_id"]
        redirect_uri = fields["redirect_uri"]
        account = next((known for known in self.accounts.values() if known.secret.get("client_id") == client_id), None)
        if account is None:
            raise Refusal("unknown_client", "Unknown client")
        if redirect_uri not in account.redirect_uris:
            raise Refusal("not_whitelisted", "The redirect URL is not whitelisted")
        if fields["response_type"] != "code":
            return self._redirect(redirect_uri, "error=unsupported_response_type", "wrong response_type")
        # Every code holds what decoders get wrong: '+', '%2F' that is text and not an escape, '/', '='.
        code = f"{secrets.token_urlsafe(18)}+%2F/{secrets.token_urlsafe(6)}=="
        expires_at = self.now() + self.options.code_lifetime_s
        self._codes[code] = Ticket(account.name, secrets.token_hex(8), expires_at, redirect_uri)
        escaped = quote(code, safe="+" if self.options.raw_plus else "")
        return self._redirect(redirect_uri, f"code={escaped}", "code")

    def _redirect(self, redirect_uri: str, query: str, outcome: str) -> Reply:
        location = f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{query}"
        return Reply(302, b"", {"Location": location, **NO_STORE}, outcome)

    def token(self, request: Request) -> Reply:
        sent = self.token_fields(request, ("form",))
        account = self.authenticate(request, sent)
        grant_type = self.require_grant_type(sent, "authorization_code", "refresh_token")
        ticket = self._redeem_code(sent, account) if grant_type == "authorization_code" else self._redeem(sent, account)
        token = self.issue(account, family=ticket.family)
        document: dict[str, object] = {
            "access_token": token.value,
            "expires_in": self.remaining_s(token),
            "redirect_uri": ticket.redirect_uri,
        }
        if self.options.rotate or grant_type == "authorization_code":
            document["refresh_token"] = self._new_refresh_token(ticket)
        return self.token_reply(token, {**document, "token_type": "bearer"})

    def _redeem_code(self, sent: dict[str, str], account: Account) -> Ticket:
        code = self._known(self._codes, sent.get("code"), account)
        if code.used:
            self._replayed("replayed_codes", code.family)
        code.used = True
        if sent.get("redirect_uri") != code.redirect_uri:
            raise Refusal("invalid_grant", "redirect_uri differs from the one at connect")
        return code

    def _redeem(self, sent: dict[str, str], account: Account) -> Ticket:
        refresh_token = self._known(self._refresh_tokens, sent.get("refresh_token"), account)
        if refresh_token.used:
            self._replayed("replayed_refresh_tokens", refresh_token.family)
        refresh_token.used = self.options.rotate
        return refresh_token

    def _known(self, tickets: dict[str, Ticket], value: str | None, account: Account) -> Ticket:
        if not value:
            raise Refusal("invalid_request", "code or refresh_token is missing")
        ticket = tickets.get(value)
        # A used one is returned whatever its age, so that the caller can detect a replay.
        if ticket is None or ticket.account != account.name:
            raise Refusal("invalid_grant", "the code or refresh token is unknown, or another client's")
        if not ticket.used and (ticket.revoked or self.now() >= ticket.expires_at):
            raise Refusal("invalid_grant", "the code or refresh token has expired or was revoked")
        return ticket

    def _replayed(self, counter: str, family: str) -> None:
        self.journal.count(counter)
        self.tokens.revoke(lambda token: token.family == family)
        for ticket in self._refresh_tokens.values():
            ticket.revoked = ticket.revoked or ticket.family == family
        raise Refusal("invalid_grant", "used before: all tokens issued from it are revoked")

    def _new_refresh_token(self, redeemed: Ticket) -> str:
        lifetime_s = self.options.refresh_lifetime_s
        value = _jwt("RefreshToken", self.vendor_time(), self.vendor_time() + lifetime_s)
        expires_at = self.now() + lifetime_s
        self._refresh_tokens[value] = Ticket(redeemed.account, redeemed.family, expires_at, redeemed.redirect_uri)
        return value

    def mint(self, draft: TokenDraft) -> str:
        return _jwt("ClientUser", draft.issued_at, draft.issued_at + self.options.jwt_lifetime_s)

    def refused(self, refusal: Refusal) -> Reply:
        if isinstance(refusal, NotRedirected):
            return html_reply(self.options.connect_refusal_status, refusal.description, outcome=refusal.code)
        error = {"error": refusal.code, "error-description": refusal.description}
        return self.error_reply(refusal, {"errors": [error]})

    def revoke_tokens(self, token_id: str | None = None) -> int:
        """As `Simulator.revoke_tokens`. All: revokes the refresh tokens too, so that only connect helps."""
        with self._lock:
            if token_id is None:
                for ticket in self._refresh_tokens.values():
                    ticket.revoked = True
            return super().revoke_tokens(token_id)


def _jwt(role: str, issued_at: float, expires_at: float) -> str:
    """A token with the claims of the vendor's sample tokens."""
    times = {"nbf": int(issued_at), "exp": int(expires_at), "iat": int(issued_at)}
    user = {"userId": "fa189271-f965-4f5c-99f9-e45b73bc2839", "clientId": "fake-store", "role": role}
    return jwt({**user, "sessionId": secrets.token_hex(16), **times})
