"""The examples of a provider: requests and responses that its vendor's pages show, and what must become of them.

One TOML file per provider in `examples/`, of the provider's name. `example_run` runs them. No function imports this.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from token_broker.catalogue.proof import PROOFS
from token_broker.core.provider_files import METHODS, CatalogueError
from token_broker.core.validation import Fields, absolute_url, flag, mapping, one_of, text, whole
from token_broker.errors import FieldError
from token_broker.oauth.exchange import HttpResponse
from token_broker.oauth.responses import http_date

BODIES = ("form", "json", "text")
MEDIA_TYPES = {"form": "application/x-www-form-urlencoded", "json": "application/json", "text": "text/plain"}
NO_TABLES: tuple[Mapping[str, Any], ...] = ()
NO_MEMBERS: Mapping[str, Any] = {}
# A value of a request that differs each time. It is checked by its shape.
GENERATED = ("{uuid}", "{now}", "{now_ms}", "{jwt}", "{x5t_s256}", "{code_challenge}", "{code_verifier}")
# A signature: the key and the message, in which {query:name} is what the request has there. Capitals: in capitals.
SIGNATURE = re.compile(r"\{(hmac_sha256|HMAC_SHA256):([^:]+):(.+)\}")
# In the URLs of a consent: the session's state.
STATE = "{state}"


@dataclass(frozen=True, slots=True)
class Body:
    """A message's body. `kind`: form, json or text. `value`: the fields, the document or the text."""

    kind: str
    value: Any = field(repr=False)

    @property
    def encoded(self) -> bytes:
        if self.kind == "json":
            return json.dumps(self.value).encode()
        return (urlencode(self.value, doseq=True) if self.kind == "form" else str(self.value)).encode()


@dataclass(frozen=True, slots=True)
class ExpectedJwt:
    """Members that the assertion must have, with these values. iat, exp and jti are checked by their shape."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ExpectedRequest:
    """The request that the vendor documents. `url` has no query. Header names are in lower case."""

    method: str
    url: str
    query: tuple[tuple[str, str], ...] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: Body | None
    jwt: ExpectedJwt | None


@dataclass(frozen=True, slots=True)
class ExampleExchange:
    """A request and the vendor's response. `request` None: only what becomes of the response is compared."""

    request: ExpectedRequest | None
    response: HttpResponse


@dataclass(frozen=True, slots=True)
class ConsentExample:
    """How a person gives consent. `authorize`: what the browser opens. `redirect`: where it returns to, with a code.

    Both None: the device flow. Then the first exchange is the device authorization request, and the next one a poll.
    """

    authorize: str | None
    redirect: str | None = field(repr=False)

    @property
    def redirect_uri(self) -> str:
        return (self.redirect or "").partition("?")[0]


@dataclass(frozen=True, slots=True)
class ExpectedResult:
    """What comes of it: a token, or an error with its failure rule. What is None is not compared.

    `scope`: as callers get it. `headers` and `api_base_url`: what callers send, and where. `account`: of a consent.
    """

    token: str | None = field(default=None, repr=False)
    expires_in_s: int | None = None
    scope: str | None = None
    refresh_token: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    api_base_url: str | None = None
    account: str | None = None
    error: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One example. `exchanges`: in the order of sending. `refresh_token`: one that the broker has from before.

    `kept`: what it has kept of the consent's redirect. `consent`: how the consent is given, if the example shows that.
    `now`: the moment it happened, if the response states a moment of expiry.
    """

    title: str
    settings: Mapping[str, Any]
    secret: Mapping[str, Any] = field(repr=False)
    refresh_token: str | None = field(repr=False)
    kept: Mapping[str, str]
    consent: ConsentExample | None
    exchanges: tuple[ExampleExchange, ...]
    result: ExpectedResult
    now: datetime | None
    proof: str
    source: str
    read_on: date

    @property
    def has_request(self) -> bool:
        return all(exchange.request is not None for exchange in self.exchanges)


@dataclass(frozen=True, slots=True)
class Examples:
    """A file of examples. `proof`, `source` and `read_on` hold for each example that has none of its own."""

    proof: str
    source: str
    read_on: date
    examples: tuple[Example, ...]


def read_examples(path: Path) -> Examples:
    """One file of examples. Raises CatalogueError with every fault, or OSError."""
    file = f"examples/{path.name}"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CatalogueError(file, [FieldError("file", f"is not TOML: {error}")]) from None
    top = Fields(data)
    proof, source, read_on = _origin(top, None)
    tables = top.take("example", _tables, NO_TABLES, required=True)
    examples = tuple(
        _example(Fields(table, f"example {number}.", top.faults), (proof, source, read_on))
        for number, table in enumerate(tables, 1)
    )
    top.fault_unknown_fields()
    if not top.faults and not (examples[0].has_request and examples[0].result.token):
        top.fault("example", "must begin with a request that gets a token")
    if top.faults:
        raise CatalogueError(file, top.faults)
    return Examples(proof, source, read_on, examples)


def _origin(fields: Fields, inherited: tuple[str, str, date] | None) -> tuple[str, str, date]:
    """proof, source and read_on of a file, or of an example that differs from its file."""
    proof, source, read_on = inherited or (PROOFS[-1], "", date.min)
    required = inherited is None
    return (
        fields.take("proof", one_of(PROOFS), proof, required=required),
        fields.take("source", _source, source, required=required),
        fields.take("read_on", _date, read_on, required=required),
    )


def _example(fields: Fields, origin: tuple[str, str, date]) -> Example:
    proof, source, read_on = _origin(fields, origin)
    scope = fields.take("scope", text, "")
    settings: Mapping[str, Any] = fields.take("settings", mapping, NO_MEMBERS)
    result = _result(fields.section("result", required=True))
    exchanges = tuple(_exchanges(fields))
    # A Date is the vendor's moment of the response, so the example happened then.
    dates = [http_date(exchange.response.headers.get("date", "")) for exchange in exchanges]
    example = Example(
        title=fields.take("title", text, "", required=True),
        settings={**settings, "scope": scope} if scope else settings,
        secret=fields.take("secret", mapping, NO_MEMBERS, required=True),
        refresh_token=fields.take("refresh_token", text, None),
        kept=fields.take("kept", _texts_by_name, {}),
        consent=_consent(fields) if "consent" in fields.data else None,
        exchanges=exchanges,
        result=result,
        now=fields.take("now", _moment, dates[-1] if dates else None),
        proof=proof,
        source=source,
        read_on=read_on,
    )
    fields.fault_unknown_fields()
    return example


def _consent(fields: Fields) -> ConsentExample:
    consent = fields.section("consent")
    found = ConsentExample(consent.take("authorize", _url, None), consent.take("redirect", _url, None))
    is_device = consent.take("device", flag, False)
    if is_device != (found.authorize is None) or is_device != (found.redirect is None):
        consent.fault("authorize", "and redirect must be given, unless device is true")
    consent.fault_unknown_fields()
    return found


def _exchanges(fields: Fields) -> Iterator[ExampleExchange]:
    """Those of `before` (an authorization request before its token request), then the example's own."""
    for number, table in enumerate(fields.take("before", _tables, NO_TABLES), 1):
        earlier = Fields(table, f"{fields.prefix}before {number}.", fields.faults)
        yield _exchange(earlier)
        earlier.fault_unknown_fields()
    yield _exchange(fields)


