"""Senders that play a provider without a network. They can be combined."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import quote

from tests.fakes.clock import HandClock
from token_broker.core.connections import NetworkOptions
from token_broker.oauth.exchange import HttpRequest, HttpResponse, OutcomeUnknown, Unreachable
from token_broker.ports import Send

JSON = {"content-type": "application/json"}


def issuing(pattern: str = "tok-{n}", *, expires_in: object = 3600, field: str = "access_token", **fields: Any) -> Send:
    """Issues a new token for each request. `{n}` in text fields is counted from 1. None leaves a field out."""
    numbers = count(1)

    def send(_request: HttpRequest, _network: NetworkOptions, _timeout: timedelta) -> HttpResponse:
        n = next(numbers)
        body = {field: pattern, "token_type": "Bearer", "expires_in": expires_in, **fields}
        filled = {
            name: value.format(n=n) if isinstance(value, str) else value
            for name, value in body.items()
            if value is not None
        }
        return HttpResponse(200, JSON, json.dumps(filled).encode())

    return send


def answering(status: int, body: Mapping[str, Any] | bytes = b"", headers: Mapping[str, str] | None = None) -> Send:
    """Gives the same response to every request."""
    content = body if isinstance(body, bytes) else json.dumps(dict(body)).encode()
    response = HttpResponse(status, dict(headers or {}), content)
    return lambda _request, _network, _timeout: response


def refusing(error: str, status: int = 400) -> Send:
    """Gives an error response of RFC 6749 section 5.2."""
    return answering(status, {"error": error})


def redirecting(redirect_uri: str, code: str = "code-{n}") -> Send:
    """Plays Ucommerce's connect: redirects with a new code each time."""
    numbers = count(1)

    def send(_request: HttpRequest, _network: NetworkOptions, _timeout: timedelta) -> HttpResponse:
        return HttpResponse(302, {"location": f"{redirect_uri}?code={quote(code.format(n=next(numbers)))}"})

    return send


def failing_first(times: int, *, status: int = 503, then: Send | None = None) -> Send:
    """Fails some requests, then does as `then`."""
    return in_turn(*[answering(status)] * times, then or issuing())


def in_turn(*senders: Send) -> Send:
    """Uses one sender per request, and the last one for all later requests."""
    remaining = list(senders)

    def send(request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        sender = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        return sender(request, network, timeout)

    return send


def hanging(clock: HandClock | None = None) -> Send:
    """Never responds. The time limit passes on `clock`, and the outcome of the request is unknown."""

    def send(_request: HttpRequest, _network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        if clock is not None:
            clock.advance(timeout.total_seconds())
        raise OutcomeUnknown("no answer in time")

    return send


def dying() -> Send:
    """The process is killed after it sent the request. It does nothing more."""

    def send(_request: HttpRequest, _network: NetworkOptions, _timeout: timedelta) -> HttpResponse:
        raise KeyboardInterrupt

    return send


def unreachable(*, bad_certificate: bool = False) -> Send:
    """No request can be sent."""

    def send(_request: HttpRequest, _network: NetworkOptions, _timeout: timedelta) -> HttpResponse:
        raise Unreachable("nobody listens", bad_certificate=bad_certificate)

    return send


def slow(sleep: Callable[[float], object], seconds: float, then: Send) -> Send:
    """Responds as `then`, after some time on `sleep`."""

    def send(request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        sleep(seconds)
        return then(request, network, timeout)

    return send


def calling_back(action: Callable[[], object], then: Send) -> Send:
    """Responds as `then`. Runs `action` during the first request."""
    actions = [action]

    def send(request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        response = then(request, network, timeout)
        if actions:
            actions.pop()()
        return response

    return send


class Recorder:
    """A sender that records its requests and passes them to `to`, which a test can replace at any time."""

    def __init__(self, to: Send) -> None:
        self.to = to
        self.requests: list[HttpRequest] = []
        self.timeouts: list[timedelta] = []

    def __call__(self, request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        self.requests.append(request)
        self.timeouts.append(timeout)
        return self.to(request, network, timeout)

    def __len__(self) -> int:
        return len(self.requests)

    def __bool__(self) -> bool:
        return True

    def bodies(self) -> list[str]:
        return [(request.body or b"").decode() for request in self.requests]


def recording(send: Send) -> Recorder:
    """The same sender, with its requests recorded."""
    return Recorder(send)


class Reissuing:
    """Gives the same token until it has expired, with the whole seconds left (Doorkeeper) or always its full lifetime.

    `expires_at`: of each token that it issued. `rotates`: each response has a new refresh token.
    """

    def __init__(
        self, clock: HandClock, *, lifetime_s: int = 60, tells_left: bool = True, rotates: bool = False
    ) -> None:
        self.expires_at: dict[str, datetime] = {}
        self.refresh_tokens = 0
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._tells_left = tells_left
        self._rotates = rotates

    def __call__(self, _request: HttpRequest, _network: NetworkOptions, _timeout: timedelta) -> HttpResponse:
        self._clock.advance(0.1)
        now = self._clock()
        token, expires_at = next(reversed(self.expires_at.items()), ("", now))
        if now >= expires_at:
            token, expires_at = f"tok-{len(self.expires_at) + 1}", now + timedelta(seconds=self._lifetime_s)
            self.expires_at[token] = expires_at
        left = int((expires_at - now).total_seconds()) if self._tells_left else self._lifetime_s
        body: dict[str, Any] = {"access_token": token, "token_type": "Bearer", "expires_in": left}
        if self._rotates:
            self.refresh_tokens += 1
            body["refresh_token"] = f"refresh-{self.refresh_tokens}"
        return HttpResponse(200, JSON, json.dumps(body).encode())
