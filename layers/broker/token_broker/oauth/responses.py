"""Reads a token endpoint's response: the token and the error code.

A provider's free text never leaves this module.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from token_broker.core.providers import KNOWN_ERRORS, BaseUrlSpec, ExpirySpec, Path, ResponseSpec
from token_broker.core.validation import absolute_url
from token_broker.oauth.exchange import HttpResponse

MAX_TOKEN_CHARACTERS = 16 * 1024
MAX_FORM_FIELDS = 100
MAX_SECONDS = 10 * 365 * 86_400
# RFC 6749's field first, then what other servers write for it.
EXPIRY_FIELDS = ("expires_in", "expiresIn", "expires", "expires_at", "expiresAt", "expires_on")
# Numbers below are seconds (31 years). Numbers from here on are seconds since 1970: all below were over in 2001.
FIRST_EPOCH_SECOND = 10**9
FIRST_EPOCH_MILLISECOND = 10**11
# The forms of an expiry that are durations, in seconds.
UNITS_S = {"seconds": 1.0, "ms": 0.001, "minutes": 60.0}
# A Date has whole seconds, and an exchange takes up to 8 s: 10 s more than the 5 min that clocks may differ.
MAX_CLOCK_DIFFERENCE = timedelta(minutes=5, seconds=10)
# VSCHAR of RFC 6749 appendix A. A header would lose a space at either end.
_TOKEN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class IssuedRefreshToken:
    """A refresh token as the provider issued it. `expires_at`: the earliest moment that is known, if any."""

    value: str = field(repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token as the provider issued it. Durations in seconds; `provider_now` is the response's Date.

    `expires_in` 0: it expires now. `expires_at`: the moment of expiry, if the response states one. So
    `refresh_expires_in` and `refresh_expires_at` for the refresh token, if the provider's file says where they stand.
    """

    access_token: str = field(repr=False)
    expires_in: float | None
    refresh_in: float | None
    scope: str | None
    refresh_token: str | None = field(repr=False)
    provider_now: datetime | None
    expires_at: datetime | None = None
    refresh_expires_in: float | None = None
    refresh_expires_at: datetime | None = None
    api_base_url: str | None = None

    def issued_refresh_token(self, now: datetime) -> IssuedRefreshToken | None:
        """The refresh token, if there is one."""
        if self.refresh_token is None:
            return None
        return IssuedRefreshToken(self.refresh_token, self.refresh_token_expires_at(now))

    def refresh_token_expires_at(self, now: datetime) -> datetime | None:
        """When the refresh token expires: the earliest that the response and the token itself say, if anything."""
        moments = [self.refresh_expires_at, jwt_expiry(self.refresh_token or "")]
        if self.refresh_expires_in is not None:
            moments.append(now + timedelta(seconds=self.refresh_expires_in))
        return min((moment for moment in moments if moment is not None), default=None)


class UnusableResponse(Exception):
    """A 2xx response is not a usable token. The reason is our own text and quotes nothing."""


def response_object(response: HttpResponse) -> Mapping[str, Any] | None:
    """The fields in a body; None if there are none.

    A JSON object is read whatever content type and charset say, a form only where the content type says so (GitHub).
    """
    text = _decoded(response)
    try:
        data = json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        return _form_object(text) if _is_form(response) else None
    return data if isinstance(data, dict) else None


def _decoded(response: HttpResponse) -> str:
    try:
        return response.body.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Some servers send ISO-8859-1. Every byte decodes, and only ASCII values are accepted later.
        return response.body.decode("iso-8859-1")


def _is_form(response: HttpResponse) -> bool:
    media_type = response.headers.get("content-type", "").partition(";")[0]
    return media_type.strip().lower() == "application/x-www-form-urlencoded"


def _form_object(text: str) -> Mapping[str, Any] | None:
    try:
        return dict(parse_qsl(text.strip(), keep_blank_values=True, max_num_fields=MAX_FORM_FIELDS)) or None
    except ValueError:
        return None


def value_at(data: Any, path: Path) -> Any:
    """The value at a path; None where there is none."""
    for step in path:
        if isinstance(data, Mapping):
            data = data.get(step)
        elif isinstance(data, list) and step.isdecimal() and int(step) < len(data):
            data = data[int(step)]
        else:
            return None
    return data


def error_code(data: Mapping[str, Any] | None, spec: ResponseSpec) -> str | None:
    """The provider's error code: one of KNOWN_ERRORS, `unrecognised` for any other, None for none.

    The provider's file says what the vendor's own codes mean, and where they stand besides the usual places: RFC 6749
    section 5.2; Commerce Layer's `errors` (a list or one object); Ucommerce's `errors`; Unicommerce's `status`.
    """
    candidates = list(_error_candidates(data or {}))
    own = value_at(data, spec.error) if spec.error is not None else None
    if isinstance(own, (str, int, float)) and not isinstance(own, bool) and own != "":
        candidates.insert(0, str(own))
    found = [spec.errors.get(text) or text.strip().lower().replace(" ", "_") for text in candidates]
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


