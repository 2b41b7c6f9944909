"""Runs the examples of a provider: does its file make the documented request, and read the documented response?

Passing proves that the file is consistent with its examples, not that the examples are right.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from token_broker.catalogue.example_comparison import RequestComparison
from token_broker.catalogue.example_keys import example_keys
from token_broker.catalogue.examples import STATE, ConsentExample, Example, ExampleExchange, ExpectedRequest
from token_broker.core.connections import Connection, parse_connection
from token_broker.core.credentials import Credentials, Secret, check_scope_without_secret, parse_credentials
from token_broker.core.failures import ExchangeFailure
from token_broker.core.names import ConnectionName
from token_broker.core.providers import ConsentSpec, Provider
from token_broker.errors import BrokerError, FieldError, InvalidRequest
from token_broker.oauth.consents import (
    ConsentRequest,
    GrantedConsent,
    begin_device,
    check_kept,
    code_challenge,
    exchange_code,
    expected_iss,
    is_issuer,
    poll_device,
    read_redirect,
    redirect_pairs,
)
from token_broker.oauth.exchange import HttpRequest, HttpResponse
from token_broker.oauth.grants import GrantFailed, token_flow
from token_broker.oauth.lifetimes import DEFAULT_LIFETIME, expiry_of
from token_broker.oauth.outcomes import unusable_response
from token_broker.oauth.requests import GrantRequest, authorize_url
from token_broker.oauth.responses import IssuedToken, UnusableResponse
from token_broker.oauth.signed_requests import no_kms_key, prepare_request

Exchanges = Generator[HttpRequest, HttpResponse, IssuedToken | GrantedConsent]

EXAMPLE_STATE = "S" * 43
EXAMPLE_VERIFIER = "v" * 43


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an example: a token, a failure of the provider, or an error before it was asked."""

    expires_in_s: int = 0
    connection: Connection | None = None
    credentials: Credentials | None = None
    issued: IssuedToken | None = field(default=None, repr=False)
    failure: ExchangeFailure | None = None
    error: BrokerError | None = None
    account: str | None = None

    @property
    def code(self) -> str | None:
        if self.failure is not None:
            return self.failure.kind.code
        return None if self.error is None else self.error.code

    @property
    def rule(self) -> str | None:
        return None if self.failure is None else self.failure.rule


def run_example(provider: Provider, example: Example, now: datetime) -> list[FieldError]:
    """Every difference between the example and what the broker does. No difference shows a credential.

    `now`: for an example that does not say when it happened.
    """
    moment = example.now or now
    secret = example_keys().secret(example.secret)
    comparison = RequestComparison(secret.values(), moment)
    faults: list[FieldError] = []
    try:
        connection, request = _grant_request(provider, example, json.dumps(secret), moment)
        flow: Exchanges = token_flow(request)
        if example.consent is not None:
            spec = _consent_spec(provider)
            faults += _differences_of_authorization(request, spec, example.consent, comparison)
            flow = _consent_flow(connection, request, spec, example.consent)
    except BrokerError as error:
        return faults + list(_differences_of_result(example, Outcome(error=error), comparison))
    outcome = _played(flow, example.exchanges, comparison, faults)
    if outcome is not None:
        outcome = _expiring(replace(outcome, connection=connection, credentials=request.credentials), moment)
        faults += _differences_of_result(example, outcome, comparison)
    return faults


def _consent_spec(provider: Provider) -> ConsentSpec:
    """Raises InvalidRequest where the provider's file has none."""
    if provider.consent is None:
        raise InvalidRequest("The provider's file has no section consent.", errors=[])
    return provider.consent


def _differences_of_authorization(
    request: GrantRequest, spec: ConsentSpec, example: ConsentExample, comparison: RequestComparison
) -> Iterator[FieldError]:
    """The differences of what the browser opens."""
    if example.authorize is None:
        return
    url, _, query = example.authorize.replace(STATE, EXAMPLE_STATE).partition("?")
    expected = ExpectedRequest("GET", url, tuple(parse_qsl(query, keep_blank_values=True)), {}, None, None)
    more = {"redirect_uri": example.redirect_uri, "state": EXAMPLE_STATE}
    opened, _, sent = authorize_url(request, spec, **more, code_challenge=code_challenge(EXAMPLE_VERIFIER)).partition(
        "?"
    )
    sent_query = tuple(parse_qsl(sent, keep_blank_values=True))
    for difference in comparison.differences(expected, HttpRequest("GET", opened, query=sent_query, headers={})):
        yield FieldError(difference.field.replace("request", "consent.authorize", 1), difference.reason)


def _consent_flow(
    connection: Connection, request: GrantRequest, spec: ConsentSpec, example: ConsentExample
) -> Generator[HttpRequest, HttpResponse, GrantedConsent]:
    """The requests after the person's consent. Raises InvalidRequest for a redirect that the broker would not take."""
    if example.redirect is None:
        return _device_flow(ConsentRequest(connection, request.credentials, request, spec, {}))
    redirect_url = example.redirect.replace(STATE, EXAMPLE_STATE)
    found = read_redirect(redirect_pairs(redirect_url, example.redirect_uri), spec, request.response)
    check_kept(found.kept, connection.options)
    if found.code is None or not is_issuer(found.iss, expected_iss(spec, connection.options)):
        raise InvalidRequest("The redirect has no code, or another issuer.", errors=[])
    return exchange_code(
        ConsentRequest(connection, request.credentials, request, spec, found.kept),
        code=found.code,
        redirect_uri=example.redirect_uri,
        verifier=EXAMPLE_VERIFIER if spec.pkce else None,
    )


