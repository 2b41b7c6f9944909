"""How a person's consent is obtained: the redirect that comes back, the code's exchange, and the device flow.

A flow is a generator, as a grant's is (see `token_broker.oauth.grants`).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials
from token_broker.core.providers import AccountSpec, ConsentSpec, ResponseSpec
from token_broker.core.templates import as_text
from token_broker.core.validation import absolute_url
from token_broker.errors import FieldError, InvalidRequest
from token_broker.oauth.exchange import HttpRequest, HttpResponse, TransportError
from token_broker.oauth.grants import GrantFailed, issued_token, leads_to, redirect_query, sent
from token_broker.oauth.outcomes import unusable_response
from token_broker.oauth.requests import GrantRequest, consent_code_request, device_code_request, device_request
from token_broker.oauth.responses import IssuedToken, error_code, jwt_claims, response_object, value_at

MAX_REDIRECT_CHARACTERS = 8192
MAX_CODE_CHARACTERS = 4096
# The states that we make have 43 characters.
STATE = re.compile(r"[A-Za-z0-9_-]{43}")
# VSCHAR of RFC 6749 appendix A.11, without the space at either end that no code has.
_CODE = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
_URL = re.compile(r"[\x21-\x7e]+")
_ACCOUNT = re.compile(r"[\x21-\x7e]{1,200}")
_USER_CODE = re.compile(r"[A-Za-z0-9-]{1,32}")
LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\]):([0-9]{1,5})(/[A-Za-z0-9/_-]{0,100})?")
MAX_PORT = 65535
# RFC 8628 section 3.2
DEFAULT_INTERVAL_S = 5
MAX_INTERVAL_S = 60
MAX_DEVICE_LIFETIME = timedelta(minutes=30)


def code_challenge(verifier: str) -> str:
    """RFC 7636 section 4.2, S256."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def loopback_uri(value: str) -> str:
    """A redirect URI on the person's own machine (RFC 8252 section 7.3). Raises ValueError with the reason."""
    match = LOOPBACK.fullmatch(value)
    if match is None or not 1 <= int(match[2]) <= MAX_PORT:
        raise ValueError("must be http://127.0.0.1:PORT/path or http://[::1]:PORT/path")
    return value


# ----------------------------------------------------------------- the redirect that comes back


@dataclass(frozen=True, slots=True)
class Redirect:
    """What a redirect brought. Nobody has checked yet whose it is.

    `error`: one of the known codes, or `unrecognised`; then there is no code. `iss`: RFC 9207. `kept`: the values that
    the provider's file keeps, each as its pattern wants it.
    """

    state: str = field(repr=False)
    iss: str | None
    code: str | None = field(repr=False)
    error: str | None
    kept: Mapping[str, str] = field(default_factory=dict)


def redirect_pairs(redirect_url: str, redirect_uri: str) -> list[tuple[str, str]]:
    """The query of a redirect that goes to `redirect_uri`. Raises InvalidRequest, which repeats nothing of it."""
    reason = None
    if len(redirect_url) > MAX_REDIRECT_CHARACTERS:
        reason = f"is longer than {MAX_REDIRECT_CHARACTERS} characters"
    elif not _URL.fullmatch(redirect_url):
        reason = "has a character that does not belong into a URL"
    elif not leads_to(redirect_url, redirect_uri):
        reason = "does not go to the redirect_uri of this consent"
    if reason is not None:
        raise _refused(FieldError("redirect_url", reason))
    return redirect_query(redirect_url)


def read_redirect(pairs: Sequence[tuple[str, str]], spec: ConsentSpec, response: ResponseSpec) -> Redirect:
    """The parameters of a redirect (RFC 6749 section 4.1.2). None of those that are used may be given twice.

    Raises InvalidRequest that names every fault and repeats no value.
    """
    names = ("state", "iss", "error", spec.code_param, *spec.keep)
    found = {name: [value for given, value in pairs if given == name] for name in names}
    faults = [FieldError(name, "is given more than once") for name, values in found.items() if len(values) > 1]
    state, iss, error, code = (next(iter(found[name]), None) for name in ("state", "iss", "error", spec.code_param))
    if state is None or not STATE.fullmatch(state):
        faults.append(FieldError("state", "is not one of this broker"))
    kept = {name: next(iter(found[name]), "") for name in spec.keep}
    if error is not None:
        # Whatever else stands there: an error is no consent.
        code = None
        kept = {}
    else:
        if code is None or len(code) > MAX_CODE_CHARACTERS or not _CODE.fullmatch(code):
            faults.append(FieldError(spec.code_param, "is not a code"))
        faults += [
            FieldError(name, "is missing" if not kept[name] else "is not of the form that the provider's file says")
            for name, pattern in spec.keep.items()
            if not pattern.fullmatch(kept[name])
        ]
    if faults:
        raise _refused(*faults)
    known = error_code({"error": error}, response) if error is not None else None
    return Redirect(state or "", iss, code, known or ("unrecognised" if error is not None else None), kept)


