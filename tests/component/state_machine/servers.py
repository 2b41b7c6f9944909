"""Simulated token servers: plain, or with rotating refresh tokens, reissued tokens, revocation or account locks."""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote_plus, urlsplit

from tests.component.state_machine.stage import Stage
from tests.fakes.world import REDIRECT_URI
from token_broker.core.names import fingerprint
from token_broker.oauth.exchange import HttpRequest, HttpResponse, OutcomeUnknown, TransportError, Unreachable

RETRY_AFTER_S = 90
CODE_TIME = timedelta(seconds=60)
DEFAULT_LIFETIME_S = 86_400
# What the server may do with a request instead of a regular response.
TROUBLES = ("503", "429", "html", "lost", "hang", "unreachable", "invalid_scope", "refused", "unknown", "no token")
# Responses with status 200 that are not tokens.
NO_TOKENS = {
    "html": (b"<html>maintenance</html>", "text/html"),
    "unknown": (b'{"error": "invalid_client_secret"}', "application/json"),
    "no token": (b"{}", "application/json"),
}


class Hang(TransportError):
    """No response comes. The sender waits until its time limit."""


@dataclass
class IssuedByServer:
    """A token in its server's memory. `times_issued`: more than one where it was reissued."""

    token: str
    host: str
    client: str
    scope: str
    issued_at: datetime
    expires_at: datetime
    times_issued: int = 1
    revoked_because: str | None = None
    revoked_at: datetime | None = None

    def good(self, now: datetime) -> bool:
        return self.revoked_because is None and now < self.expires_at

    def revoke(self, reason: str, now: datetime) -> None:
        if self.revoked_because is None:
            self.revoked_because = reason
            self.revoked_at = now


@dataclass(frozen=True)
class ServerTraits:
    """How a server differs from a plain one. `rotates`: each refresh token can be used once.

    `reissue_window_s`: it gives the same token again until its last seconds; 0: until it expires. It tells what is
    left, or (`tells_full_lifetime`) always the same. `consent`: tokens begin with a person's consent. Its refresh token
    is accepted once, or (`resend`) until the next one was used.
    """

    login: bool = False
    rotates: bool = False
    reissue_window_s: int | None = None
    tells_full_lifetime: bool = False
    revokes_previous: bool = False
    consent: Literal["", "once", "resend"] = ""


@dataclass(frozen=True)
class Received:
    """A request after parsing. `step`: connect, token, code, refresh, login or revoke."""

    host: str
    step: str
    client: str
    secret: str
    fields: dict[str, str]


def two_counts(numbers: count[int]) -> tuple[count[int], count[int]]:
    """Two counts that go on where one stands: Python 3.14 no longer copies them."""
    following = next(numbers)
    return count(following), count(following)


