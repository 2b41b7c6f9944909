"""The faults of Ucommerce's connect, the step before its token endpoint: a redirect that carries a code."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from local.providers.accounts import REDIRECT_URI
from tests.integration.faults.outcomes import (
    INVALID,
    LIMITED,
    QUARTER_S,
    REFUSED,
    SOON_S,
    UNAVAILABLE,
    Case,
    Outcome,
    Row,
)
from tests.integration.faults.playing import FREE_TEXT, PAGE, Breaks, Play, Says
from tests.integration.faults.table import GOOD

HOST: Final = urlsplit(REDIRECT_URI).netloc


def redirect(location: str) -> Play:
    return Says(302, headers={"Location": location})


def at_connect(
    row: int, code: str, rest_s: int, provider_error: str | None = None, where: str = "connection"
) -> Outcome:
    """Nothing is sent to the token endpoint; at a renewal, the refresh token was, and refused."""
    return Outcome(row, code, rest_s, provider_error, where, token_requests=0, connect_requests=1)


def passing(row: int, provider_error: str | None = None) -> Outcome:
    return at_connect(row, UNAVAILABLE, SOON_S, provider_error)


def refused(row: int, provider_error: str | None, where: str = "connection") -> Outcome:
    return at_connect(row, REFUSED, QUARTER_S, provider_error, where)


ROWS: Final = (
    Row(
        2,
        "Silence or a broken connection after the request went out",
        "transient, and nobody knows whether a code was issued",
        "As row 1.",
        (
            Case("reset", Breaks("reset"), passing(2)),
            Case("no answer in time", Breaks("hang"), passing(2)),
            Case("headers that drip, byte by byte", Breaks("drip", {"seconds": 0.02, "part": "all"}), passing(2)),
            Case("body of 10 MB", Breaks("huge"), passing(2)),
        ),
    ),
    Row(
        3,
        "A redirect to elsewhere than redirect_uri",
        "no usable answer",
        "Compare redirect_uri with the store's URL Whitelist: scheme, host, port and path must be the same.",
        tuple(
            Case(f"302 to {text}", redirect(location), at_connect(3, INVALID, QUARTER_S))
            for text, location in (
                ("a login page", f"https://elsewhere.example/login?{FREE_TEXT}"),
                ("another host", REDIRECT_URI.replace(HOST, "broker.example.evil.example") + "?code=fake"),
                ("another path", REDIRECT_URI + "/other?code=fake"),
                ("http", REDIRECT_URI.replace("https", "http") + "?code=fake"),
                ("another port", REDIRECT_URI.replace(HOST, HOST + ":8443") + "?code=fake"),
                ("a relative address", "/callback?code=fake"),
                ("nowhere", ""),
                ("no address at all", "https://[::1"),
            )
        ),
    ),
    Row(
        4,
        "A redirect to redirect_uri with an error",
        "server_error and temporarily_unavailable are transient, all others refused",
        "As the error says; access_denied: the store does not let this client in.",
        (
            Case("error=server_error", redirect(f"{REDIRECT_URI}?error=server_error"), passing(4, "server_error")),
            Case(
                "error=temporarily_unavailable",
                redirect(f"{REDIRECT_URI}?error=temporarily_unavailable&error_description={FREE_TEXT}"),
                passing(4, "temporarily_unavailable"),
            ),
            Case("error=access_denied", redirect(f"{REDIRECT_URI}?error=access_denied"), refused(4, "access_denied")),
            Case("error=invalid_scope", redirect(f"{REDIRECT_URI}?error=invalid_scope"), refused(4, "invalid_scope")),
            Case("an error not on the list", redirect(f"{REDIRECT_URI}?error=oops"), refused(4, "unrecognised")),
        ),
    ),
    Row(
        5,
        "2xx or 4xx without a known code",
        "refused",
        "Put redirect_uri on the store's URL Whitelist, then put the settings again.",
        (
            Case("400 with a page", Says(400, PAGE, html=True), refused(5, None)),
            Case("400 with a code that is not on the list", Says(400, code="oops"), refused(5, "unrecognised")),
            Case("200 with a page", Says(200, PAGE, html=True), refused(5, None)),
            Case("200 with nothing", Says(200), refused(5, None)),
            Case("200 with a token", Says(200, GOOD), refused(5, None)),
            Case("401 with nothing", Says(401), refused(5, None)),
            Case("403 with a page", Says(403, PAGE, html=True), refused(5, None)),
            Case("404 with a page", Says(404, PAGE, html=True), refused(5, None)),
        ),
    ),
    Row(
        6,
        "429, or 503 with Retry-After",
        "the provider's limit",
        "Wait: nothing is asked until then.",
        (
            Case("429 without Retry-After", Says(429), at_connect(6, LIMITED, 60, where="limit")),
            Case(
                "429, Retry-After: 7", Says(429, headers={"Retry-After": "7"}), at_connect(6, LIMITED, 7, where="limit")
            ),
            Case(
                "503, Retry-After: a date 90 s ahead",
                Says(503, date_in_s=90),
                at_connect(6, LIMITED, 90, where="limit"),
            ),
        ),
    ),
    Row(
        7,
        "A known code with a status, as at the token endpoint",
        "as in the table above",
        "As in the table above.",
        (
            Case("400 invalid_client", Says(400, code="invalid_client"), refused(7, "invalid_client")),
            Case("400 invalid_scope", Says(400, code="invalid_scope"), refused(8, "invalid_scope", "scope")),
            Case("400 invalid_request", Says(400, code="invalid_request"), refused(9, "invalid_request")),
            Case("400 server_error", Says(400, code="server_error"), passing(11, "server_error")),
        ),
    ),
    Row(
        15,
        "408, 425 or 5xx",
        "transient; not asked again within the call",
        "As row 1.",
        tuple(Case(f"{status} with nothing", Says(status), passing(15)) for status in (408, 425, 500, 502, 503, 504)),
    ),
    Row(
        16,
        "A redirect to redirect_uri without a code",
        "no usable answer",
        "Ask the provider; the broker reads `code` from the query of the redirect.",
        (
            Case("302 without a query", redirect(REDIRECT_URI), at_connect(16, INVALID, SOON_S)),
            Case("302 with an empty code", redirect(f"{REDIRECT_URI}?code="), at_connect(16, INVALID, SOON_S)),
            Case(
                "302 with the code in the fragment",
                redirect(f"{REDIRECT_URI}#code=fake"),
                at_connect(16, INVALID, SOON_S),
            ),
        ),
    ),
)
