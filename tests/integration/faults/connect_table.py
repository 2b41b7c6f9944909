"""The faults of Ucommerce's connect, the step before its token endpoint. It redirects with a code."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from local.providers.accounts import REDIRECT_URI
from tests.integration.faults.outcomes import (
    INVALID,
    LIMITED,
    QUARTER_HOUR_S,
    REFUSED,
    TRANSIENT_S,
    UNAVAILABLE,
    Case,
    Outcome,
    Section,
    refused_for_s,
)
from tests.integration.faults.provider_faults import FREE_TEXT, PAGE, Disrupt, ProviderFault, RespondWith
from tests.integration.faults.table import GOOD, coded

HOST: Final = urlsplit(REDIRECT_URI).netloc


def redirect(location: str) -> ProviderFault:
    return RespondWith(302, headers={"Location": location})


def at_connect(
    rule: str, code: str, cooldown_s: int, provider_error: str | None = None, level: str = "connection"
) -> Outcome:
    """Nothing goes to the token endpoint, except at a renewal the refresh token, which is refused."""
    return Outcome(rule, code, cooldown_s, provider_error, level, token_requests=0, connect_requests=1)


def passing(rule: str, provider_error: str | None = None) -> Outcome:
    return at_connect(rule, UNAVAILABLE, TRANSIENT_S, provider_error)


def refused(rule: str, provider_error: str | None, level: str = "connection") -> Outcome:
    return at_connect(rule, REFUSED, refused_for_s(level), provider_error, level)


SECTIONS: Final = (
    Section(
        ("no_complete_response",),
        "No response, or a broken connection, after the request was sent",
        "transient; whether a code was issued is unknown",
        "As for `unreachable`.",
        (
            Case("reset", Disrupt("reset"), passing("no_complete_response")),
            Case("no response in time", Disrupt("hang"), passing("no_complete_response")),
            Case(
                "headers sent slowly, byte by byte",
                Disrupt("drip", {"seconds": 0.02, "part": "all"}),
                passing("no_complete_response"),
            ),
            Case("body of 10 MB", Disrupt("huge"), passing("no_complete_response")),
        ),
    ),
    Section(
        ("redirected_elsewhere",),
        "A redirect to another address than redirect_uri",
        "no usable response",
        "Compare redirect_uri with the store's URL Whitelist: scheme, host, port and path must match.",
        tuple(
            Case(f"302 to {text}", redirect(location), at_connect("redirected_elsewhere", INVALID, QUARTER_HOUR_S))
            for text, location in (
                ("a login page", f"https://elsewhere.example/login?{FREE_TEXT}"),
                ("another host", REDIRECT_URI.replace(HOST, "broker.example.evil.example") + "?code=fake"),
                ("another path", REDIRECT_URI + "/other?code=fake"),
                ("http", REDIRECT_URI.replace("https", "http") + "?code=fake"),
                ("another port", REDIRECT_URI.replace(HOST, HOST + ":8443") + "?code=fake"),
                ("a relative address", "/callback?code=fake"),
                ("an empty Location", ""),
                ("an invalid address", "https://[::1"),
            )
        ),
    ),
    Section(
        ("authorization_unavailable", "authorization_refused"),
        "A redirect to redirect_uri with an error",
        "server_error and temporarily_unavailable: transient; others: refused",
        "See the error. access_denied: the store does not allow this client.",
        (
            Case(
                "error=server_error",
                redirect(f"{REDIRECT_URI}?error=server_error"),
                passing("authorization_unavailable", "server_error"),
            ),
            Case(
                "error=temporarily_unavailable",
                redirect(f"{REDIRECT_URI}?error=temporarily_unavailable&error_description={FREE_TEXT}"),
                passing("authorization_unavailable", "temporarily_unavailable"),
            ),
            Case(
                "error=access_denied",
                redirect(f"{REDIRECT_URI}?error=access_denied"),
                refused("authorization_refused", "access_denied"),
            ),
            Case(
                "error=invalid_scope",
                redirect(f"{REDIRECT_URI}?error=invalid_scope"),
                refused("authorization_refused", "invalid_scope"),
            ),
            Case(
                "an error that the broker does not know",
                redirect(f"{REDIRECT_URI}?error=oops"),
                refused("authorization_refused", "unrecognised"),
            ),
        ),
    ),
    Section(
        ("redirect_uri_not_allowed",),
        "2xx or 4xx without a known code",
        "refused",
        "Put redirect_uri on the store's URL Whitelist, then put the settings again.",
        (
            Case("400 with an HTML page", RespondWith(400, PAGE, html=True), refused("redirect_uri_not_allowed", None)),
            Case(
                "400 with a code that the broker does not know",
                RespondWith(400, code="oops"),
                refused("redirect_uri_not_allowed", "unrecognised"),
            ),
            Case("200 with an HTML page", RespondWith(200, PAGE, html=True), refused("redirect_uri_not_allowed", None)),
            Case("200 with an empty body", RespondWith(200), refused("redirect_uri_not_allowed", None)),
            Case("200 with a token", RespondWith(200, GOOD), refused("redirect_uri_not_allowed", None)),
            Case("401 with an empty body", RespondWith(401), refused("redirect_uri_not_allowed", None)),
            Case("403 with an HTML page", RespondWith(403, PAGE, html=True), refused("redirect_uri_not_allowed", None)),
            Case("404 with an HTML page", RespondWith(404, PAGE, html=True), refused("redirect_uri_not_allowed", None)),
        ),
    ),
    Section(
        ("rate_limited",),
        "429, or 503 with Retry-After",
        "rate limit",
        "Wait: the broker sends nothing until then.",
        (
            Case(
                "429 without Retry-After", RespondWith(429), at_connect("rate_limited", LIMITED, 60, level="rate_limit")
            ),
            Case(
                "429, Retry-After: 7",
                RespondWith(429, headers={"Retry-After": "7"}),
                at_connect("rate_limited", LIMITED, 7, level="rate_limit"),
            ),
            Case(
                "503, Retry-After: a date 90 s ahead",
                RespondWith(503, date_in_s=90),
                at_connect("rate_limited", LIMITED, 90, level="rate_limit"),
            ),
        ),
    ),
    Section(
        ("client_refused", "scope_refused", "request_refused", "temporary_error"),
        "An error code that the broker knows, as at the token endpoint",
        "as in the table above",
        "As in the table above.",
        (
            coded(400, "invalid_client", refused("client_refused", "invalid_client")),
            coded(400, "invalid_scope", refused("scope_refused", "invalid_scope", "key")),
            coded(400, "invalid_request", refused("request_refused", "invalid_request")),
            coded(400, "server_error", passing("temporary_error", "server_error")),
        ),
    ),
    Section(
        ("server_failed",),
        "408, 425 or 5xx",
        "transient; not repeated within the call",
        "As for `unreachable`.",
        tuple(
            Case(f"{status} with an empty body", RespondWith(status), passing("server_failed"))
            for status in (408, 425, 500, 502, 503, 504)
        ),
    ),
    Section(
        ("unusable_response",),
        "A redirect to redirect_uri without a code",
        "no usable response",
        "Ask the provider. The broker reads `code` from the redirect's query.",
        (
            Case("302 without a query", redirect(REDIRECT_URI), at_connect("unusable_response", INVALID, TRANSIENT_S)),
            Case(
                "302 with an empty code",
                redirect(f"{REDIRECT_URI}?code="),
                at_connect("unusable_response", INVALID, TRANSIENT_S),
            ),
            Case(
                "302 with the code in the fragment",
                redirect(f"{REDIRECT_URI}#code=fake"),
                at_connect("unusable_response", INVALID, TRANSIENT_S),
            ),
        ),
    ),
)