class Server:
    """All endpoints of one provider, at any host. A token is valid only at the host that issued it.

    `accepted`: each client's secret, and `accepted_from` when the server knows it, if that is later than now.
    `trouble`: what the next requests meet, one each. `down`: what every request meets. `on_request` is called for each
    request, `broken_rule` for one that must never be sent. `unrevokable`: tokens whose revocation was refused for good.
    """

    def __init__(
        self,
        stage: Stage,
        traits: ServerTraits,
        on_request: Callable[[Received], object],
        broken_rule: Callable[[str], object],
    ) -> None:
        self.stage = stage
        self.traits = traits
        self.lifetime_s: int | None = 3600
        self.accepted: dict[str, str] = {}
        self.accepted_from: dict[str, datetime] = {}
        self.trouble: deque[str] = deque()
        self.down: str | None = None
        self.issued: dict[str, IssuedByServer] = {}
        self._refresh_tokens: dict[str, str] = {}
        self.unrevokable: set[str] = set()
        self._on_request = on_request
        self._broken_rule = broken_rule
        self._codes: dict[str, tuple[str, datetime]] = {}
        self._sent_once: set[str] = set()
        # The refresh tokens of each consent that are accepted now, the newest last, and the consent of each one.
        self._live: dict[str, tuple[str, ...]] = {}
        self._consent_of: dict[str, str] = {}
        # Those whose outcome a sender cannot know.
        self._unknown: set[str] = set()
        self._numbers = count(1)

    def receive(self, request: HttpRequest) -> HttpResponse | TransportError:
        """Returns the response or error. Notes in the running operation's trace what the request met."""
        received = _parsed(request)
        operation = self.stage.running
        assert operation is not None
        met = self.down or (self.trouble.popleft() if self.trouble else "ok")
        if (received.step, met) == ("login", "invalid_scope"):
            met = "refused"
        if received.step == "revoke" and met in NO_TOKENS:
            met = "503"
        operation.trace.met = met
        operation.trace.issued = None
        if met == "unreachable":
            return Unreachable("nobody listens")
        self._on_request(received)
        self._check_sent_once(received, met)
        self._check_host(received)
        if met == "hang":
            return Hang("no answer")
        if met == "503":
            return HttpResponse(503)
        if met == "429":
            return HttpResponse(429, {"retry-after": str(RETRY_AFTER_S)})
        if met in NO_TOKENS:
            # A connect that does not redirect means that redirect_uri is not allowed (rule redirect_uri_not_allowed).
            operation.trace.met = "refused" if received.step == "connect" else met
            body, content_type = NO_TOKENS[met]
            return HttpResponse(200, {"content-type": content_type}, body)
        if met in ("invalid_scope", "refused") and received.step not in ("connect", "revoke"):
            return self._refusal(met)
        response = self._processed(received)
        if met == "ok" and received.step not in ("connect", "revoke") and not _is_token(response):
            operation.trace.met = "invalid_grant" if b"invalid_grant" in response.body else "refused"
        return OutcomeUnknown("the response was lost") if met == "lost" else response

    def meet(self, *troubles: str | None) -> None:
        """The next requests meet these troubles, one each."""
        self.trouble.clear()
        self.trouble.extend(trouble for trouble in troubles if trouble is not None)

    def copy_from(self, other: Server) -> None:
        """Becomes as another server is, without its troubles. What it issued is copied."""
        self.accepted = dict(other.accepted)
        self.accepted_from = dict(other.accepted_from)
        self.issued = {token_id: replace(issue) for token_id, issue in other.issued.items()}
        self.unrevokable = set(other.unrevokable)
        self._refresh_tokens = dict(other._refresh_tokens)
        self._codes = dict(other._codes)
        self._sent_once = set(other._sent_once)
        self._live = dict(other._live)
        self._consent_of = dict(other._consent_of)
        self._unknown = set(other._unknown)
        other._numbers, self._numbers = two_counts(other._numbers)

    def good(self, token: str) -> bool:
        """Whether the provider's API accepts a token now."""
        issue = self.issued.get(fingerprint(token))
        return issue is not None and issue.good(self.stage.clock())

    def accepts(self, client: str, secret: str) -> bool:
        known_from = self.accepted_from.get(client)
        is_known = known_from is None or known_from <= self.stage.clock()
        return is_known and self.accepted.get(client) == secret

    def _refusal(self, met: str) -> HttpResponse:
        if self.traits.login:
            return _json(200, {"status": "FAILED"})
        return _json(401, {"error": "invalid_client" if met == "refused" else "invalid_scope"})

    def consent(self, seed: str) -> None:
        """A person consents. `seed`: the refresh token."""
        self._live[seed] = (seed,)
        self._consent_of[seed] = seed

    def accepts_refresh_token(self, token: str) -> bool:
        """Whether it may be sent now, by the rule and by what its sender can know."""
        return token in self._live.get(self._consent_of.get(token, ""), ()) and not self._is_forbidden(token)

    def _is_forbidden(self, token: str) -> bool:
        return self.traits.consent == "once" and token in self._unknown

    def _refreshed(self, token: str) -> str:
        """The next refresh token of a consent."""
        consent, following = self._consent_of[token], f"refresh-{next(self._numbers)}"
        self._live[consent] = (token, following) if self.traits.consent == "resend" else (following,)
        self._consent_of[following] = consent
        return following

    def _check_rule(self, refresh_token: str, met: str) -> None:
        """Of a consent's refresh token."""
        if not self.accepts_refresh_token(refresh_token):
            self._broken_rule("P6: a refresh token was sent against the vendor's rule")
        if met in ("503", "hang", "html", "no token"):
            self._unknown.add(refresh_token)

    def _check_sent_once(self, received: Received, met: str) -> None:
        if self.traits.consent:
            self._check_rule(received.fields["refresh_token"], met)
            return
        for name in ("refresh_token", "code"):
            value = received.fields.get(name)
            if value in self._sent_once:
                self._broken_rule(f"P6: a {name} was sent twice")
            if value:
                self._sent_once.add(value)

    def _check_host(self, received: Received) -> None:
        """A token, code or refresh token goes only to the host that issued it."""
        issue = self.issued.get(fingerprint(received.fields.get("token", "")))
        hosts = {
            "token": issue.host if issue is not None else received.host,
            "code": self._codes.get(received.fields.get("code", ""), (received.host,))[0],
            "refresh_token": self._refresh_tokens.get(received.fields.get("refresh_token", ""), received.host),
        }
        for what, host in hosts.items():
            if host != received.host:
                self._broken_rule(f"P7: a {what} of {host} was sent to {received.host}")

    def _processed(self, received: Received) -> HttpResponse:
        if received.step == "connect":
            code = f"code-{next(self._numbers)}"
            self._codes[code] = (received.host, self.stage.clock())
            return HttpResponse(302, {"location": f"{REDIRECT_URI}?code={quote(code)}"})
        if not self.accepts(received.client, received.secret):
            if received.step == "revoke":
                self.unrevokable.add(fingerprint(received.fields["token"]))
            return self._refusal("refused")
        if received.step == "revoke":
            issue = self.issued.get(fingerprint(received.fields["token"]))
            if issue is not None:
                issue.revoke("revoked by us", self.stage.clock())
            return _json(200, {})
        if received.step == "code" and self._is_expired_code(received.fields["code"]):
            return _json(400, {"error": "invalid_grant"})
        if self.traits.consent:
            is_live = self.accepts_refresh_token(received.fields["refresh_token"])
            return self._issue(received) if is_live else _json(400, {"error": "invalid_grant"})
        if received.step == "refresh" and not self._refresh_tokens.pop(received.fields["refresh_token"], ""):
            return _json(400, {"error": "invalid_grant"})
        return self._issue(received)

    def _is_expired_code(self, code: str) -> bool:
        _host, made_at = self._codes.pop(code, ("", datetime.min.replace(tzinfo=UTC)))
        return self.stage.clock() - made_at > CODE_TIME

    def _issue(self, received: Received) -> HttpResponse:
        now, scope = self.stage.clock(), received.fields.get("scope", "")
        issue = self._reissued(received, scope)
        if issue is None:
            if self.traits.revokes_previous:
                for other in self.issued.values():
                    if (other.host, other.client) == (received.host, received.client):
                        other.revoke("superseded", now)
            token = f"tok-{next(self._numbers)}"
            expires_at = now + timedelta(seconds=self.lifetime_s or DEFAULT_LIFETIME_S)
            issue = IssuedByServer(token, received.host, received.client, scope, now, expires_at)
            self.issued[fingerprint(token)] = issue
        else:
            issue.times_issued += 1
        if self.stage.running is not None:
            self.stage.running.trace.issued = fingerprint(issue.token)
        if self.traits.login:
            return _json(200, {"status": "SUCCESS", "accessToken": issue.token})
        body: dict[str, Any] = {"access_token": issue.token, "token_type": "bearer"}
        if self.lifetime_s is not None:
            counted_from = issue.issued_at if self.traits.tells_full_lifetime else now
            body["expires_in"] = int((issue.expires_at - counted_from).total_seconds())
        if self.traits.consent:
            body["refresh_token"] = self._refreshed(received.fields["refresh_token"])
            self._refresh_tokens[body["refresh_token"]] = received.host
        if self.traits.rotates:
            body["refresh_token"] = f"refresh-{next(self._numbers)}"
            self._refresh_tokens[body["refresh_token"]] = received.host
        return _json(200, body)

    def _reissued(self, received: Received, scope: str) -> IssuedByServer | None:
        if self.traits.reissue_window_s is None:
            return None
        opens = self.stage.clock() + timedelta(seconds=self.traits.reissue_window_s)
        found = [
            issue
            for issue in self.issued.values()
            if (issue.host, issue.client, issue.scope) == (received.host, received.client, scope)
            and issue.revoked_because is None
            and issue.expires_at > opens
        ]
        return found[-1] if found else None


def _is_token(response: HttpResponse) -> bool:
    return b"access_token" in response.body or b"accessToken" in response.body


def _json(status: int, body: dict[str, Any]) -> HttpResponse:
    return HttpResponse(status, {"content-type": "application/json"}, json.dumps(body).encode())


def _parsed(request: HttpRequest) -> Received:
    host, query, body = urlsplit(request.url).netloc, dict(request.query), (request.body or b"").decode()
    fields = json.loads(body) if body.startswith("{") else dict(parse_qsl(body))
    if request.url.endswith("/connect"):
        return Received(host, "connect", query["client_id"], "", query)
    if request.url.endswith("/authToken"):
        return Received(host, "login", query["username"], query["password"], query)
    client, secret = fields.get("client_id", ""), fields.get("client_secret", "")
    header = request.headers.get("Authorization", "")
    if header:
        pair = base64.b64decode(header.removeprefix("Basic ")).decode()
        client, secret = (unquote_plus(part) for part in pair.split(":", 1))
    if request.url.endswith("/revoke"):
        return Received(host, "revoke", client, secret, fields)
    steps = {"authorization_code": "code", "refresh_token": "refresh", "client_credentials": "token"}
    return Received(host, steps[fields["grant_type"]], client, secret, fields)