def check_kept(kept: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """A kept value with the name of a setting must equal it: a redirect never names a host. Raises InvalidRequest."""
    faults = [
        FieldError(name, "differs from the connection's setting of this name")
        for name, value in kept.items()
        if options.get(name) is not None and as_text(options[name]) != value
    ]
    if faults:
        raise _refused(*faults)


def expected_iss(spec: ConsentSpec, options: Mapping[str, Any]) -> str:
    """The `iss` of redirects: the issuer that the file names, else the origin of the authorization endpoint."""
    if spec.issuer is not None:
        return spec.issuer.expand(options)
    return origin(spec.authorize_url.expand(options)) if spec.authorize_url is not None else ""


def origin(url: str) -> str:
    """Scheme, host and port of a URL. Empty if the text is not a URL."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}".lower() if parts.scheme and parts.netloc else ""
    except ValueError:
        return ""


def is_issuer(iss: str | None, expected: str) -> bool:
    """Whether a redirect may carry this `iss` (RFC 9207 section 2.4). It need not carry one.

    Where the file names no issuer, only the origin is compared.
    """
    return iss is None or (expected != "" and expected in (iss, origin(iss)))


def _refused(*faults: FieldError) -> InvalidRequest:
    return InvalidRequest("The redirect is not one of this consent.", errors=faults)


# ------------------------------------------------------------------------------ the exchange


@dataclass(frozen=True, slots=True)
class GrantedConsent:
    """What a person's consent brought. `refresh_token`: always there. `account`: None where it is not known.

    `account_verified`: see AccountSpec.
    """

    issued: IssuedToken = field(repr=False)
    refresh_token: str = field(repr=False)
    account: str | None
    account_verified: bool


ConsentFlow = Generator[HttpRequest, HttpResponse, GrantedConsent]


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """All that an exchange needs. `kept`: what the redirect brought besides the code."""

    connection: Connection
    credentials: Credentials
    request: GrantRequest
    spec: ConsentSpec
    kept: Mapping[str, str]


def exchange_code(consent: ConsentRequest, *, code: str, redirect_uri: str, verifier: str | None) -> ConsentFlow:
    """RFC 6749 section 4.1.3. Raises GrantFailed. The code is sent once."""
    more = {"code": code, "redirect_uri": redirect_uri}
    if verifier is not None:
        more["code_verifier"] = verifier
    return (yield from _exchange(consent, consent_code_request(consent.request, consent.spec, **more)))


def poll_device(consent: ConsentRequest, *, device_code: str) -> ConsentFlow:
    """RFC 8628 section 3.4. Raises GrantFailed; its error `authorization_pending` or `slow_down` means: ask again."""
    return (yield from _exchange(consent, device_code_request(consent.request, device_code)))


def _exchange(consent: ConsentRequest, http_request: HttpRequest) -> ConsentFlow:
    response = yield from sent(consent.request, "code", http_request)
    issued = issued_token(consent.request, "code", response)
    if issued.refresh_token is None:
        raise GrantFailed(unusable_response("it holds no refresh token"))
    data = response_object(response) or {}
    _check_audience(data, consent.credentials.values.get("client_id", ""))
    account = yield from _account(consent, data, issued)
    spec = consent.spec.account
    verified = account is not None and spec is not None and spec.verified
    return GrantedConsent(issued, issued.refresh_token, account, verified)


def _check_audience(data: Mapping[str, Any], client_id: str) -> None:
    """An id_token is for this client (OpenID Connect Core 3.1.3.7).

    Its signature is not needed: it came over TLS from the token endpoint itself.
    """
    audience = (jwt_claims(str(data.get("id_token"))) or {}).get("aud")
    if audience is not None and client_id not in (audience if isinstance(audience, list) else [audience]):
        raise GrantFailed(unusable_response("its id_token is for another client"))


def _account(
    consent: ConsentRequest, data: Mapping[str, Any], issued: IssuedToken
) -> Generator[HttpRequest, HttpResponse, str | None]:
    """The id of the account, from where the provider's file says. None where it does not come: nothing is pinned."""
    spec = consent.spec.account
    if spec is None:
        return None
    match spec.source:
        case "response":
            return _account_id(value_at(data, spec.path))
        case "id_token":
            return _account_id(value_at(jwt_claims(str(data.get("id_token"))), spec.path))
        case "redirect":
            return _account_id(consent.kept.get(spec.path[0]))
        case "setting":
            return _account_id(consent.request.options.get(spec.path[0]))
    return (yield from _account_by_get(consent, spec, issued))


def _account_by_get(
    consent: ConsentRequest, spec: AccountSpec, issued: IssuedToken
) -> Generator[HttpRequest, HttpResponse, str | None]:
    url, _, query = (spec.url.expand(consent.request.options) if spec.url is not None else "").partition("?")
    headers = consent.connection.sent_headers(issued.access_token, consent.credentials.values)
    pairs = tuple(redirect_query(f"?{query}"))
    try:
        response = yield HttpRequest("GET", url, query=pairs, headers={"Accept": "application/json", **headers})
    except TransportError:
        return None
    if not 200 <= response.status < 300:
        return None
    return _account_id(value_at(_json(response), spec.path))


def _json(response: HttpResponse) -> Any:
    """A body that can be a list (Xero's connections); None if it is not JSON."""
    import json

    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        return None


def _account_id(value: Any) -> str | None:
    """An id that can be shown and compared: visible ASCII, or a whole number. Any other is not known."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and _ACCOUNT.fullmatch(value) else None


# --------------------------------------------------------------------------- the device flow


@dataclass(frozen=True, slots=True)
class DeviceAuthorization:
    """RFC 8628 section 3.2. The person opens `verification_uri` and enters `user_code`."""

    device_code: str = field(repr=False)
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None
    lifetime: timedelta
    interval: timedelta


DeviceFlow = Generator[HttpRequest, HttpResponse, DeviceAuthorization]


def begin_device(request: GrantRequest, spec: ConsentSpec, *, insecure_urls: bool) -> DeviceFlow:
    """RFC 8628 section 3.1. Raises GrantFailed. `insecure_urls` allows http (local stack only)."""
    response = yield from sent(request, "token", device_request(request, spec))
    data = response_object(response) or {}
    if not 200 <= response.status < 300:
        issued_token(request, "token", response)  # raises what the status and the error code mean
    try:
        return _device_authorization(data, insecure_urls=insecure_urls)
    except ValueError as error:
        raise GrantFailed(unusable_response(str(error))) from None


def _device_authorization(data: Mapping[str, Any], *, insecure_urls: bool) -> DeviceAuthorization:
    device_code = data.get("device_code")
    user_code = data.get("user_code")
    if not isinstance(device_code, str) or len(device_code) > MAX_CODE_CHARACTERS or not _CODE.fullmatch(device_code):
        raise ValueError("device_code is not a code")
    if not isinstance(user_code, str) or not _USER_CODE.fullmatch(user_code):
        raise ValueError("user_code is not a code that a person can enter")
    complete = data.get("verification_uri_complete")
    # Google writes verification_url.
    uri = data.get("verification_uri") or data.get("verification_url")
    return DeviceAuthorization(
        device_code,
        user_code,
        absolute_url(uri, insecure=insecure_urls, query=True),
        _shown_url(complete, insecure_urls=insecure_urls) if complete else None,
        lifetime=min(timedelta(seconds=_seconds(data, "expires_in", None)), MAX_DEVICE_LIFETIME),
        interval=timedelta(seconds=min(_seconds(data, "interval", DEFAULT_INTERVAL_S), MAX_INTERVAL_S)),
    )


def _shown_url(value: Any, *, insecure_urls: bool) -> str:
    """A URL that holds the user code, in whatever parameter."""
    if not isinstance(value, str) or not _URL.fullmatch(value):
        raise ValueError("verification_uri_complete is not a URL")
    absolute_url(value.partition("?")[0], insecure=insecure_urls)
    return value


def _seconds(data: Mapping[str, Any], name: str, default: int | None) -> int:
    value = data.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is not a positive whole number")
    return value