def read_token(response: HttpResponse, spec: ResponseSpec) -> IssuedToken:
    """The token in a 2xx response. Raises UnusableResponse with a reason."""
    data: Mapping[str, Any]
    if spec.token:
        found = response_object(response)
        if found is None:
            raise UnusableResponse("the response is not a JSON object")
        data = found
        token = value_at(found, spec.token)
    else:
        data = {}
        token = _whole_body(response)
    if spec.success is not None:
        path, wanted = spec.success
        if not _is_same(value_at(data, path), wanted):
            raise UnusableResponse(f"{'.'.join(path)} is not {json.dumps(wanted)}")
    token = _checked_token(token, ".".join(spec.token) or "the body")
    _check_token_type(data.get("token_type"), spec)
    expires_in, expires_at = _expiry(data, spec)
    refresh_in, refresh_at = _one_expiry(data, spec.refresh_expiry, spec) if spec.refresh_expiry else (None, None)
    refresh = value_at(data, spec.refresh_token) if spec.refresh_token is not None else None
    return IssuedToken(
        access_token=token,
        expires_in=expires_in,
        expires_at=expires_at,
        refresh_in=_positive_seconds(data.get("refresh_in")),
        scope=_granted_scope(value_at(data, spec.scope), spec.scope_separator),
        # A refresh token that no request can carry is ignored. The grant starts anew instead.
        refresh_token=refresh if _is_token(refresh) else None,
        refresh_expires_in=refresh_in,
        refresh_expires_at=refresh_at,
        api_base_url=_api_base_url(data, spec.base_url) if spec.base_url is not None else None,
        provider_now=_date(response.headers),
    )


def refresh_token_in(response: HttpResponse, spec: ResponseSpec, now: datetime) -> IssuedRefreshToken | None:
    """The refresh token in a 2xx response whose access token cannot be used; None without one."""
    data = response_object(response)
    value = value_at(data, spec.refresh_token) if spec.refresh_token is not None else None
    if data is None or not isinstance(value, str) or not _is_token(value):
        return None
    moments = [jwt_expiry(value)]
    if spec.refresh_expiry is not None:
        with suppress(UnusableResponse):
            lifetime_s, moment = _one_expiry(data, spec.refresh_expiry, spec)
            moments += [moment, now + timedelta(seconds=lifetime_s) if lifetime_s is not None else None]
    return IssuedRefreshToken(value, min((moment for moment in moments if moment is not None), default=None))


def _api_base_url(data: Mapping[str, Any], spec: BaseUrlSpec) -> str:
    """The base URL of the vendor's API. Callers send the token there, so the host must be one of the file's."""
    name = ".".join(spec.path)
    value = value_at(data, spec.path)
    try:
        url = absolute_url(value)
    except ValueError as error:
        raise UnusableResponse(f"{name} {error}") from None
    parts = urlsplit(url)
    if parts.port is not None or ":" in parts.netloc or not spec.allows(parts.netloc):
        raise UnusableResponse(f"{name} is not at a host of the provider's file")
    return url


def _whole_body(response: HttpResponse) -> Any:
    """A body that is nothing but the token: a JSON string, or text."""
    text = _decoded(response).strip()
    if not text.startswith(('"', "{", "[", "<")):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_same(value: Any, wanted: Any) -> bool:
    """Equal and of one type: JSON's true is not 1."""
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)


