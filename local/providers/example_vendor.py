"""A vendor that is simulated from the examples of its provider's file: no code per vendor.

It checks each request as strictly as `providers check` does, and answers as the example does, with a token of its own.
What an example cannot say comes from `Simulator`: tokens that expire, revocation, rotated secrets, counters, faults.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote_plus

from token_broker import catalogue
from token_broker.catalogue import load_catalogue
from token_broker.catalogue.example_comparison import RequestComparison
from token_broker.catalogue.example_keys import example_keys
from token_broker.catalogue.examples import (
    Body,
    Example,
    ExampleExchange,
    Examples,
    ExpectedRequest,
    read_examples,
)
from token_broker.catalogue.proof import examples_beside
from token_broker.core.connections import Connection, parse_connection
from token_broker.core.names import ConnectionName
from token_broker.core.providers import Provider
from token_broker.oauth.exchange import HttpRequest, HttpResponse

from .accounts import Account
from .options import Options
from .simulator import Simulator
from .token_ledger import IssuedToken, TokenDraft
from .wire import Refusal, Reply, Request, json_reply

CREDENTIALS_ARE_WRONG = ("client_refused", "credentials_refused", "grant_refused")
DEFAULT_LIFETIME_S = 3600
CATALOGUE = Path(catalogue.__file__).parent
CLIENT_FIELDS = ("client_id", "client_secret")
RESOURCE = "/resource"  # stands for the vendor's API
# Made anew for each reply.
OWN_HEADERS = frozenset({"date", "content-length"})


@dataclass(frozen=True, slots=True)
class KnownRequest:
    """A request of an example that gets a token, its response, and the account whose credentials the example shows."""

    example: Example
    expected: ExpectedRequest
    response: HttpResponse
    account: str
    secret: Mapping[str, str]


class ExampleVendor(Simulator):
    """One vendor. Its paths begin with the host: /auth.example.com/oauth/token is https://auth.example.com/oauth/token."""

    client_auth = ("basic", "basic-raw", "form", "json", "none")
    methods: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "token": ("GET", "POST"),
        "revoke": ("POST",),
        "resource": ("GET",),
    }

    def __init__(self, provider: Provider, examples: Examples, *, time_scale: float, now: Callable[[], float]) -> None:
        self.provider = provider
        self.slug = provider.slug
        self.known: list[KnownRequest] = []
        self._accounts_of_examples: list[Account] = []
        for example in examples.examples:
            self._learn(example)
        self.refusal = _refusal(examples)
        self.defaults = self._defaults(self.known[0].example.result.expires_in_s or DEFAULT_LIFETIME_S)
        connection = self._connection(self.known[0].example.settings)
        urls = self._urls(connection.options)
        if connection.endpoints.revocation is not None:
            urls[connection.endpoints.revocation] = "revoke"
        self._operations = {url.removeprefix("https:/"): operation for url, operation in urls.items()}
        super().__init__(time_scale=time_scale, now=now)

    def _learn(self, example: Example) -> None:
        if example.result.token is not None and example.refresh_token is None:
            self._add(self.known, example, example.exchanges[-1])

    def _add(self, known: list[KnownRequest], example: Example, exchange: ExampleExchange) -> None:
        if exchange.request is None:
            return
        secret = {name: str(value) for name, value in example_keys().secret(example.secret).items()}
        account = next((account for account in self._accounts_of_examples if account.secret == secret), None)
        if account is None:
            number = len(self._accounts_of_examples) + 1
            account = Account("demo" if number == 1 else f"demo-{number}", secret)
            self._accounts_of_examples.append(account)
        known.append(KnownRequest(example, exchange.request, exchange.response, account.name, secret))

    def _defaults(self, lifetime_s: float) -> Options:
        return Options(lifetime_s=lifetime_s)

    def _urls(self, _options: Mapping[str, Any]) -> dict[str, str]:
        """What each URL is for. `_options`: the settings of the first example."""
        return {known.expected.url: "token" for known in self.known}

    def _connection(self, settings: Mapping[str, Any]) -> Connection:
        whole = {"allowed_callers": ["*"], **settings}
        return parse_connection(ConnectionName(self.slug, "demo"), self.provider, whole)

    def _reset(self) -> None:
        super()._reset()
        self._refresh_tokens: dict[str, KnownRequest] = {}

    def first_accounts(self) -> dict[str, Account]:
        return {account.name: replace(account) for account in self._accounts_of_examples}

    def operation_at(self, path: str) -> str:
        return "resource" if path == RESOURCE else self._operations.get(path, "unknown")

    def token(self, request: Request) -> Reply:
        found = self._matching(request)
        if isinstance(found, Refusal):
            raise found
        known, account, refresh_token = found
        self._refresh_tokens.pop(refresh_token, None)
        return self._answer(known, account)

    def accepts(self, request: Request) -> bool:
        """Whether the vendor would issue a token."""
        with self._lock:
            return not isinstance(self._matching(request), Refusal)

    def _matching(self, request: Request) -> tuple[KnownRequest, Account, str] | Refusal:
        """The example that the request is, its account, and the refresh token that it spends. Else how it differs."""
        sent = sent_as(request)
        refresh_token = _refresh_token_in(sent)
        if refresh_token and refresh_token not in self._refresh_tokens:
            return Refusal("invalid_grant", "the refresh token is unknown or was used")
        refusals = []
        for known in [self._refresh(refresh_token)] if refresh_token else self.known:
            found = self.matching(known, sent)
            if not isinstance(found, Refusal):
                return known, found, refresh_token
            refusals.append(found)
        return nearest(refusals)

    def matching(self, known: KnownRequest, sent: HttpRequest) -> Account | Refusal:
        """The account of the example that the request is. Else how it differs."""
        account = self.accounts[known.account]
        comparison = RequestComparison(account.secret.values(), datetime.fromtimestamp(self.now(), UTC))
        refusals = []
        for expected in _with_secret(known.expected, known.secret, account.secret):
            faults = comparison.differences(expected, sent)
            if not faults:
                return account
            fields = sorted(fault.field for fault in faults)
            if set(fields) <= _credential_fields(expected, account.secret):
                refusals.append(Refusal("invalid_client", "the credentials are wrong"))
            else:
                refusals.append(DiffersFromExample(fields))
        return nearest(refusals)

    def _refresh(self, refresh_token: str) -> KnownRequest:
        """The renewal with a refresh token (RFC 6749 section 6). It authenticates its client as the example does."""
        known = self._refresh_tokens[refresh_token]
        body = known.expected.body
        client = {name: value for name, value in (body.value if body else {}).items() if name in CLIENT_FIELDS}
        fields = {**client, "grant_type": "refresh_token", "refresh_token": refresh_token}
        return replace(known, expected=replace(known.expected, body=Body(body.kind if body else "form", fields)))

    def _answer(self, known: KnownRequest, account: Account) -> Reply:
        result = known.example.result
        response = known.response
        lifetime_s = self.options.lifetime_s
        if result.expires_in_s is not None and self.known[0].example.result.expires_in_s:
            lifetime_s *= result.expires_in_s / self.known[0].example.result.expires_in_s
        token = self.issue(account, known.example.title, lifetime_s=lifetime_s)
        try:
            document = json.loads(response.body)
        except ValueError:
            body = response.body.replace((result.token or "").encode(), token.value.encode())
            return Reply(response.status, body, sent_headers(response), "issued")
        if isinstance(document, dict) and isinstance(document.get("refresh_token"), str):
            document["refresh_token"] = secrets.token_urlsafe(32)
            original = next(first for first in self.known if first.example is known.example)
            self._refresh_tokens[document["refresh_token"]] = original
        return self.reply(known, token, document)

    def reply(self, known: KnownRequest, token: IssuedToken, document: Any) -> Reply:
        """The example's response, with this token and what is left of its lifetime."""
        document = replaced(document, known.example.result.token, token.value)
        remaining = timedelta(seconds=self.remaining_s(token))
        document = _with_lifetime(document, known.example, remaining, datetime.fromtimestamp(self.vendor_time(), UTC))
        if isinstance(document, dict):
            document = {**document, **self.options.set_fields}
            for name in self.options.omit_fields:
                document.pop(name, None)
        outcome = "reissued" if token.reissued else "issued"
        return Reply(known.response.status, json.dumps(document).encode(), sent_headers(known.response), outcome)

    def mint(self, _draft: TokenDraft) -> str:
        return f"invented-{secrets.token_urlsafe(24)}"

    def refused(self, refusal: Refusal) -> Reply:
        """As the example of wrong credentials. A request that is not the example's is a fault of ours."""
        if refusal.code != "invalid_client" or self.refusal is None:
            outcome = refusal.code if refusal.code == "invalid_client" else f"{refusal.code}: {refusal.description}"
            return json_reply(refusal.status, {"error": refusal.code}, outcome=outcome)
        status = self.options.error_status or self.refusal.status
        return Reply(status, self.refusal.body, sent_headers(self.refusal), refusal.code)

    def presented_token(self, request: Request) -> str:
        """The token in any of the headers: each vendor wants it somewhere else."""
        live = self.tokens.live(self.now())
        sent = request.headers.values()
        return next((token.value for token in live if any(token.value in value for value in sent)), "")


