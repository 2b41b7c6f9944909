"""The HTTP edge: what API Gateway hands over, checked; errors as problem+json (RFC 9457) with a stable code."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from token_broker.core.callers import Caller
from token_broker.core.names import TOKEN_ID, ConnectionName, is_name
from token_broker.errors import (
    AcquisitionInProgress,
    BrokerError,
    BrokerUnavailable,
    CallerNotAllowed,
    ConnectionMisconfigured,
    ConnectionSuspended,
    FieldError,
    InvalidRequest,
    ProviderInvalidResponse,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
    ScopeNotAllowed,
    TooManyRejections,
    TooManyScopeSets,
    TooManyTrials,
    UnknownConnection,
    UnknownProvider,
    VersionConflict,
    WouldRevoke,
)
from token_broker.observability import audit, count, logger, unexpected

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
MAX_BODY = 128 * 1024
# What is kept of the invocation's time for the answer itself.
ANSWER_TIME = timedelta(seconds=2)
OUR_FAULT_RETRY = timedelta(seconds=5)

STATUS: Mapping[type[BrokerError], int] = {
    InvalidRequest: 400,
    CallerNotAllowed: 403,
    ScopeNotAllowed: 403,
    UnknownProvider: 404,
    UnknownConnection: 404,
    ConnectionSuspended: 409,
    ConnectionMisconfigured: 409,
    WouldRevoke: 409,
    TooManyScopeSets: 409,
    VersionConflict: 412,
    TooManyRejections: 429,
    TooManyTrials: 429,
    ProviderRefused: 502,
    ProviderInvalidResponse: 502,
    ProviderUnavailable: 503,
    ProviderRateLimited: 503,
    AcquisitionInProgress: 503,
    BrokerUnavailable: 503,
}
SIGNATURE_PARAMETERS = re.compile(
    "x-amz-(algorithm|credential|date|expires|signedheaders|signature|security-token)", re.IGNORECASE
)


def new_resolver() -> APIGatewayRestResolver:
    """A resolver whose every error is problem+json."""
    app = APIGatewayRestResolver()

    @app.exception_handler(BrokerError)  # type: ignore[untyped-decorator]  # Powertools does not type it
    def known(error: BrokerError) -> Response[str]:
        return _problem(app, error)

    @app.exception_handler(Exception)  # type: ignore[untyped-decorator]  # as above
    def unknown(error: Exception) -> Response[str]:
        logger.error("internal_error", extra=unexpected(error))
        record(app, "refused", decision="internal_error")
        count("InternalErrors")
        return problem(500, "internal_error", "The broker failed", "The log has the cause, under this request's id.")

    @app.not_found
    def no_route(_error: Exception) -> Response[str]:
        return _problem(app, InvalidRequest("There is no such route."))

    return app


def reply(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response[str]:
    """A successful answer. Never stored by anything on the way."""
    return Response(status, "application/json", json.dumps(body), headers={**NO_STORE, **(headers or {})})


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    retry_after: timedelta | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Response[str]:
    """An answer of RFC 9457 with our `code`."""
    body = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail, **(extra or {})}
    headers = dict(NO_STORE)
    if retry_after is not None:
        headers["Retry-After"] = str(max(math.ceil(retry_after.total_seconds()), 1))
    return Response(status, "application/problem+json", json.dumps(body), headers=headers)


def _problem(app: APIGatewayRestResolver, error: BrokerError) -> Response[str]:
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    extra: dict[str, Any] = {}
    if error.errors:
        extra["errors"] = [{"field": fault.field, "reason": fault.reason} for fault in error.errors]
    if error.provider_error is not None:
        extra["provider_error"] = error.provider_error
    record(
        app,
        "refused",
        decision=error.code,
        detail=error.detail,
        provider_error=error.provider_error,
        service_code=getattr(error, "service_code", None),
    )
    count("Refusals", code=error.code)
    retry_after = error.retry_after or (OUR_FAULT_RETRY if isinstance(error, BrokerUnavailable) else None)
    if isinstance(error, ProviderRefused):
        # Somebody has to change something: waiting alone does not help.
        retry_after = None
    return problem(status, error.code, error.title, error.detail, retry_after=retry_after, extra=extra)


def record(app: APIGatewayRestResolver, event: str, *, decision: str, **facts: Any) -> None:
    """One line of the audit: who asked, for which connection, under which request id, and what was decided.

    `request_id` is API Gateway's, which the caller has as x-amzn-RequestId.
    """
    sent = app.current_event.raw_event
    context, names = sent["requestContext"], sent.get("pathParameters") or {}
    audit(
        event,
        decision=decision,
        caller=context["identity"].get("userArn"),
        request_id=context.get("requestId"),
        function_request_id=app.lambda_context.aws_request_id,
        provider=_name(names.get("provider")),
        connection=_name(names.get("connection")),
        **facts,
    )


def _name(text: Any) -> Any:
    """What is no name is not written down."""
    return text if is_name(text) else None


def caller(app: APIGatewayRestResolver) -> Caller:
    """Who API Gateway verified; a header never counts."""
    return Caller.seen(app.current_event.raw_event["requestContext"]["identity"].get("userArn") or "")


def deadline(context: LambdaContext, now: datetime) -> datetime:
    """Until when an answer must be there."""
    return now + timedelta(milliseconds=context.get_remaining_time_in_millis()) - ANSWER_TIME


def connection_name(app: APIGatewayRestResolver, provider: str, connection: str) -> ConnectionName:
    """The connection of the path. IAM judged the path as it was sent: it must be the one that the names make up."""
    name = ConnectionName.of(provider, connection)
    event = app.current_event
    template = str(event.raw_event.get("resource", ""))
    if event.path != template.replace("{provider}", provider).replace("{connection}", connection):
        raise InvalidRequest("The path is not in its plain form.", errors=[FieldError("path", "is not canonical")])
    return name


def query(app: APIGatewayRestResolver, **readers: Callable[[str], Any]) -> dict[str, Any]:
    """The query's parameters, each given once and read by its reader, which raises ValueError with a reason.

    Raises InvalidRequest with every fault.
    """
    values: Mapping[str, list[str]] = app.current_event.raw_event.get("multiValueQueryStringParameters") or {}
    if any(SIGNATURE_PARAMETERS.fullmatch(name) for name in values):
        raise InvalidRequest(
            "A signature in the query makes a link that can be shared: sign in the Authorization header.",
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
    """A reader of `rejected`: the token_id of a token that the provider's API refused."""
    if not TOKEN_ID.fullmatch(text):
        raise ValueError("must be a token_id: 16 lower-case hex digits")
    return text


