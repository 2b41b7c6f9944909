"""Reads API Gateway's event: caller, path, query, body. Raises InvalidRequest with every fault."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver
from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.core.callers import Caller
from token_broker.core.names import NAME, TOKEN_ID, ConnectionName, is_name
from token_broker.core.validation import Fields
from token_broker.errors import FieldError, InvalidRequest

MAX_BODY = 128 * 1024
# Kept of the invocation's time for writing the response.
RESPONSE_TIME = timedelta(seconds=2)
SIGNATURE_PARAMETERS = re.compile(
    "x-amz-(algorithm|credential|date|expires|signedheaders|signature|security-token)", re.IGNORECASE
)


def caller(app: APIGatewayRestResolver) -> Caller:
    """The principal that API Gateway verified."""
    return Caller.from_event(app.current_event.raw_event["requestContext"]["identity"].get("userArn") or "")


def deadline(context: LambdaContext, now: datetime) -> datetime:
    """When the response must be ready."""
    return now + timedelta(milliseconds=context.get_remaining_time_in_millis()) - RESPONSE_TIME


def user_arn(app: APIGatewayRestResolver) -> str:
    """The full ARN of the principal that API Gateway verified, with the name of a role's session."""
    return app.current_event.raw_event["requestContext"]["identity"].get("userArn") or ""


def connection_name(app: APIGatewayRestResolver, provider: str, connection: str, **more: str) -> ConnectionName:
    """The connection in the path. IAM checked the raw path, so it must be exactly the one that the names make up.

    `more`: the path's other names.
    """
    name = ConnectionName.of(provider, connection)
    event = app.current_event
    path = str(event.raw_event.get("resource", ""))
    for given, value in {"provider": provider, "connection": connection, **more}.items():
        path = path.replace(f"{{{given}}}", value)
    if event.path != path:
        raise InvalidRequest(
            "The path must be written without percent-encoding and extra slashes.",
            errors=[FieldError("path", "is not canonical")],
        )
    return name


def query(app: APIGatewayRestResolver, **readers: Callable[[str], Any]) -> dict[str, Any]:
    """The parameters of the query, each given once. Its reader returns the value or raises ValueError with a reason."""
    values: Mapping[str, list[str]] = app.current_event.raw_event.get("multiValueQueryStringParameters") or {}
    if any(SIGNATURE_PARAMETERS.fullmatch(name) for name in values):
        raise InvalidRequest(
            "A signature in the query can be shared as a link. Sign in the Authorization header.",
            errors=[FieldError("query", "carries a signature")],
        )
    found: dict[str, Any] = {}
    faults = []
    for name, given in sorted(values.items()):
        try:
            if name not in readers:
                raise ValueError("is not a known parameter")
            if len(given) != 1:
                raise ValueError("is given more than once")
            found[name] = readers[name](given[0])
        except ValueError as error:
            faults.append(FieldError(name[:64], str(error)))
    if faults:
        raise InvalidRequest("The query is not well-formed.", errors=faults)
    return found


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers, in ASCII digits, from `low` to `high`."""

    def read(text: str) -> int:
        if not re.fullmatch(f"[0-9]{{1,{len(str(high))}}}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return read


def token_id(text: str) -> str:
    """A reader of `rejected`: the token_id of a token that the provider's API rejected."""
    if not TOKEN_ID.fullmatch(text):
        raise ValueError("must be a token_id: 16 lower-case hex digits")
    return text


def cursor(text: str) -> ConnectionName:
    """A reader of `cursor`: the last connection of the page before, as `responses.write_cursor` wrote it."""
    try:
        name = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        name = ""
    provider, _, connection = name.partition("/")
    if not is_name(provider) or not is_name(connection):
        raise ValueError("is not known")
    return ConnectionName(provider, connection)


def provider_name(text: str) -> str:
    """A reader of the name of a provider."""
    if not is_name(text):
        raise ValueError(f"must match {NAME.pattern}")
    return text


def one_of(words: Sequence[str]) -> Callable[[str], str]:
    """A reader of one of a few words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return read


def flag(text: str) -> bool:
    """A reader of `true` and `false`."""
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def read_body(app: APIGatewayRestResolver) -> Any:
    """The JSON value of the body."""
    raw = app.current_event.raw_event
    text = raw.get("body") or ""
    if len(text.encode(errors="replace")) > MAX_BODY:
        raise InvalidRequest("The body is too long.", errors=[FieldError("body", f"is over {MAX_BODY} bytes")])
    try:
        return json.loads(base64.b64decode(text, validate=True) if raw.get("isBase64Encoded") else text)
    except (ValueError, RecursionError):
        raise InvalidRequest("The body is not JSON.", errors=[FieldError("body", "is not JSON")]) from None


@contextmanager
def body_fields(app: APIGatewayRestResolver) -> Iterator[Fields]:
    """The fields of the body, which may be missing. Afterwards raises InvalidRequest with every fault."""
    body = read_body(app) if app.current_event.raw_event.get("body") else {}
    if not isinstance(body, Mapping):
        raise InvalidRequest("The body must be a JSON object.", errors=[FieldError("body", "must be an object")])
    fields = Fields(body)
    yield fields
    fields.fault_unknown_fields()
    if fields.faults:
        raise InvalidRequest("The body is not well-formed.", errors=fields.faults)


def read_preconditions(app: APIGatewayRestResolver) -> tuple[str | None, bool]:
    """The version in `If-Match`, and whether `If-None-Match: *` is sent (RFC 9110 section 13.1)."""
    headers = {name.lower(): value for name, value in (app.current_event.headers or {}).items()}
    match = headers.get("if-match")
    none_match = headers.get("if-none-match")
    if none_match is not None and (none_match.strip() != "*" or match is not None):
        raise InvalidRequest(
            "If-None-Match must be *, without If-Match.", errors=[FieldError("If-None-Match", "must be *")]
        )
    if match is None:
        return None, none_match is not None
    return match.strip().removeprefix("W/").strip('"'), False