class ExampleVendors:
    """The vendors of the catalogue that have examples, by slug. Each is made at its first use. Thread-safe."""

    def __init__(self, *, time_scale: float, now: Callable[[], float]) -> None:
        self._time_scale = time_scale
        self._now = now
        self._made: dict[str, ExampleVendor] = {}
        self._lock = threading.Lock()

    def get(self, slug: str) -> ExampleVendor | None:
        """None for a slug that is no provider's, or whose examples are not made of single requests."""
        with self._lock:
            if slug not in self._made and slug in example_slugs():
                examples = _examples_of(slug)
                assert examples is not None  # noqa: S101  # example_slugs has only those
                provider = load_catalogue()[slug]
                kind = ExampleVendor
                if provider.grant.needs_consent:
                    from .consent_vendor import ConsentVendor

                    kind = ConsentVendor
                self._made[slug] = kind(provider, examples, time_scale=self._time_scale, now=self._now)
            return self._made.get(slug)

    def for_request(self, request: Request) -> ExampleVendor | None:
        """The vendor at the request's address: of several the one that accepts it, else the first; None for none."""
        vendors = [self.get(slug) for slug in example_slugs()]
        here = [vendor for vendor in vendors if vendor and vendor.operation_at(request.path) != "unknown"]
        return next((vendor for vendor in here if vendor.accepts(request)), here[0] if here else None)

    def close(self) -> None:
        for vendor in self._made.values():
            vendor.waits.close()