def flag(text: str) -> bool:
    """A reader of `true` and `false`."""
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def read_body(app: APIGatewayRestResolver) -> Any:
    """The JSON value of the body. Raises InvalidRequest."""
    raw = app.current_event.raw_event
    text = raw.get("body") or ""
    if len(text.encode(errors="replace")) > MAX_BODY:
        raise InvalidRequest("The body is too long.", errors=[FieldError("body", f"is over {MAX_BODY} bytes")])
    try:
        return json.loads(base64.b64decode(text, validate=True) if raw.get("isBase64Encoded") else text)
    except (ValueError, RecursionError):
        raise InvalidRequest("The body is not JSON.", errors=[FieldError("body", "is not JSON")]) from None


def read_versions(app: APIGatewayRestResolver) -> tuple[str | None, bool]:
    """`If-Match` as a version or ANY_VERSION, and whether `If-None-Match: *` asks for there to be none.

    RFC 9110 section 13.1.
    """
    headers = {name.lower(): value for name, value in (app.current_event.headers or {}).items()}
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if none_match is not None and (none_match.strip() != "*" or match is not None):
        raise InvalidRequest(
            "If-None-Match can only be *, without If-Match.", errors=[FieldError("If-None-Match", "must be *")]
        )
    if match is None:
        return None, none_match is not None
    return match.strip().removeprefix("W/").strip('"'), False