def _device_flow(consent: ConsentRequest) -> Generator[HttpRequest, HttpResponse, GrantedConsent]:
    device = yield from begin_device(consent.request, consent.spec, insecure_urls=False)
    return (yield from poll_device(consent, device_code=device.device_code))


def _grant_request(provider: Provider, example: Example, secret: str, now: datetime) -> tuple[Connection, GrantRequest]:
    """Raises BrokerError for settings or a secret that are not valid."""
    name = ConnectionName(provider.slug, "example")
    connection = parse_connection(name, provider, {"allowed_callers": ["*"], **example.settings})
    credentials = parse_credentials(name, provider, Secret(secret, version="example"))
    check_scope_without_secret(name, provider, credentials, connection.scope)
    request = prepare_request(
        connection,
        credentials,
        connection.scope,
        kms_signer=no_kms_key,
        clock=lambda: now,
        new_id=lambda: uuid.uuid4().hex,
    )
    return connection, replace(request, refresh_token=example.refresh_token)


def _played(
    flow: Exchanges,
    exchanges: tuple[ExampleExchange, ...],
    comparison: RequestComparison,
    faults: list[FieldError],
) -> Outcome | None:
    """Plays the exchanges and adds the differences of each request. None if the flow sends more requests than these."""
    sent = next(flow)
    for number, exchange in enumerate(exchanges, 1):
        if exchange.request is not None:
            faults += comparison.differences(exchange.request, sent)
        try:
            sent = flow.send(exchange.response)
        except StopIteration as done:
            outcome = _outcome(done.value)
        except GrantFailed as failed:
            outcome = Outcome(failure=failed.failure)
        else:
            continue
        if number < len(exchanges):
            faults.append(FieldError("before", "has more exchanges than there are requests"))
        return outcome
    flow.close()
    faults.append(FieldError("request", "is followed by another request, which the example lacks"))
    return None


def _outcome(result: IssuedToken | GrantedConsent) -> Outcome:
    if isinstance(result, GrantedConsent):
        return Outcome(issued=replace(result.issued, refresh_token=result.refresh_token), account=result.account)
    return Outcome(issued=result)


def _expiring(outcome: Outcome, now: datetime) -> Outcome:
    """With the token's lifetime. A token that cannot be used is a failure, as it is in the broker."""
    connection = outcome.connection
    issued = outcome.issued
    if connection is None or issued is None:
        return outcome
    try:
        default = connection.default_lifetime or DEFAULT_LIFETIME
        expiry = expiry_of(issued, sent_at=now, cap=connection.lifetime_cap, default=default)
    except UnusableResponse as unusable:
        return Outcome(failure=unusable_response(str(unusable)))
    if expiry.expired is not None:
        return Outcome(failure=unusable_response(expiry.expired))
    return replace(outcome, expires_in_s=round((expiry.expires_at - now).total_seconds()))


def _differences_of_result(example: Example, outcome: Outcome, comparison: RequestComparison) -> Iterator[FieldError]:
    expected = example.result
    if expected.error != outcome.code:
        yield FieldError("result.error", f"must be {expected.error or 'none'}, and is {_described(outcome)}")
        return
    pairs: list[tuple[str, Any, Any]] = [("rule", expected.rule, outcome.rule)]
    if outcome.issued is not None and outcome.connection is not None and outcome.credentials is not None:
        issued = outcome.issued
        connection = outcome.connection
        headers = connection.sent_headers(issued.access_token, outcome.credentials.values, example.kept)
        pairs += [
            ("token", expected.token, issued.access_token),
            ("expires_in_s", expected.expires_in_s, outcome.expires_in_s),
            ("scope", expected.scope, issued.scope or connection.scope),
            ("refresh_token", expected.refresh_token, issued.refresh_token),
            ("headers", expected.headers, headers),
            ("api_base_url", expected.api_base_url, connection.sent_base_url(example.kept) or issued.api_base_url),
            ("account", expected.account, outcome.account),
        ]
    hidden = RequestComparison([*comparison.credentials, expected.token or ""], comparison.now)
    for name, wanted, got in pairs:
        if wanted is not None:
            yield from (FieldError(field, reason) for field, reason in hidden.values(f"result.{name}", wanted, got))


def _described(outcome: Outcome) -> str:
    """The outcome in our own words."""
    if outcome.failure is not None:
        return f"{outcome.code}, failure rule {outcome.rule}: {outcome.failure.detail}"
    if outcome.error is not None:
        faults = "; ".join(str(fault) for fault in outcome.error.errors)
        return f"{outcome.code}: {outcome.error.detail} {faults}".rstrip()
    return "none: there is a token"