def _exchange(fields: Fields) -> ExampleExchange:
    request = _request(fields.section("request")) if "request" in fields.data else None
    response = fields.section("response", required=True)
    body = _body(response)
    headers = _headers(response)
    if body is not None and body.value != "":
        headers.setdefault("content-type", MEDIA_TYPES[body.kind])
    exchange = ExampleExchange(
        request,
        HttpResponse(
            response.take("status", whole(200, 599), 0, required=True), headers, b"" if body is None else body.encoded
        ),
    )
    response.fault_unknown_fields()
    return exchange


def _request(fields: Fields) -> ExpectedRequest:
    url, _, query = fields.take("url", _url, "", required=True).partition("?")
    jwt = fields.section("jwt") if "jwt" in fields.data else None
    request = ExpectedRequest(
        method=fields.take("method", one_of(METHODS), "POST"),
        url=url,
        query=tuple(parse_qsl(query, keep_blank_values=True)),
        headers=_headers(fields),
        body=_body(fields),
        jwt=None
        if jwt is None
        else ExpectedJwt(jwt.take("header", mapping, NO_MEMBERS), jwt.take("claims", mapping, NO_MEMBERS)),
    )
    fields.known.add("jwt")
    for section in (jwt, fields):
        if section is not None:
            section.fault_unknown_fields()
    return request


def _result(fields: Fields) -> ExpectedResult:
    result = ExpectedResult(
        token=fields.take("token", text, None),
        expires_in_s=fields.take("expires_in_s", whole(0, 10**9), None),
        scope=fields.take("scope", _any_text, None),
        refresh_token=fields.take("refresh_token", text, None),
        headers=fields.take("headers", _texts_by_name, None),
        api_base_url=fields.take("api_base_url", text, None),
        account=fields.take("account", text, None),
        error=fields.take("error", text, None),
        rule=fields.take("rule", text, None),
    )
    if (result.token is None) == (result.error is None):
        fields.fault("token", "or error must be given, and not both")
    fields.fault_unknown_fields()
    return result


def _headers(fields: Fields) -> dict[str, str]:
    headers: Mapping[str, str] = fields.take("headers", _texts_by_name, {})
    return {name.lower(): value for name, value in headers.items()}


def _body(fields: Fields) -> Body | None:
    kinds = [kind for kind in BODIES if kind in fields.data]
    fields.known.update(BODIES)
    if len(kinds) > 1:
        fields.fault(kinds[-1], f"is a second body beside {kinds[0]}")
    if not kinds:
        return None
    kind = kinds[0]
    value = fields.data[kinds[0]]
    if kind == "text" and not isinstance(value, str):
        fields.fault(kind, "must be a string")
    if kind == "form" and not (isinstance(value, Mapping) and all(map(_is_form_value, value.values()))):
        fields.fault(kind, "must hold strings, or lists of strings for a repeated field")
    return Body(kind, value)


def _is_form_value(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, str) for item in items)


def _tables(value: Any) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, Mapping) for item in value):
        raise ValueError("must be one or more tables, written [[…]]")
    return tuple(value)


def _texts_by_name(value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
        raise ValueError("must hold strings. A name with a dot stands in quotes")
    return dict(value)


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def _url(value: Any) -> str:
    """An address whose query may hold credentials: those of an example are invented."""
    address, mark, query = text(value).partition("?")
    return absolute_url(address) + mark + query


def _source(value: Any) -> str:
    if not re.match("https?://", text(value)):
        raise ValueError("must be the address of a page")
    return text(value)


def _date(value: Any) -> date:
    if isinstance(value, datetime) or not isinstance(value, date):
        raise ValueError("must be a date without quotes, such as 2026-11-28")
    return value


def _moment(value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("must be a moment without quotes, such as 2026-11-28T12:00:00Z")
    return value
