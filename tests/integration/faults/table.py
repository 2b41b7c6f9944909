"""The faults of a token endpoint, row by row, and what each leads to. Every one is played at every provider."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.integration.faults.outcomes import (
    COLD,
    HOUR_S,
    INVALID,
    LIMITED,
    MINUTE_S,
    QUARTER_S,
    REFUSED,
    SOON_S,
    UNAVAILABLE,
    Case,
    Outcome,
    Row,
)
from tests.integration.faults.playing import FREE_TEXT, PAGE, Bends, Breaks, Gone, Says

GOOD: Final[dict[str, Any]] = {"access_token": "fake-token", "token_type": "Bearer", "expires_in": 3600}
UTF_16: Final = json.dumps(GOOD).encode("utf-16-le").decode()
DEEP: Final = '{"access_token":' + "[" * 30_000
LONG: Final = "t" * (16 * 1024 + 1)


def refused(row: int, provider_error: str | None, where: str = "connection") -> Outcome:
    return Outcome(row, REFUSED, QUARTER_S, provider_error, where)


def passing(row: int, provider_error: str | None = None) -> Outcome:
    return Outcome(row, UNAVAILABLE, SOON_S, provider_error)


def second_chance(provider_error: str | None) -> Outcome:
    return Outcome(12, UNAVAILABLE, MINUTE_S, provider_error)


def limited(rest_s: int, provider_error: str | None = None) -> Outcome:
    return Outcome(6, LIMITED, rest_s, provider_error, "limit")


def invalid(row: int, rest_s: int = SOON_S, provider_error: str | None = None) -> Outcome:
    return Outcome(row, INVALID, rest_s, provider_error)


UNSENT: Final = Outcome(1, UNAVAILABLE, SOON_S, token_requests=0, connect_requests=0)
# A refused code: one new connect, and no third code. A refused refresh token comes before both.
SECOND_CODE: Final = Outcome(10, UNAVAILABLE, SOON_S, "invalid_grant", token_requests=2, connect_requests=2)
THIRD_SENT: Final = Outcome(10, UNAVAILABLE, SOON_S, "invalid_grant", token_requests=3, connect_requests=2)
NOT_BEARER: Final = {"unicommerce": None}

ROWS: Final = (
    Row(
        1,
        "The name does not resolve, nobody listens, or TLS fails",
        "transient",
        "Look at the provider's status page and at the host of token_url or base_url. A certificate that is not "
        "trusted rests 5 min at once: set ca_bundle, if the provider has its own CA.",
        (Case("nobody listens at the address", Gone(), UNSENT),),
    ),
    Row(
        2,
        "Silence or a broken connection after the request went out; a body that is cut, or longer than 64 KiB",
        "transient, and nobody knows whether a token was issued",
        "As row 1. A refresh token or code that was sent is spent: the next attempt starts the grant anew.",
        (
            Case("reset before the request was carried out", Breaks("reset"), passing(2)),
            Case("reset after a token was issued", Breaks("reset", {"when": "after"}), passing(2)),
            Case("no answer in time", Breaks("hang"), passing(2)),
            Case("headers that drip, byte by byte", Breaks("drip", {"seconds": 0.02, "part": "all"}), passing(2)),
            Case("body that drips, byte by byte", Breaks("drip", {"seconds": 0.02}), passing(2)),
            Case("body cut in the middle", Breaks("truncate"), passing(2)),
            Case("body of 10 MB", Breaks("huge"), passing(2)),
        ),
    ),
    Row(
        3,
        "A redirect from the token endpoint",
        "no usable answer",
        "Correct token_url or base_url: the endpoint has moved, or a login page stands before it. No redirect is "
        "followed, and none is logged.",
        (
            Case("302 to elsewhere", Breaks("redirect"), invalid(3, QUARTER_S)),
            Case(
                "307 to another host",
                Says(307, headers={"Location": f"https://elsewhere.example/?{FREE_TEXT}"}),
                invalid(3, QUARTER_S),
            ),
            Case("301 without Location", Says(301), invalid(3, QUARTER_S)),
        ),
    ),
    Row(
        6,
        "429 with any body, or 503 with Retry-After",
        "the provider's limit",
        "Wait: nothing is asked until then. If it comes back, somebody else uses the same account or address; ask the "
        "provider for a higher limit.",
        (
            Case("429 without Retry-After", Says(429), limited(MINUTE_S)),
            Case("429, Retry-After: 7", Says(429, headers={"Retry-After": "7"}), limited(7)),
            Case("429, Retry-After: a date 90 s ahead", Says(429, date_in_s=90), limited(90)),
            Case("429, Retry-After: a date that is past", Says(429, date_in_s=-90), limited(MINUTE_S)),
            Case("429, Retry-After: soon", Says(429, headers={"Retry-After": "soon"}), limited(MINUTE_S)),
            Case("429, Retry-After: 0", Says(429, headers={"Retry-After": "0"}), limited(MINUTE_S)),
            Case("429, Retry-After: 86400", Says(429, headers={"Retry-After": "86400"}), limited(HOUR_S)),
            Case("429 with invalid_client", Says(429, code="invalid_client"), limited(MINUTE_S, "invalid_client")),
            Case("429 with a page", Says(429, PAGE, html=True), limited(MINUTE_S)),
            Case("503, Retry-After: 45", Says(503, PAGE, html=True, headers={"Retry-After": "45"}), limited(45)),
            Case("503, Retry-After: soon", Says(503, headers={"Retry-After": "soon"}), limited(MINUTE_S)),
        ),
    ),
    Row(
        7,
        "invalid_client, unauthorized_client or INVALID_CREDENTIALS, at any status, even beside a token",
        "refused",
        "Put the right credentials into the secret: the new version is tried at once. A trial tries them before.",
        (
            Case("401 invalid_client", Says(401, code="invalid_client"), refused(7, "invalid_client")),
            Case("400 invalid_client", Says(400, code="invalid_client"), refused(7, "invalid_client")),
            Case("200 invalid_client", Says(200, code="invalid_client"), refused(7, "invalid_client")),
            Case("500 invalid_client", Says(500, code="invalid_client"), refused(7, "invalid_client")),
            Case(
                "401 invalid_client, the errors one object",
                Says(401, {"errors": {"title": "invalid_client", "detail": FREE_TEXT}}),
                refused(7, "invalid_client"),
            ),
            Case("400 unauthorized_client", Says(400, code="unauthorized_client"), refused(7, "unauthorized_client")),
            Case(
                "200 with status INVALID_CREDENTIALS",
                Says(200, {"status": "INVALID_CREDENTIALS", "message": FREE_TEXT}),
                refused(7, "invalid_credentials"),
            ),
            Case(
                "a token, and invalid_client beside it",
                Bends({"error": "invalid_client"}),
                refused(7, "invalid_client"),
            ),
        ),
    ),
    Row(
        8,
        "invalid_scope, scope_invalid or invalid_target",
        "refused",
        "Ask for a scope that the account has, or have it granted. Other scopes of the connection are not touched.",
        (
            Case("400 invalid_scope", Says(400, code="invalid_scope"), refused(8, "invalid_scope", "scope")),
            Case("401 invalid_scope", Says(401, code="invalid_scope"), refused(8, "invalid_scope", "scope")),
            Case("400 invalid_target", Says(400, code="invalid_target"), refused(8, "invalid_target", "scope")),
        ),
    ),
    Row(
        9,
        "invalid_request or unsupported_grant_type",
        "refused",
        "Compare the settings with the provider's page: client_auth, encoding, params.",
        (
            Case("400 invalid_request", Says(400, code="invalid_request"), refused(9, "invalid_request")),
            Case("401 invalid_request", Says(401, code="invalid_request"), refused(9, "invalid_request")),
            Case(
                "400 unsupported_grant_type",
                Says(400, code="unsupported_grant_type"),
                refused(9, "unsupported_grant_type"),
            ),
        ),
    ),
    Row(
        10,
        "invalid_grant",
        "refused; where it was a code or a refresh token: one new connect, then transient",
        "Ucommerce: nothing, unless it lasts. Elsewhere: the account may not use this grant; ask the provider.",
        (
            Case(
                "400 invalid_grant",
                Says(400, code="invalid_grant"),
                refused(10, "invalid_grant"),
                {"ucommerce": SECOND_CODE, "ucommerce renewal": THIRD_SENT},
            ),
            Case(
                "401 invalid_grant",
                Says(401, code="invalid_grant"),
                refused(10, "invalid_grant"),
                {"ucommerce": SECOND_CODE, "ucommerce renewal": THIRD_SENT},
            ),
        ),
    ),
    Row(
        11,
        "server_error, temporarily_unavailable or invalid_token_reuse",
        "transient",
        "As row 1.",
        (
            Case("400 server_error", Says(400, code="server_error"), passing(11, "server_error")),
            Case(
                "400 temporarily_unavailable",
                Says(400, code="temporarily_unavailable"),
                passing(11, "temporarily_unavailable"),
            ),
            Case(
                "503 temporarily_unavailable",
                Says(503, code="temporarily_unavailable"),
                passing(11, "temporarily_unavailable"),
            ),
            Case("400 invalid_token_reuse", Says(400, code="invalid_token_reuse"), passing(11, "invalid_token_reuse")),
        ),
    ),
    Row(
        12,
        "FAILED, or 401 or 403 with a page, for credentials that worked before",
        "transient once, then refused (row 13)",
        "Wait a minute: a gateway in maintenance says the same as a changed password.",
        (
            Case(
                "200 with status FAILED",
                Says(200, {"status": "FAILED", "message": FREE_TEXT}),
                second_chance("failed"),
                {COLD: refused(13, "failed")},
            ),
            Case("401 with a page", Says(401, PAGE, html=True), second_chance(None), {COLD: refused(13, None)}),
            Case("403 with a page", Says(403, PAGE, html=True), second_chance(None), {COLD: refused(13, None)}),
        ),
    ),
    Row(
        13,
        "FAILED, 401 or 403 otherwise",
        "refused",
        "As row 7.",
        (
            Case("401 with nothing", Says(401), refused(13, None)),
            Case("401 with a code that is not on the list", Says(401, code="tenant_4711"), refused(13, "unrecognised")),
            Case("403 with nothing", Says(403), refused(13, None)),
            Case("403 access_denied", Says(403, code="access_denied"), refused(13, "access_denied")),
        ),
    ),
    Row(
        14,
        "Another 4xx, but 408 and 425",
        "refused",
        "Correct token_url or base_url, method and encoding.",
        (
            Case("404 with a page", Says(404, PAGE, html=True), refused(14, None)),
            Case("400 with nothing", Says(400), refused(14, None)),
            Case("405 with nothing", Says(405), refused(14, None)),
            Case("415 with a code that is not on the list", Says(415, code="media_type"), refused(14, "unrecognised")),
        ),
    ),
    Row(
        15,
        "408, 425 or 5xx",
        "transient",
        "As row 1.",
        (
            Case("408 with nothing", Says(408), passing(15)),
            Case("425 with nothing", Says(425), passing(15)),
            Case("500 with nothing", Says(500), passing(15)),
            Case("500 with a code that is not on the list", Says(500, code="oops_4711"), passing(15, "unrecognised")),
            Case("502 with a page", Says(502, PAGE, html=True), passing(15)),
            Case("503 without Retry-After", Says(503), passing(15)),
            Case("504 with a page", Says(504, PAGE, html=True), passing(15)),
        ),
    ),
    Row(
        16,
        "2xx that is no usable token: no JSON object, no token, one that no header can carry or over 16 KiB, "
        "token_type other than bearer where it is sent as Bearer, a life of 0 or less",
        "no usable answer",
        "Correct token_url or base_url: something else answers there. `detail` says what is wrong.",
        (
            Case("200 with a page", Says(200, PAGE, html=True), invalid(16)),
            Case("200 with nothing", Says(200), invalid(16)),
            Case("204", Says(204), invalid(16)),
            Case("an array", Says(200, [GOOD]), invalid(16)),
            Case("a text", Says(200, '"fake-token"'), invalid(16)),
            Case("JSON nested 30,000 deep", Says(200, DEEP), invalid(16)),
            Case("JSON in UTF-16", Says(200, UTF_16), invalid(16)),
            Case("an object without a token", Says(200, {"token_type": "Bearer", "expires_in": 3600}), invalid(16)),
            Case(
                "an error that is not on the list",
                Says(200, {"error": "oops"}),
                invalid(16, provider_error="unrecognised"),
            ),
            Case("a token that is null", Bends({"token": None}), invalid(16)),
            Case("a token that is empty", Bends({"token": ""}), invalid(16)),
            Case("a token that is a number", Bends({"token": 4711}), invalid(16)),
            Case("a token with a line break", Bends({"token": "fake\r\nX-Injected: 1"}), invalid(16)),
            Case("a token with é", Bends({"token": "fak\u00e9"}), invalid(16)),
            Case("a token over 16 KiB", Bends({"token": LONG}), invalid(16)),
            Case("expires_in 0", Bends({"expires_in": 0}), invalid(16)),
            Case("expires_in -1", Bends({"expires_in": -1}), invalid(16)),
            Case("expires_in soon", Bends({"expires_in": "soon"}), invalid(16)),
            Case("expires_in true", Bends({"expires_in": True}), invalid(16)),
            Case("token_type mac", Bends({"token_type": "mac"}), invalid(16), NOT_BEARER),
            Case("token_type that is a list", Bends({"token_type": ["Bearer"]}), invalid(16), NOT_BEARER),
        ),
    ),
)
