"""Reads a token endpoint's response: the token and the error code.

A provider's free text never leaves this module.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

from token_broker.core.providers import Provider
from token_broker.oauth.exchange import HttpResponse

MAX_TOKEN_CHARACTERS = 16 * 1024
MAX_FORM_FIELDS = 100
MAX_SECONDS = 10 * 365 * 86_400
# VSCHAR of RFC 6749 appendix A. A header would lose a space at either end.
_TOKEN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")

KNOWN_ERRORS = frozenset(
    "invalid_client unauthorized_client invalid_credentials invalid_scope scope_invalid invalid_target invalid_request"
    " unsupported_grant_type invalid_grant server_error temporarily_unavailable invalid_token_reuse access_denied"
    " unsupported_response_type unsupported_token_type failed".split()
)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token as the provider issued it. Durations in seconds; `provider_now` is the response's Date."""

    access_token: str = field(repr=False)
    expires_in: float | None
    refresh_in: float | None
    scope: str | None
    refresh_token: str | None = field(repr=False)
    provider_now: datetime | None


class UnusableResponse(Exception):
    """A 2xx response is not a usable token. The reason is our own text and quotes nothing."""


def response_object(response: HttpResponse) -> Mapping[str, Any] | None:
    """The fields in a body; None if there are none.

    A JSON object is read whatever content type and charset say, a form only where the content type says so (GitHub).
    """
    try:
        text = response.body.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Some servers send ISO-8859-1. Every byte decodes, and only ASCII values are accepted later.
        text = response.body.decode("iso-8859-1")
    try:
        data = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        return _form_object(text) if _is_form(response) else None
    return data if isinstance(data, dict) else None


def _is_form(response: HttpResponse) -> bool:
    media_type = response.headers.get("content-type", "").partition(";")[0]
    return media_type.strip().lower() == "application/x-www-form-urlencoded"


def _form_object(text: str) -> Mapping[str, Any] | None:
    try:
        return dict(parse_qsl(text.strip(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)) or None
    except ValueError:
        return None


def error_code(data: Mapping[str, Any] | None) -> str | None:
    """The provider's error code in lower case: one of KNOWN_ERRORS, `unrecognised` for any other, None for none.

    Shapes: RFC 6749 section 5.2; Commerce Layer's `errors` (a list or one object); Ucommerce's `errors`; Unicommerce's
    `status`.
    """
    found = [str(candidate).strip().lower().replace(" ", "_") for candidate in _error_candidates(data or {})]
    known = [candidate for candidate in found if candidate in KNOWN_ERRORS]
    return known[0] if known else ("unrecognised" if found else None)


def _error_candidates(data: Mapping[str, Any]) -> Iterator[str]:
    entries: list[Any] = [data]
    errors = data.get("errors")
    entries += errors if isinstance(errors, list) else [errors]
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            for name in ("error", "code", "errorCode", "title"):
                if isinstance(entry.get(name), str) and entry[name]:
                    yield entry[name]
    status = data.get("status")
    if isinstance(status, str) and status.lower() in KNOWN_ERRORS:
        yield status


def read_token(response: HttpResponse, provider: Provider) -> IssuedToken:
    """The token in a 2xx response. Raises UnusableResponse with a reason."""
    data = response_object(response)
    if data is None:
        raise UnusableResponse("the response is not a JSON object")
    spec = provider.response
    if spec.success_field is not None and data.get(spec.success_field) != spec.success_value:
        raise UnusableResponse(f"{spec.success_field} is not {spec.success_value}")
    token = _checked_token(data.get(spec.token), spec.token)
    token_type = data.get("token_type") or provider.token_type
    is_bearer = isinstance(token_type, str) and token_type.lower() == "bearer"
    if not is_bearer and provider.token_type == "Bearer":  # noqa: S105  # a type's name
        raise UnusableResponse("token_type is not bearer")
    refresh = data.get("refresh_token")
    return IssuedToken(
        access_token=token,
        expires_in=_seconds(data.get("expires_in"), "expires_in"),
        refresh_in=_seconds(data.get("refresh_in"), None),
        scope=_granted_scope(data.get("scope")),
        # A refresh token that no request can carry is ignored. The grant starts anew instead.
        refresh_token=refresh if _is_token(refresh) else None,
        provider_now=http_date(response.headers.get("date", "")),
    )


def jwt_expiry(token: str) -> datetime | None:
    """The `exp` of a token that decodes as a JWT (RFC 7519 section 4.1.4), not verified; None for any other."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        exp = payload["exp"]
        return datetime.fromtimestamp(exp, UTC) if isinstance(exp, (int, float)) and not isinstance(exp, bool) else None
    except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
        return None


def http_date(text: str) -> datetime | None:
    """An HTTP date (RFC 9110 section 5.6.7); None for any other text."""
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """`Retry-After` in seconds or as a date (RFC 9110 section 10.2.3); None if it is absent or invalid."""
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return timedelta(seconds=int(text))
    moment = http_date(text) if text else None
    if moment is None:
        return None
    # The date is by the provider's clock, so it is compared with the response's Date.
    return max(moment - (http_date(headers.get("date", "")) or now), timedelta())


def _checked_token(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise UnusableResponse(f"{name} is missing")
    if not _is_token(value):
        raise UnusableResponse(
            f"{name} is longer than {MAX_TOKEN_CHARACTERS} characters or has characters that no header can hold"
        )
    return value


def _is_token(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TOKEN_CHARACTERS and _TOKEN.fullmatch(value) is not None


def _seconds(value: Any, name: str | None) -> float | None:
    """Seconds, as a number or as text (Entra's v1 endpoints send text). Without `name`, an invalid value is None."""
    if value is None or value == "":
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds) or seconds <= 0:
        if name is None:
            return None
        raise UnusableResponse(f"{name} is not a positive number")
    return min(seconds, MAX_SECONDS)


def _granted_scope(value: Any) -> str | None:
    """The granted scope: text (RFC 6749) or a list. Any other value counts as missing."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = " ".join(value)
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_TOKEN_CHARACTERS or not value.isascii():
        return None
    return " ".join(sorted(set(value.split()))) if value.isprintable() else None


def _reject_constant(_constant: str) -> float:
    raise ValueError("NaN and Infinity are not JSON")
