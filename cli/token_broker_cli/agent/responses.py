"""Responses: tokens, header lines, and problem documents (RFC 9457) with a stable code.

The broker's own problem documents are passed on. The agent adds these codes:

    not_local                 403  a browser sent the request, a proxy forwarded it, or it names another host
    wrong_password            403  the header with the agent's password is missing or wrong
    connection_not_allowed    403  the agent was not started with --allow for this connection
    unknown_route             404  no such path, or another method
    no_other_token            409  a token was reported, and the broker has no other one
    broker_invalid_response   502  the response is not the broker's, or holds what a header cannot have
    broker_unreachable        503  no response from the broker in time
    agent_not_configured      500  no URL, region or AWS credentials
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from token_broker_client.errors import BrokerRefused, BrokerUnreachable, ClientNotConfigured, TokenBrokerError
from token_broker_client.tokens import Token

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
TEXT: Final = "text/plain; charset=utf-8"
RETRY_UNREACHABLE_S: Final = 5


@dataclass(frozen=True)
class Response:
    """A response. `body` can hold a token."""

    status: int
    content_type: str
    body: bytes = field(repr=False)
    retry_after: int | None = None


class AgentProblem(Exception):
    """The agent refuses the request. Holds no secret."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


def ok(body: Mapping[str, Any]) -> Response:
    """The JSON object."""
    return Response(200, JSON, json.dumps(body).encode())


def header_lines(token: Token) -> Response:
    """The headers to send to the provider's API, each on a line, as `curl -H @-` reads them. Raises AgentProblem."""
    lines = [f"{name}: {value}" for name, value in token.headers.items()]
    if not all(line.isprintable() for line in lines):
        raise AgentProblem(502, "broker_invalid_response", "A header of the token has a control character.")
    return Response(200, TEXT, "".join(f"{line}\n" for line in lines).encode())


def problem(error: AgentProblem) -> Response:
    """The agent's own problem document."""
    return _problem(error.status, {"code": error.code, "detail": error.detail})


def problem_of(error: TokenBrokerError) -> Response:
    """The broker's problem document as it came, or one that says why there is none."""
    if isinstance(error, BrokerRefused):
        if error.status < 400 or "code" not in error.problem:
            detail = f"The response with status {error.status} is not the broker's. Is the URL right?"
            return problem(AgentProblem(502, "broker_invalid_response", detail))
        return _problem(error.status, error.problem, error.retry_after)
    if isinstance(error, BrokerUnreachable):
        detail = "The broker did not respond in time."
        return _problem(503, {"code": "broker_unreachable", "detail": detail}, RETRY_UNREACHABLE_S)
    if isinstance(error, ClientNotConfigured):
        return problem(AgentProblem(500, "agent_not_configured", "The agent has no URL, region or AWS credentials."))
    raise error


def _problem(status: int, fields: Mapping[str, Any], retry_after: float | None = None) -> Response:
    title = str(fields["code"]).replace("_", " ").capitalize()
    body = {"type": "about:blank", "title": title, "status": status, **fields}
    return Response(status, PROBLEM, json.dumps(body).encode(), None if retry_after is None else math.ceil(retry_after))