@lru_cache(maxsize=1)
def example_slugs() -> tuple[str, ...]:
    """The providers that can be simulated from their examples."""
    return tuple(slug for slug in sorted(load_catalogue()) if _is_simulated(_examples_of(slug)))


def _examples_of(slug: str) -> Examples | None:
    path = examples_beside(CATALOGUE / f"{slug}.toml")
    return read_examples(path) if path.exists() else None


def _is_simulated(examples: Examples | None) -> bool:
    return examples is not None and len(examples.examples[0].exchanges) == 1


def _refusal(examples: Examples) -> HttpResponse | None:
    """The response to wrong credentials; None if no example shows one."""
    refusals = [example for example in examples.examples if example.result.error == "provider_refused"]
    refusals.sort(key=lambda example: example.result.rule not in CREDENTIALS_ARE_WRONG)
    return refusals[0].exchanges[-1].response if refusals else None


class DiffersFromExample(Refusal):
    """The request is not the example's. `fields`: where it differs."""

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__("invalid_request", f"differs from the example: {', '.join(fields)}")
        self.fields = tuple(fields)


def nearest(refusals: Sequence[Refusal]) -> Refusal:
    """That of the example which the request is most like."""
    return min(refusals, key=lambda refusal: len(refusal.fields) if isinstance(refusal, DiffersFromExample) else 0)


def sent_as(request: Request) -> HttpRequest:
    """A received request as the broker would have made it for the vendor's host."""
    headers = {name: value for name, value in request.headers.items() if name.lower() != "connection"}
    query = tuple(parse_qsl(request.query, keep_blank_values=True))
    return HttpRequest(request.method, "https:/" + request.path, query, headers, request.body or None)


def sent_headers(response: HttpResponse) -> dict[str, str]:
    """The headers of an example's response, without those that each response has of its own."""
    return {name: value for name, value in response.headers.items() if name not in OWN_HEADERS}


def _refresh_token_in(sent: HttpRequest) -> str:
    """The refresh token of a request that is to renew with one; empty for any other."""
    try:
        body = json.loads(sent.body or b"")
    except ValueError:
        body = dict(parse_qsl((sent.body or b"").decode(errors="replace")))
    is_refresh = isinstance(body, dict) and body.get("grant_type") == "refresh_token"
    return str(body.get("refresh_token", "")) if is_refresh else ""