def jwt_expiry(token: str) -> datetime | None:
    """The `exp` of a token that decodes as a JWT (RFC 7519 section 4.1.4), not verified; None for any other."""
    exp = (jwt_claims(token) or {}).get("exp")
    if not isinstance(exp, (int, float)) or isinstance(exp, bool):
        return None
    try:
        return datetime.fromtimestamp(exp, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def jwt_claims(token: str) -> Mapping[str, Any] | None:
    """The claims of a token that decodes as a JWT, not verified; None for any other."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def http_date(text: str) -> datetime | None:
    """An HTTP date (RFC 9110 section 5.6.7); None for any other text."""
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """`Retry-After` in seconds or as a date (RFC 9110 section 10.2.3), else `retry-after-ms`; None if neither is valid.

    Some servers send a decimal number. It is rounded up to whole seconds.
    """
    text = headers.get("retry-after", "").strip()
    moment = http_date(text) if text else None
    if moment is not None:
        return max(moment - clock_of(_date(headers), now), timedelta())
    for value, unit in ((text, 1), (headers.get("retry-after-ms", "").strip(), 1000)):
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", value):
            return timedelta(seconds=math.ceil(float(value) / unit))
    return None


def has_retry_after(headers: Mapping[str, str]) -> bool:
    """Whether the provider asks to wait, even if it cannot be read for how long."""
    return "retry-after" in headers or "retry-after-ms" in headers


def clock_of(provider_now: datetime | None, now: datetime) -> datetime:
    """The provider's clock, else ours: a Date that is more than 5 min from our clock is not believed."""
    if provider_now is None or abs(provider_now - now) > MAX_CLOCK_DIFFERENCE:
        return now
    return provider_now


def _date(headers: Mapping[str, str]) -> datetime | None:
    """When the response was made. None from a cache (`Age`), which repeats the Date of an older response."""
    return None if "age" in headers else http_date(headers.get("date", ""))


def _check_token_type(value: Any, spec: ResponseSpec) -> None:
    """Raises UnusableResponse for a token that is not to be sent as bearer. A missing type means bearer."""
    if spec.token_types is None or value is None or value == "":
        return
    accepted = {"bearer", *(name.lower() for name in spec.token_types)}
    if not isinstance(value, str) or value.lower() not in accepted:
        raise UnusableResponse(
            "token_type is not bearer. The setting token_type, or token_types in the provider's file, names what else "
            "is accepted"
        )


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


def _expiry(data: Mapping[str, Any], spec: ResponseSpec) -> tuple[float | None, datetime | None]:
    """The shortest lifetime in seconds and the earliest moment of expiry that the response states.

    If the provider's file names a field, only that one counts. Else a value of `expires_in` always counts, and another
    field counts unless it is invalid or 0 while a better one is there.
    """
    if spec.expiry is not None:
        return _one_expiry(data, spec.expiry, spec)
    read = {name: _duration_or_moment(data[name]) for name in EXPIRY_FIELDS if data.get(name) not in (None, "")}
    if spec.zero_means_never:
        read = {name: MAX_SECONDS if value == 0 else value for name, value in read.items()}
    counting = {name: value for name, value in read.items() if value or name == "expires_in"} or read
    for name, value in counting.items():
        if value is None:
            raise UnusableResponse(f"{name} is not a positive number")
    durations = [value for value in counting.values() if isinstance(value, (int, float))]
    moments = [value for value in counting.values() if isinstance(value, datetime)]
    return min(durations, default=None), min(moments, default=None)


def _one_expiry(
    data: Mapping[str, Any], expiry: ExpirySpec, spec: ResponseSpec
) -> tuple[float | None, datetime | None]:
    """A lifetime or a moment as the provider's file describes it; neither, if the field is missing."""
    value = value_at(data, expiry.path) if expiry.form != "none" else None
    if value is None or value == "":
        return None, None
    found = _in_form(value, expiry.form)
    if found is None:
        raise UnusableResponse(f"{'.'.join(expiry.path)} is not of the form {expiry.form}")
    if isinstance(found, datetime):
        return None, found
    return (MAX_SECONDS if found == 0 and spec.zero_means_never else found), None


def _in_form(value: Any, form: str) -> float | datetime | None:
    if form == "iso":
        return _moment(value) if isinstance(value, str) else None
    number = _number(value)
    if number is None or number < 0:
        return None
    if form in UNITS_S:
        return min(number * UNITS_S[form], MAX_SECONDS)
    return _epoch(number / 1000 if form == "epoch_ms" else number)


def _duration_or_moment(value: Any) -> float | datetime | None:
    """A lifetime in seconds or a moment of expiry; None for a value that is neither.

    Numbers may be text (Entra's v1 endpoints send text). Other text is ISO 8601 or an HTTP date.
    """
    number = _number(value)
    if number is None:
        return _moment(value) if isinstance(value, str) else None
    if number < 0:
        return None
    if number < FIRST_EPOCH_SECOND:
        return number
    return _epoch(number if number < FIRST_EPOCH_MILLISECOND else number / 1000)


def _epoch(seconds: float) -> float | datetime:
    """A moment in seconds since 1970. One that no calendar holds is a long lifetime."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return MAX_SECONDS


def _moment(text: str) -> datetime | None:
    """A moment in ISO 8601 or as an HTTP date. Without a time zone it is in UTC."""
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return http_date(text)


def _number(value: Any) -> float | None:
    """A finite number, or text that holds one."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    except OverflowError:
        return float(MAX_SECONDS)
    return number if math.isfinite(number) else None


def _positive_seconds(value: Any) -> float | None:
    number = _number(value)
    return min(number, MAX_SECONDS) if number is not None and number > 0 else None


def _granted_scope(value: Any, separator: str) -> str | None:
    """The granted scope: text (RFC 6749) or a list. Any other value counts as missing."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = " ".join(value)
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_TOKEN_CHARACTERS or not value.isascii():
        return None
    if not value.isprintable():
        return None
    return " ".join(sorted(set(value.replace(separator, " ").split()))) or None


def _reject_constant(_constant: str) -> float:
    raise ValueError("NaN and Infinity are not JSON")
