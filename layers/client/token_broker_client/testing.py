"""`FakeBroker`: a token broker for the tests of a service. No network, no AWS, no waiting.

    def test_users_are_listed():
        with FakeBroker() as broker:      # until the block ends, every BrokerAuth and TokenBroker uses it
            assert list_users(BrokerAuth("unidy", "eu-main")) == [...]
        assert broker.asked[0].scope == "users:read"

It replaces the broker's HTTP interface only. Caching, retries and reports are done by the real client.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from token_broker_client import client
from token_broker_client.errors import BrokerUnreachable, error_for_problem
from token_broker_client.source import TokenSource

STATUS: Mapping[str, int] = {
    "invalid_request": 400,
    "access_denied": 403,
    "caller_not_allowed": 403,
    "scope_not_allowed": 403,
    "unknown_provider": 404,
    "unknown_connection": 404,
    "connection_suspended": 409,
    "connection_misconfigured": 409,
    "too_many_scope_sets": 409,
    "consent_required": 409,
    "too_many_rejections": 429,
    "throttled": 429,
    "internal_error": 500,
    "provider_refused": 502,
    "provider_invalid_response": 502,
    "provider_unavailable": 503,
    "provider_rate_limited": 503,
    "acquisition_in_progress": 503,
    "broker_unavailable": 503,
    "gateway_timeout": 504,
}
# The headers of these providers. All others take a Bearer token.
HEADERS: Mapping[str, Mapping[str, str]] = {"unicommerce": {"apiKey": "{token}"}}
BEARER: Mapping[str, str] = {"Authorization": "Bearer {token}"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to the broker."""

    provider: str
    connection: str
    scope: str | None
    min_ttl: int | None
    rejected: str | None


class FakeBroker(TokenSource):
    """Returns tokens `fake-{provider}-{connection}-{n}`. Replaces a reported token. Time moves only with `advance`.

    As a context manager it stands in for every TokenBroker, also for one that was made before or without a URL, and so
    for every BrokerAuth. Or pass it as `BrokerAuth(…, broker=fake)`. `headers`: the token's headers, by provider, such
    as {"own": {"X-Key": "{token}"}}. `asked` lists the requests. Thread-safe.

    `fail`, `delay`, `revoke` and `expire` are what happens to a service. Your fake of the provider's API can ask
    `accepts` whether a request has a valid token.
    """

    def __init__(
        self,
        *,
        lifetime_s: int = 3600,
        api_base_url: str | None = None,
        headers: Mapping[str, Mapping[str, str]] = HEADERS,
    ) -> None:
        self.asked: list[Asked] = []
        self._lifetime_s = lifetime_s
        self._api_base_url = api_base_url
        self._headers = headers
        self._now = datetime(2026, 1, 1, tzinfo=UTC)
        self._issued: dict[tuple[str, str, str], tuple[str, datetime]] = {}
        self._numbers: Counter[tuple[str, str]] = Counter()
        self._accepted_until: dict[str, datetime] = {}
        self._planned: list[Exception | float] = []  # for the next requests: an error, or how long it takes
        self._responding = threading.Lock()
        super().__init__(self._respond, clock=self._time, sleep=self.advance)

    @property
    def reported(self) -> list[str]:
        """The token_ids that were reported as rejected by a provider's API, in order."""
        return [asked.rejected for asked in self.asked if asked.rejected]

    def fail(
        self, code: str, *, times: int = 1, retry_after: float | None = None, detail: str = "set by the test"
    ) -> None:
        """The next `times` requests get an error of this code; "unreachable": no response. Raises KeyError."""
        for _ in range(times):
            if code == "unreachable":
                self._planned.append(BrokerUnreachable("no response from the broker: set by the test"))
            else:
                status = STATUS[code]
                problem = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail}
                self._planned.append(error_for_problem(status, problem, retry_after))

    def delay(self, seconds: float, *, times: int = 1) -> None:
        """The next `times` requests take this long on the fake clock. Beyond the client's time limit: no response."""
        self._planned += [seconds] * times

    def revoke(self) -> None:
        """The provider revokes every token. As in reality, the broker notices when one is reported, or has expired."""
        self._accepted_until.clear()

    def expire(self) -> None:
        """Moves the clock to the end of every token."""
        self.advance(self._lifetime_s)

    def accepts(self, headers: Mapping[str, str]) -> bool:
        """Whether a request with these headers has a token of this broker that is neither expired nor revoked."""
        sent = {word for value in headers.values() for word in value.split()}
        return any(self._now < until for token, until in self._accepted_until.items() if token in sent)

    def advance(self, seconds: float) -> None:
        """Moves the clock. A pause before a retry does this by itself."""
        self._now += timedelta(seconds=seconds)

    def __enter__(self) -> Self:
        client.fake_brokers.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        client.fake_brokers.remove(self)

    def _time(self) -> float:
        return self._now.timestamp()

    def _respond(self, path: str, query: Mapping[str, str], *, timeout_s: float) -> dict[str, Any]:
        *_, provider, connection = path.split("/")
        scope = query.get("scope")
        rejected = query.get("rejected")
        min_ttl = int(query["min_ttl"]) if "min_ttl" in query else None
        with self._responding:
            self.asked.append(Asked(provider, connection, scope, min_ttl, rejected))
            planned = self._planned.pop(0) if self._planned else 0.0
            if isinstance(planned, Exception):
                raise planned
            self.advance(min(planned, timeout_s))
            if planned > timeout_s:
                raise BrokerUnreachable("no response from the broker in time: set by the test")
            token, expires_at, source = self._current((provider, connection, scope or ""), rejected)
        headers = self._headers.get(provider, BEARER)
        remaining = expires_at - self._now
        return {
            "access_token": token,
            "token_type": "Bearer" if headers is BEARER else "N_A",
            "expires_in": int(remaining.total_seconds()),
            "expires_at": expires_at.isoformat(),
            "expires_assumed": False,
            "renew_at": (expires_at - self._window).isoformat(),
            "scope": scope or "",
            "token_id": _token_id(token),
            "provider": provider,
            "connection": connection,
            "headers": {name: value.replace("{token}", token) for name, value in headers.items()},
            "api_base_url": self._api_base_url,
            "source": source,
            "warnings": [],
        }

    def _current(self, key: tuple[str, str, str], rejected: str | None) -> tuple[str, datetime, str]:
        """Token, expiry and source. Renews like the broker: before the token expires, or when it is reported."""
        current = self._issued.get(key)
        if current and _token_id(current[0]) != rejected and self._now < current[1] - self._window:
            return *current, "memory"
        self._numbers[key[:2]] += 1
        token = f"fake-{key[0]}-{key[1]}-{self._numbers[key[:2]]}"
        expires_at = self._now + timedelta(seconds=self._lifetime_s)
        self._issued[key] = token, expires_at
        self._accepted_until[token] = expires_at
        return token, expires_at, "provider"

    @property
    def _window(self) -> timedelta:
        return timedelta(seconds=min(self._lifetime_s / 2, 900))


def _token_id(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:16]
