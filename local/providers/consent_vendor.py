"""A vendor whose grants begin with a person's consent, simulated from the examples of its provider's file.

Its people decide at once: whoever opens the authorization URL is redirected. `ConsentOptions` says what they decide,
and by what rules the vendor's refresh tokens live.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from email.message import Message
from functools import partial
from typing import Any, ClassVar
from urllib.parse import parse_qsl, quote, urlsplit

from token_broker.catalogue.examples import STATE, Body, Example, Examples, ExpectedRequest
from token_broker.core.names import fingerprint
from token_broker.core.providers import ConsentSpec, Provider
from token_broker.oauth.consents import LOOPBACK, expected_iss
from token_broker.oauth.exchange import HttpRequest, HttpResponse
from token_broker.oauth.responses import value_at

from .accounts import Account
from .consent_ledger import DAY_S, NEVER_S, Code, Consent, ConsentLedger, ConsentOptions, Device, RefreshToken
from .example_values import field_at, place_of, texts_in_body, uri_and_state, with_value_at, with_values
from .example_vendor import ExampleVendor, KnownRequest, nearest, replaced, sent_as, sent_headers
from .jwt_shape import jwt
from .simulator import METHODS, Arrival
from .wire import NO_STORE, Refusal, Reply, Request, html_reply, json_reply

# For a provider whose file does not say how a person gives consent.
NO_CONSENT = ConsentSpec(None, {}, None, {}, "code", False, False, {}, False, None, None)
VERIFIER = "{code_verifier}"


@dataclass(frozen=True, slots=True)
class KnownRenewal:
    """`refresh_token`: the one that the example sends."""

    known: KnownRequest
    refresh_token: str


@dataclass(frozen=True, slots=True)
class KnownExchange:
    """An authorization request with its redirect, and the exchange of the code. `code`: the one in the example."""

    known: KnownRequest
    authorize: str
    redirect: Mapping[str, str]
    redirect_uri: str
    code: str


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device authorization request, its response, and the poll that gets a token."""

    known: KnownRequest
    request: ExpectedRequest
    response: HttpResponse
    device_code: str
    user_code: str


