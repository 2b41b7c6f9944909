"""What each route does.

    GET  /v1/tokens/{provider}/{connection}            the token, as the broker returns it
    GET  /v1/headers/{provider}/{connection}           its headers as lines, for `curl -H @-`
    POST /v1/tokens/{provider}/{connection}/rejected   reports a token that the provider's API rejected: another token
    GET  /health  GET /metrics

`scope` and `min_ttl` in the query mean what they mean to the broker.
"""

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from email.message import Message
from typing import Final
from urllib.parse import parse_qsl

from token_broker_cli import __version__
from token_broker_cli.agent import metrics
from token_broker_cli.agent.door import Door
from token_broker_cli.agent.metrics import Metrics
from token_broker_cli.agent.responses import AgentProblem, Response, header_lines, ok, problem, problem_of
from token_broker_client.cache import CachedToken, CacheKey
from token_broker_client.errors import BrokerRefused, TokenBrokerError
from token_broker_client.source import TokenSource

NAME: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
CONNECTION: Final = re.compile(rf"{NAME}/{NAME}")
TOKEN_ID: Final = re.compile(r"[0-9a-f]{16}")
ROUTE: Final = re.compile(
    rf"GET /(?P<simple>health|metrics)"
    rf"|GET /v1/(?P<get>tokens|headers)/(?P<name>{NAME}/{NAME})"
    rf"|POST /v1/tokens/(?P<reported>{NAME}/{NAME})/rejected"
)
LONGEST_SCOPE: Final = 1000
MAX_TTL_S: Final = 3600
LOG_EVERY_S: Final = 60.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """A received request. `target` is not decoded."""

    method: str
    target: str
    headers: "Message[str, str]" = field(repr=False)
    body: bytes = field(repr=False)


class Routes:
    """Responds to requests. `allowed`: the connections, as "provider/connection"; None: any."""

    def __init__(
        self,
        source: TokenSource,
        door: Door,
        allowed: Collection[str] | None,
        counters: Metrics,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock`: the one of `source`."""
        self._source = source
        self._door = door
        self._allowed = None if allowed is None else frozenset(allowed)
        self._metrics = counters
        self._clock = clock
        self._quiet_until: dict[type[TokenBrokerError], float] = {}

    def respond(self, request: Request) -> Response:
        """The response to any request."""
        path, _, query = request.target.partition("?")
        route = ROUTE.fullmatch(f"{request.method} {path}")
        try:
            self._door.check(request.headers)
            response = self._respond(route, query, request.body)
        except AgentProblem as error:
            response = problem(error)
        except TokenBrokerError as error:
            self._log(error)
            response = problem_of(error)
        except Exception as error:  # noqa: BLE001  # every request gets a response
            # A message or a traceback could hold a token.
            logger.error("internal_error: %s", type(error).__name__)
            response = problem(AgentProblem(500, "internal_error", "The agent failed."))
        self._metrics.count_request(_label(route), response.status)
        return response

    def _log(self, error: TokenBrokerError) -> None:
        """One line a minute for each kind of error that the program's response does not explain."""
        kind = type(error)
        now = self._clock()
        if not isinstance(error, BrokerRefused) and now >= self._quiet_until.get(kind, 0):
            self._quiet_until[kind] = now + LOG_EVERY_S
            logger.warning("no token: %s", error)

    def _respond(self, route: re.Match[str] | None, query: str, body: bytes) -> Response:
        if route is None:
            raise AgentProblem(404, "unknown_route", "There is no such route. docs/agent.md lists them.")
        if route["simple"] == "health":
            return ok({"status": "ok", "version": __version__})
        if route["simple"] == "metrics":
            return Response(200, metrics.CONTENT_TYPE, self._metrics.text(self._source.size).encode())
        key = self._key(route["name"] or route["reported"], query)
        if route["reported"]:
            other = self._source.obtain_other(key, _reported(body))
            if other is None:
                detail = "The broker has no other token. The API may have rejected this one for another reason."
                raise AgentProblem(409, "no_other_token", detail)
            return self._json(other)
        found = self._source.obtain(key, None)
        return self._json(found) if route["get"] == "tokens" else header_lines(found.token)

    def _json(self, found: CachedToken) -> Response:
        return ok(found.token.response(found.expires_at - self._clock()))

    def _key(self, name: str, query: str) -> CacheKey:
        if self._allowed is not None and name not in self._allowed:
            raise AgentProblem(403, "connection_not_allowed", f"The agent was not started with --allow {name}.")
        parameters = dict[str, str]()
        for field_name, value in parse_qsl(query, keep_blank_values=True):
            if field_name not in ("scope", "min_ttl") or field_name in parameters:
                raise _invalid("The query can have one scope and one min_ttl.")
            parameters[field_name] = value
        scope = parameters.get("scope")
        min_ttl = parameters.get("min_ttl")
        if scope is not None and not 0 < len(scope) <= LONGEST_SCOPE:
            raise _invalid(f"scope has 1 to {LONGEST_SCOPE} characters.")
        if min_ttl is not None and not (re.fullmatch(r"[0-9]{1,4}", min_ttl) and int(min_ttl) <= MAX_TTL_S):
            raise _invalid(f"min_ttl is a number of seconds, 0 to {MAX_TTL_S}.")
        provider, _, connection = name.partition("/")
        return CacheKey(provider, connection, scope, None if min_ttl is None else int(min_ttl))


def _reported(body: bytes) -> str:
    """The token_id that a report's body names, or that of the token in it."""
    try:
        report = json.loads(body)
    except (ValueError, RecursionError):
        report = None
    if isinstance(report, dict) and len(report) == 1:
        token_id = report.get("token_id")
        token = report.get("token")
        if isinstance(token_id, str) and TOKEN_ID.fullmatch(token_id):
            return token_id
        if isinstance(token, str) and token:
            return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()[:16]
    raise _invalid('The body is {"token_id": "<16 hex digits>"} or {"token": "<the token>"}.')


def _invalid(detail: str) -> AgentProblem:
    return AgentProblem(400, "invalid_request", detail)


def _label(route: re.Match[str] | None) -> str:
    if route is None:
        return "other"
    return route["simple"] or route["get"] or "rejected"