def _with_secret(
    expected: ExpectedRequest, old: Mapping[str, str], new: Mapping[str, str]
) -> Iterator[ExpectedRequest]:
    """The request with another secret of the account. Basic: the values as they are, and percent-encoded."""
    changes = {value: new[name] for name, value in old.items() if value and new.get(name, value) != value}
    if not changes:
        yield expected
        return
    pattern = re.compile("|".join(re.escape(value) for value in sorted(changes, key=len, reverse=True)))

    def text(value: str, encode: Callable[[str], str] = str) -> str:
        return pattern.sub(lambda match: encode(changes[match[0]]), value)

    def header(value: str, encode: Callable[[str], str]) -> str:
        decoded = _basic(value)
        return text(value) if decoded is None else f"Basic {base64.b64encode(text(decoded, encode).encode()).decode()}"

    for encode in (str, quote_plus):
        yield replace(
            expected,
            query=tuple((name, text(value)) for name, value in expected.query),
            headers={name: header(value, encode) for name, value in expected.headers.items()},
            body=None if expected.body is None else Body(expected.body.kind, _mapped(expected.body.value, text)),
        )


def _basic(header: str) -> str | None:
    """The id and secret in a Basic header; None for any other."""
    scheme, _, encoded = header.partition(" ")
    try:
        return base64.b64decode(encoded, validate=True).decode() if scheme.lower() == "basic" else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _credential_fields(expected: ExpectedRequest, secret: Mapping[str, str]) -> set[str]:
    """The names of the fields of a request that hold a credential, as a comparison names them."""
    values = [value for value in secret.values() if value]

    def holds(text: Any) -> bool:
        return isinstance(text, str) and (text == "{jwt}" or any(value in (_basic(text) or text) for value in values))

    def names(name: str, value: Any) -> Iterator[str]:
        if isinstance(value, Mapping):
            for key, item in value.items():
                yield from names(f"{name}.{key}", item)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from names(f"{name}.{index}", item)
        elif holds(value):
            yield name

    body = {} if expected.body is None else {expected.body.kind: expected.body.value}
    parts = {"request": {"query": dict(expected.query), "headers": expected.headers, **body}}
    return {*names("request", parts["request"]), *(["request.jwt"] if expected.jwt else [])}


def replaced(document: Any, old: str | None, new: str) -> Any:
    return _mapped(document, lambda text: new if text == old else text)


def _mapped(document: Any, change: Callable[[str], str]) -> Any:
    """A JSON document with each text changed."""
    if isinstance(document, dict):
        return {name: _mapped(value, change) for name, value in document.items()}
    if isinstance(document, list):
        return [_mapped(item, change) for item in document]
    return change(document) if isinstance(document, str) else document


def _with_lifetime(document: Any, example: Example, remaining: timedelta, now: datetime) -> Any:
    """The document with what is left of the token's lifetime, wherever the example states its own, in its own form."""
    if example.result.expires_in_s is None:
        return document
    stated = timedelta(seconds=example.result.expires_in_s)
    forms: list[tuple[object, object]] = [
        (int(stated.total_seconds()), int(remaining.total_seconds())),
        (int(stated.total_seconds() * 1000), int(remaining.total_seconds() * 1000)),
        (int(stated.total_seconds() / 60), max(1, int(remaining.total_seconds() / 60))),
    ]
    if example.now is not None:
        until = now + remaining
        then = example.now + stated
        forms += [
            (int(then.timestamp()), int(until.timestamp())),
            (int(then.timestamp() * 1000), int(until.timestamp() * 1000)),
        ]
    for old, new in forms:
        if _with_number(document, old, None) != document:
            return _with_number(document, old, new)
    return _mapped(document, lambda text: _moved(text, example.now, now + remaining, stated))


def _with_number(document: Any, old: object, new: object) -> Any:
    if isinstance(document, dict):
        return {name: _with_number(value, old, new) for name, value in document.items()}
    if isinstance(document, list):
        return [_with_number(item, old, new) for item in document]
    if isinstance(document, bool):
        return document
    if document == str(old):
        return str(new)
    return new if document == old else document


def _moved(text: str, then: datetime | None, until: datetime, stated: timedelta) -> str:
    """A moment in ISO 8601 that is the example's expiry, moved to `until`; any other text as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    if then is None or abs(moment - then - stated) > timedelta(seconds=1):
        return text
    return until.isoformat().replace("+00:00", "Z")