class ConsentVendor(ExampleVendor):
    """`known`: the renewals. See `give_consent`, `withdraw`, `open_in_browser`, `enter` and `times_sent` for tests."""

    options: ConsentOptions
    methods: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **METHODS,
        "token": ("GET", "POST"),
        "authorize": ("GET",),
        "device": ("POST",),
        "verify": ("GET",),
        "account": ("GET",),
    }

    def __init__(self, provider: Provider, examples: Examples, *, time_scale: float, now: Callable[[], float]) -> None:
        self.spec = provider.consent or NO_CONSENT
        self.renewals: list[KnownRenewal] = []
        self.exchanges: list[KnownExchange] = []
        self.devices: list[KnownDevice] = []
        refused = [example for example in examples.examples if example.result.rule == "consent_refused"]
        self.grant_refusal = refused[0].exchanges[-1].response if refused else None
        super().__init__(provider, examples, time_scale=time_scale, now=now)

    # ------------------------------------------------------------------ what the examples say

    def _learn(self, example: Example) -> None:
        if example.result.token is None or not example.has_request:
            return
        consent = example.consent
        if consent is None:
            self._add(self.known, example, example.exchanges[0])
            self.renewals.append(KnownRenewal(self.known[-1], example.refresh_token or ""))
            return
        found: list[KnownRequest] = []
        if consent.authorize is not None and consent.redirect is not None:
            self._add(found, example, example.exchanges[0])
            redirect = dict(parse_qsl(urlsplit(consent.redirect).query, keep_blank_values=True))
            code = redirect[self.spec.code_param]
            self.exchanges.append(KnownExchange(found[0], consent.authorize, redirect, consent.redirect_uri, code))
            return
        begin = example.exchanges[0]
        self._add(found, example, example.exchanges[1])
        document = json.loads(begin.response.body)
        if begin.request is not None:
            codes = document["device_code"], document["user_code"]
            self.devices.append(KnownDevice(found[0], begin.request, begin.response, *codes))

    def _defaults(self, lifetime_s: float) -> ConsentOptions:
        rules = self.provider.refresh
        first = self.renewals[0]
        overlap_s = rules.resend_within.total_seconds() if rules.resend_within is not None else 0.0
        return ConsentOptions(
            lifetime_s=lifetime_s,
            refresh_lifetime_s=rules.life.total_seconds() if rules.life is not None else NEVER_S,
            idle_lifetime_s=rules.idle_life.total_seconds() if rules.idle_life is not None else self._stated_s(),
            rotates=self._refresh_token_in(first.known.response) not in (None, first.refresh_token),
            overlap_s=overlap_s,
            overlap_ends_with_use=overlap_s > DAY_S,
            replaces=self.spec.replaces,
            revocation_ends_consent=not rules.revocation_keeps_consent,
            account=self._account_of_examples,
            sends_iss=self.spec.issuer is not None,
        )

    def _stated_s(self) -> float:
        """How long a refresh token lives, as the first renewal states it."""
        spec = self.provider.response.refresh_expiry
        first = self.known[0]
        value = value_at(json.loads(first.response.body), spec.path) if spec is not None else None
        if spec is None or not isinstance(value, int):
            return NEVER_S
        if spec.form != "epoch" or first.example.now is None:
            return float(value)
        return value - first.example.now.timestamp()

    def _urls(self, options: Mapping[str, Any]) -> dict[str, str]:
        known = (*self.known, *(item.known for item in self.exchanges), *(item.known for item in self.devices))
        urls = {item.expected.url: "token" for item in known}
        account_url = self.spec.account.url if self.spec.account is not None else None
        for template, operation in (
            (self.spec.authorize_url, "authorize"),
            (self.spec.device_url, "device"),
            (account_url, "account"),
        ):
            if template is not None:
                urls[template.expand(options).partition("?")[0]] = operation
        for device in self.devices:
            document = json.loads(device.response.body)
            # Google writes verification_url.
            urls[document.get("verification_uri") or document["verification_url"]] = "verify"
        return urls

    @property
    def _account_of_examples(self) -> str:
        return next((item.known.example.result.account or "" for item in self.exchanges), "")

    def _refresh_token_in(self, response: HttpResponse) -> str | None:
        found = value_at(json.loads(response.body), self.provider.response.refresh_token or ())
        return found if isinstance(found, str) else None

    def first_accounts(self) -> dict[str, Account]:
        """The redirect URIs of the examples are those that each client has registered."""
        uris = tuple(item.redirect_uri for item in self.exchanges)
        accounts = super().first_accounts()
        return {name: replace(account, redirect_uris=uris) for name, account in accounts.items()} if uris else accounts

    def _reset(self) -> None:
        super()._reset()
        self.ledger = ConsentLedger(
            end_tokens=lambda family: self.tokens.revoke(lambda token: token.family == family),
            count=self.journal.count,
        )

    # ------------------------------------------------------------------ for tests and operators

    def give_consent(self, *, client: str = "demo", person: str | None = None, scope: str = "") -> str:
        """The refresh token of a new consent, as an operator has one who obtained it elsewhere."""
        with self._lock:
            consent = Consent(client, self.options.account if person is None else person, scope, self.now())
            return self.ledger.begin(consent, self.options).value

    def withdraw(self, person: str | None = None) -> int:
        """The person ends all consents, at the vendor. None: everybody. Returns how many that were."""
        with self._lock:
            ending = [
                consent for consent in self.ledger.consents if not consent.ended and person in (None, consent.person)
            ]
            for consent in ending:
                self.ledger.end(consent)
            return len(ending)

    def open_in_browser(self, url: str) -> str:
        """Where a person's browser is sent who opens the URL; empty where the vendor shows a page instead."""
        path, _, query = url.removeprefix("https:/").partition("?")
        request = Request("GET", path, query, Message(), b"")
        return str(self.answer(request, self.arrive(request)).headers.get("Location", ""))

    def enter(self, user_code: str, *, approve: bool = True) -> None:
        """A person enters a device's code. Raises KeyError for an unknown one."""
        with self._lock:
            self.ledger.device_with(user_code).approved = approve

    def times_sent(self, refresh_token: str) -> int:
        """How often a refresh token arrived, whatever became of it."""
        with self._lock:
            known = self.ledger.refresh_tokens.get(refresh_token)
            return 0 if known is None else known.sent

    def report(self) -> dict[str, Any]:
        """As the others', with each refresh token by its fingerprint."""
        with self._lock:
            tokens = [
                {
                    "refresh_id": fingerprint(token.value),
                    "account": token.consent.person,
                    "sent": token.sent,
                    "state": self.ledger.state_of(token, self.options, self.now()),
                }
                for token in self.ledger.refresh_tokens.values()
            ]
            return {**super().report(), "refresh_tokens": tokens}

    def revoke_tokens(self, token_id: str | None = None) -> int:
        """As `Simulator.revoke_tokens`. All: ends the consents too, so that only a person helps."""
        if token_id is None:
            self.withdraw()
        return super().revoke_tokens(token_id)

    # ------------------------------------------------------------------ requests

    def arrive(self, request: Request) -> Arrival:
        """Counts a refresh token that arrives, even if a fault loses it."""
        arrival = super().arrive(request)
        if arrival.operation == "token":
            sent = sent_as(request)
            with self._lock:
                places = {place_of(item.known.expected, item.refresh_token) for item in self.renewals}
                for value in {field_at(sent, place) or "" for place in places} & self.ledger.refresh_tokens.keys():
                    self.ledger.refresh_tokens[value].sent += 1
        return arrival

    def handlers(self) -> dict[str, Callable[[Request], Reply]]:
        own = {"authorize": self.authorize, "device": self.device, "verify": self.verify, "account": self.show_account}
        return {**super().handlers(), **own}

    def accepts(self, request: Request) -> bool:
        """Whether the request is one of the examples', with a code or refresh token of this vendor."""
        with self._lock:
            if self.operation_at(request.path) != "token":
                return True
            sent = sent_as(request)
            values = {*dict(sent.query).values(), *texts_in_body(sent).values()}
            return self.ledger.knows(values) and next(self._replies(sent, []), None) is not None

    def token(self, request: Request) -> Reply:
        refusals: list[Refusal] = []
        reply = next(self._replies(sent_as(request), refusals), None)
        if reply is None:
            raise nearest(refusals)
        return reply()

    def _replies(self, sent: HttpRequest, refusals: list[Refusal]) -> Iterator[Callable[[], Reply]]:
        """What replies to the request, for each example that it is. `refusals`: how it differs from the others."""
        for renewal in self.renewals:
            changes = _changes(renewal.known, sent, renewal.refresh_token)
            if self._is(renewal.known, changes, sent, refusals):
                yield partial(self._renewed, renewal.known, changes[renewal.refresh_token])
        for exchange in self.exchanges:
            changes = _changes(exchange.known, sent, exchange.code, exchange.redirect_uri)
            if self._is(exchange.known, changes, sent, refusals):
                yield partial(self._exchanged, exchange, changes, sent)
        for device in self.devices:
            changes = _changes(device.known, sent, device.device_code)
            if self._is(device.known, changes, sent, refusals):
                yield partial(self._polled, device.known, changes[device.device_code])

    def _is(self, known: KnownRequest, changes: Mapping[str, str], sent: HttpRequest, refusals: list[Refusal]) -> bool:
        found = self.matching(replace(known, expected=with_values(known.expected, changes)), sent)
        if isinstance(found, Refusal):
            refusals.append(found)
        return not isinstance(found, Refusal)

    def refused(self, refusal: Refusal) -> Reply:
        if refusal.code == "invalid_grant" and self.grant_refusal is not None:
            refused = self.grant_refusal
            return Reply(refused.status, refused.body, sent_headers(refused), refusal.code)
        return super().refused(refusal)

    # ------------------------------------------------------------------ the browser

    def authorize(self, request: Request) -> Reply:
        """RFC 6749 section 4.1.1. A wrong client, redirect or field is shown to the person: nobody is redirected."""
        query = tuple(parse_qsl(request.query, keep_blank_values=True))
        sent = HttpRequest("GET", "https:/" + request.path, query, {})
        refusals: list[Refusal] = []
        for exchange in self.exchanges:
            try:
                return self._authorized(exchange, sent)
            except Refusal as refusal:
                refusals.append(refusal)
        return html_reply(400, nearest(refusals).description, outcome="not redirected")

    def _authorized(self, exchange: KnownExchange, sent: HttpRequest) -> Reply:
        """The redirect. Raises `Refusal`."""
        account = self.accounts[exchange.known.account]
        fields = dict(sent.query)
        scope_name = self.provider.scope.name or ""
        url, _, written = exchange.authorize.partition("?")
        changed: dict[str, str] = {}
        redirect_uri = account.redirect_uris[0]
        state = ""
        for name, value in parse_qsl(written, keep_blank_values=True):
            given = fields.get(name, "")
            # The redirect URI may hold the state, where the vendor has none of its own.
            found_uri, found_state = uri_and_state(value, given, exchange.redirect_uri)
            redirect_uri = found_uri or redirect_uri
            state = found_state or state
            if found_uri or found_state or (name == scope_name and given):
                changed[value] = given
        expected = ExpectedRequest("GET", url, tuple(parse_qsl(written, keep_blank_values=True)), {}, None, None)
        found = self.matching(replace(exchange.known, expected=with_values(expected, changed)), sent)
        if isinstance(found, Refusal):
            raise found
        on_loopback = self.spec.loopback and LOOPBACK.fullmatch(redirect_uri) is not None
        if redirect_uri not in account.redirect_uris and not on_loopback:
            raise Refusal("invalid_request", "redirect_uri is not registered")
        consent = Consent(account.name, self.options.account, fields.get(scope_name, ""), self.now())
        expires_at = self.now() + self.options.code_lifetime_s
        code = Code(consent, redirect_uri, fields.get("code_challenge"), expires_at)
        return self._redirect(exchange, code, state)

    def _redirect(self, exchange: KnownExchange, code: Code, state: str) -> Reply:
        with_state = {name: value.replace(STATE, state) for name, value in exchange.redirect.items()}
        if self.options.denies:
            holding = {name: with_state[name] for name, value in exchange.redirect.items() if STATE in value}
            query: dict[str, object] = {"error": "access_denied", **holding}
        else:
            query = {**with_state, self.spec.code_param: self.ledger.new_code(code)}
            source = self.spec.account
            if source is not None and source.source == "redirect":
                query[source.path[0]] = code.consent.person
        query.pop("iss", None)
        if self.options.sends_iss:
            options = self._connection(exchange.known.example.settings).options
            query["iss"] = expected_iss(self.spec, options)
        pairs = [
            f"{quote(name, safe='')}={quote(str(item), safe='')}"
            for name, value in {**query, **self.options.redirect_with}.items()
            for item in (value if isinstance(value, list) else [value])
            if item != ""
        ]
        mark = "&" if "?" in code.redirect_uri else "?"
        headers = {"Location": f"{code.redirect_uri}{mark}{'&'.join(pairs)}", **NO_STORE}
        return Reply(302, b"", headers, "denied" if self.options.denies else "approved")

    # ------------------------------------------------------------------ the token endpoint

    def _renewed(self, known: KnownRequest, value: str) -> Reply:
        token = self.ledger.renew(value, known.account, self.options, self.now())
        return self._issued(known, token)

    def _exchanged(self, exchange: KnownExchange, changes: Mapping[str, str], sent: HttpRequest) -> Reply:
        verifier = field_at(sent, place_of(exchange.known.expected, VERIFIER)) or ""
        redirect_uri = changes.get(exchange.redirect_uri)
        code = changes[exchange.code]
        client = exchange.known.account
        consent = self.ledger.redeem(code, client, redirect_uri, verifier, self.now())
        return self._issued(exchange.known, self.ledger.begin(consent, self.options))

    def _polled(self, known: KnownRequest, value: str) -> Reply:
        consent = self.ledger.poll(value, known.account, self.options.account, self.now())
        return self._issued(known, self.ledger.begin(consent, self.options))

    def _issued(self, known: KnownRequest, refresh_token: RefreshToken) -> Reply:
        """The example's response with a new token, this refresh token, and the account of its consent."""
        consent = refresh_token.consent
        token = self.issue(self.accounts[consent.client], known.example.title, family=consent.family)
        document = json.loads(known.response.body)
        shown = self._refresh_token_in(known.response)
        if shown is not None:
            document = replaced(document, shown, refresh_token.value)
        document = self._with_expiry(document, refresh_token)
        return self.reply(known, token, self._with_account(document, consent))

    def _with_expiry(self, document: Any, refresh_token: RefreshToken) -> Any:
        """With when the refresh token expires, where the example says so."""
        spec = self.provider.response.refresh_expiry
        if spec is None or value_at(document, spec.path) is None:
            return document
        expires_at = self.ledger.expires_at(refresh_token, self.options)
        return with_value_at(document, spec.path, int(expires_at if spec.form == "epoch" else expires_at - self.now()))

    def _with_account(self, document: Any, consent: Consent) -> Any:
        source = self.spec.account
        if source is None or not consent.person:
            return document
        if source.source == "response":
            is_number = isinstance(value_at(document, source.path), int)
            return with_value_at(document, source.path, int(consent.person) if is_number else consent.person)
        if source.source == "id_token" and "id_token" in document:
            client_id = self.accounts[consent.client].secret["client_id"]
            claims = with_value_at({"aud": client_id}, source.path, consent.person)
            return {**document, "id_token": jwt(claims)}
        return document

    # ------------------------------------------------------------------ the device flow

    def device(self, request: Request) -> Reply:
        """RFC 8628 section 3.2."""
        sent = sent_as(request)
        refusals = []
        for device in self.devices:
            expected = device.request
            scope = field_at(sent, ("body", "scope")) or ""
            if scope and expected.body is not None:
                expected = replace(expected, body=Body(expected.body.kind, {**expected.body.value, "scope": scope}))
            found = self.matching(replace(device.known, expected=expected), sent)
            if not isinstance(found, Refusal):
                return self._device_reply(device, found, scope)
            refusals.append(found)
        raise nearest(refusals)

    def _device_reply(self, known: KnownDevice, account: Account, scope: str) -> Reply:
        options = self.options
        user_code = secrets.token_hex(4)
        expires_at = self.now() + options.device_lifetime_s
        approved = True if options.approves_devices else None
        device = Device(account.name, user_code, scope, expires_at, options.device_interval_s, approved)
        document = {
            name: value.replace(known.user_code, user_code) if isinstance(value, str) else value
            for name, value in json.loads(known.response.body).items()
        }
        times = {"expires_in": int(options.device_lifetime_s), "interval": max(1, int(options.device_interval_s))}
        document = {**document, **times, "device_code": self.ledger.new_device(device)}
        return json_reply(200, document, outcome="device code")

    def verify(self, request: Request) -> Reply:
        """The page where a person enters the code. Whoever opens it with a code decides at once."""
        codes = dict(parse_qsl(request.query)).values()
        try:
            for code in codes:
                self.ledger.device_with(code).approved = not self.options.denies
        except KeyError:
            return html_reply(404, "There is no such code", outcome="unknown code")
        return html_reply(200, "Thank you", outcome="decided" if codes else "asked for the code")

    # ------------------------------------------------------------------ accounts and revocation

    def show_account(self, request: Request) -> Reply:
        """Whose token it is, as the example shows."""
        token = self.tokens.find(self.presented_token(request))
        source = self.spec.account
        consent = self.ledger.of_family(token.family) if token is not None and token.live(self.now()) else None
        if consent is None or source is None:
            return self.resource_refused()
        document = json.loads(self.exchanges[0].known.example.exchanges[-1].response.body)
        return json_reply(200, with_value_at(document, source.path, consent.person), outcome="account")

    def revoke(self, request: Request) -> Reply:
        """RFC 7009. A refresh token ends its consent, and an access token too where the vendor's rule says so."""
        reply = super().revoke(request)
        value = dict(parse_qsl(request.body.decode(errors="replace"))).get("token", "")
        refresh_token = self.ledger.refresh_tokens.get(value)
        token = self.tokens.find(value)
        if refresh_token is not None:
            self.ledger.end(refresh_token.consent)
        elif token is not None and self.options.revocation_ends_consent:
            consent = self.ledger.of_family(token.family)
            if consent is not None:
                self.ledger.end(consent)
        return reply


def _changes(known: KnownRequest, sent: HttpRequest, *shown: str) -> dict[str, str]:
    """What was sent in place of values that the example shows. A value that was not sent stays."""
    found = {value: field_at(sent, place_of(known.expected, value)) for value in shown}
    in_request = {value for value in shown if place_of(known.expected, value) is not None}
    return {value: given if given is not None else value for value, given in found.items() if value in in_request}
