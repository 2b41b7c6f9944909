"""The faults of a token endpoint, and what each leads to. The suite tries each fault at every provider."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from tests.integration.faults.outcomes import (
    COLD,
    HOUR_S,
    INVALID,
    LIMITED,
    MINUTE_S,
    QUARTER_HOUR_S,
    REFUSED,
    TRANSIENT_S,
    UNAVAILABLE,
    Case,
    Outcome,
    Section,
    refused_for_s,
)
from tests.integration.faults.provider_faults import FREE_TEXT, PAGE, AlterToken, Disrupt, NotListening, RespondWith

GOOD: Final[dict[str, Any]] = {"access_token": "fake-token", "token_type": "Bearer", "expires_in": 3600}
UTF_16: Final = json.dumps(GOOD).encode("utf-16-le").decode()
DEEP: Final = '{"access_token":' + "[" * 30_000
LONG: Final = "t" * (16 * 1024 + 1)


def refused(rule: str, provider_error: str | None, level: str = "connection") -> Outcome:
    return Outcome(rule, REFUSED, refused_for_s(level), provider_error, level)


def passing(rule: str, provider_error: str | None = None) -> Outcome:
    return Outcome(rule, UNAVAILABLE, TRANSIENT_S, provider_error)


def second_chance(provider_error: str | None) -> Outcome:
    return Outcome("credentials_doubted", UNAVAILABLE, MINUTE_S, provider_error)


def limited(cooldown_s: int, provider_error: str | None = None) -> Outcome:
    return Outcome("rate_limited", LIMITED, cooldown_s, provider_error, "rate_limit")


def invalid(rule: str, cooldown_s: int = TRANSIENT_S, provider_error: str | None = None) -> Outcome:
    return Outcome(rule, INVALID, cooldown_s, provider_error)


def coded(status: int, code: str, outcome: Outcome, exceptions: Mapping[str, Outcome] | None = None) -> Case:
    """A response with an error code, written as the vendor does."""
    return Case(f"{status} {code}", RespondWith(status, code=code), outcome, exceptions or {})


UNSENT: Final = Outcome("unreachable", UNAVAILABLE, TRANSIENT_S, token_requests=0, connect_requests=0)
# After a refused code: one new connect, and no third code. At a renewal a refused refresh token comes first.
SECOND_CODE: Final = Outcome(
    "code_or_refresh_token_refused", UNAVAILABLE, TRANSIENT_S, "invalid_grant", token_requests=2, connect_requests=2
)
AFTER_REFRESH: Final = Outcome(
    "code_or_refresh_token_refused", UNAVAILABLE, TRANSIENT_S, "invalid_grant", token_requests=3, connect_requests=2
)
# A lifetime of 0 means that the token expires now, so the provider is asked once more. A login is not repeated.
ASKED_TWICE: Final = Outcome("unusable_response", INVALID, TRANSIENT_S, token_requests=2)
NOT_BEARER: Final = {"unicommerce": None}

SECTIONS: Final = (
    Section(
        ("unreachable", "certificate_not_trusted", "address_not_public"),
        "The name does not resolve, nothing listens, or TLS fails",
        "transient",
        "Check the provider's status page, and the host of token_url or base_url. After an untrusted certificate the "
        "first cooldown is 5 min: set ca_bundle if the provider has its own CA.",
        (Case("nothing listens at the address", NotListening(), UNSENT),),
    ),
    Section(
        ("no_complete_response",),
        "No response, or a broken connection, after the request was sent; a body that is cut off or over 64 KiB",
        "transient; whether a token was issued is unknown",
        "As for `unreachable`. A refresh token or code that was sent is spent: the next request starts the grant anew.",
        (
            Case("reset before the request was carried out", Disrupt("reset"), passing("no_complete_response")),
            Case(
                "reset after a token was issued", Disrupt("reset", {"when": "after"}), passing("no_complete_response")
            ),
            Case("no response in time", Disrupt("hang"), passing("no_complete_response")),
            Case(
                "headers sent slowly, byte by byte",
                Disrupt("drip", {"seconds": 0.02, "part": "all"}),
                passing("no_complete_response"),
            ),
            Case("body sent slowly, byte by byte", Disrupt("drip", {"seconds": 0.02}), passing("no_complete_response")),
            Case("body cut in the middle", Disrupt("truncate"), passing("no_complete_response")),
            Case("body of 10 MB", Disrupt("huge"), passing("no_complete_response")),
        ),
    ),
    Section(
        ("unreadable_response",),
        "A response that is not HTTP/1.1, or has more than 256 headers or 64 KiB of them",
        "no usable response; whether a token was issued is unknown",
        "Correct token_url or base_url: another server responds there. A refresh token or code that was sent is spent.",
        (
            Case(
                "300 headers",
                RespondWith(200, headers={f"X-Header-{number}": "x" for number in range(300)}),
                invalid("unreadable_response"),
            ),
            Case(
                "a header of 70 KB",
                RespondWith(200, headers={"X-Header": "x" * 70_000}),
                invalid("unreadable_response"),
            ),
        ),
    ),
    Section(
        ("redirected_elsewhere",),
        "A redirect from the token endpoint",
        "no usable response",
        "Correct token_url or base_url: the endpoint has moved, or there is a login page in front of it. Redirects are "
        "neither followed nor logged.",
        (
            Case("302 to another address", Disrupt("redirect"), invalid("redirected_elsewhere", QUARTER_HOUR_S)),
            Case(
                "307 to another host",
                RespondWith(307, headers={"Location": f"https://elsewhere.example/?{FREE_TEXT}"}),
                invalid("redirected_elsewhere", QUARTER_HOUR_S),
            ),
            Case("301 without Location", RespondWith(301), invalid("redirected_elsewhere", QUARTER_HOUR_S)),
        ),
    ),
    Section(
        ("rate_limited",),
        "429 with any body, or 403 or 503 with Retry-After",
        "rate limit",
        "Wait: the broker sends nothing until then. If it happens again, something else uses the same account or "
        "address. Ask the provider for a higher limit.",
        (
            Case("429 without Retry-After", RespondWith(429), limited(MINUTE_S)),
            Case("429, Retry-After: 7", RespondWith(429, headers={"Retry-After": "7"}), limited(7)),
            Case("429, Retry-After: a date 90 s ahead", RespondWith(429, date_in_s=90), limited(90)),
            Case("429, Retry-After: a date in the past", RespondWith(429, date_in_s=-90), limited(MINUTE_S)),
            Case("429, Retry-After: soon", RespondWith(429, headers={"Retry-After": "soon"}), limited(MINUTE_S)),
            Case("429, Retry-After: 0", RespondWith(429, headers={"Retry-After": "0"}), limited(MINUTE_S)),
            Case("429, Retry-After: 6.2", RespondWith(429, headers={"Retry-After": "6.2"}), limited(7)),
            Case("429, retry-after-ms: 6200", RespondWith(429, headers={"retry-after-ms": "6200"}), limited(7)),
            Case("403, Retry-After: 7", RespondWith(403, headers={"Retry-After": "7"}), limited(7)),
            Case("429, Retry-After: 86400", RespondWith(429, headers={"Retry-After": "86400"}), limited(HOUR_S)),
            Case(
                "429 with invalid_client", RespondWith(429, code="invalid_client"), limited(MINUTE_S, "invalid_client")
            ),
            Case("429 with an HTML page", RespondWith(429, PAGE, html=True), limited(MINUTE_S)),
            Case("503, Retry-After: 45", RespondWith(503, PAGE, html=True, headers={"Retry-After": "45"}), limited(45)),
            Case("503, Retry-After: soon", RespondWith(503, headers={"Retry-After": "soon"}), limited(MINUTE_S)),
        ),
    ),
    Section(
        ("client_refused",),
        "invalid_client, unauthorized_client or INVALID_CREDENTIALS, with any status, even together with a token",
        "refused",
        "Put the right credentials into the secret: the next request uses the new version. A trial checks them before.",
        (
            coded(401, "invalid_client", refused("client_refused", "invalid_client")),
            coded(400, "invalid_client", refused("client_refused", "invalid_client")),
            coded(200, "invalid_client", refused("client_refused", "invalid_client")),
            coded(500, "invalid_client", refused("client_refused", "invalid_client")),
            Case(
                "401 invalid_client, with errors as one object",
                RespondWith(401, {"errors": {"title": "invalid_client", "detail": FREE_TEXT}}),
                refused("client_refused", "invalid_client"),
            ),
            coded(400, "unauthorized_client", refused("client_refused", "unauthorized_client")),
            Case(
                "200 with status INVALID_CREDENTIALS",
                RespondWith(200, {"status": "INVALID_CREDENTIALS", "message": FREE_TEXT}),
                refused("client_refused", "invalid_credentials"),
            ),
            Case(
                "a token and invalid_client together",
                AlterToken({"error": "invalid_client"}),
                refused("client_refused", "invalid_client"),
            ),
        ),
    ),
    Section(
        ("scope_refused",),
        "invalid_scope, scope_invalid or invalid_target",
        "refused",
        "Request a scope that the account has, or have the scope granted. Other scopes of the connection still work.",
        (
            coded(400, "invalid_scope", refused("scope_refused", "invalid_scope", "key")),
            coded(401, "invalid_scope", refused("scope_refused", "invalid_scope", "key")),
            coded(400, "invalid_target", refused("scope_refused", "invalid_target", "key")),
        ),
    ),
    Section(
        ("request_refused",),
        "invalid_request or unsupported_grant_type",
        "refused",
        "Compare the settings with the provider's page: client_auth, encoding, params.",
        (
            coded(400, "invalid_request", refused("request_refused", "invalid_request")),
            coded(401, "invalid_request", refused("request_refused", "invalid_request")),
            coded(400, "unsupported_grant_type", refused("request_refused", "unsupported_grant_type")),
        ),
    ),
    Section(
        ("code_or_refresh_token_refused", "grant_refused"),
        "invalid_grant",
        "refused; for a code or a refresh token: one new connect, then transient",
        "Ucommerce: nothing, unless it lasts. Other providers: the account may not use this grant. Ask the provider.",
        (
            coded(
                400,
                "invalid_grant",
                refused("grant_refused", "invalid_grant"),
                {"ucommerce": SECOND_CODE, "ucommerce renewal": AFTER_REFRESH},
            ),
            coded(
                401,
                "invalid_grant",
                refused("grant_refused", "invalid_grant"),
                {"ucommerce": SECOND_CODE, "ucommerce renewal": AFTER_REFRESH},
            ),
        ),
    ),
    Section(
        ("temporary_error",),
        "server_error, temporarily_unavailable or invalid_token_reuse",
        "transient",
        "As for `unreachable`.",
        (
            coded(400, "server_error", passing("temporary_error", "server_error")),
            coded(400, "temporarily_unavailable", passing("temporary_error", "temporarily_unavailable")),
            coded(503, "temporarily_unavailable", passing("temporary_error", "temporarily_unavailable")),
            coded(400, "invalid_token_reuse", passing("temporary_error", "invalid_token_reuse")),
        ),
    ),
    Section(
        ("credentials_doubted",),
        "FAILED, or 401 or 403 with an HTML page, for credentials that worked before",
        "transient once, then refused (`credentials_refused`)",
        "Wait a minute: a gateway in maintenance gives the same response as a changed password does.",
        (
            Case(
                "200 with status FAILED",
                RespondWith(200, {"status": "FAILED", "message": FREE_TEXT}),
                second_chance("failed"),
                {COLD: refused("credentials_refused", "failed")},
            ),
            Case(
                "401 with an HTML page",
                RespondWith(401, PAGE, html=True),
                second_chance(None),
                {COLD: refused("credentials_refused", None)},
            ),
            Case(
                "403 with an HTML page",
                RespondWith(403, PAGE, html=True),
                second_chance(None),
                {COLD: refused("credentials_refused", None)},
            ),
        ),
    ),
    Section(
        ("credentials_refused",),
        "Any other FAILED, 401 or 403",
        "refused",
        "As for `client_refused`.",
        (
            Case("401 with an empty body", RespondWith(401), refused("credentials_refused", None)),
            Case(
                "401 with a code that the broker does not know",
                RespondWith(401, code="tenant_4711"),
                refused("credentials_refused", "unrecognised"),
            ),
            Case("403 with an empty body", RespondWith(403), refused("credentials_refused", None)),
            coded(403, "access_denied", refused("credentials_refused", "access_denied")),
        ),
    ),
    Section(
        ("request_unknown",),
        "Any other 4xx except 408 and 425",
        "refused",
        "Correct token_url or base_url, method and encoding.",
        (
            Case("404 with an HTML page", RespondWith(404, PAGE, html=True), refused("request_unknown", None)),
            Case("400 with an empty body", RespondWith(400), refused("request_unknown", None)),
            Case("405 with an empty body", RespondWith(405), refused("request_unknown", None)),
            Case(
                "415 with a code that the broker does not know",
                RespondWith(415, code="media_type"),
                refused("request_unknown", "unrecognised"),
            ),
        ),
    ),
    Section(
        ("server_failed",),
        "408, 425 or 5xx",
        "transient",
        "As for `unreachable`.",
        (
            Case("408 with an empty body", RespondWith(408), passing("server_failed")),
            Case("425 with an empty body", RespondWith(425), passing("server_failed")),
            Case("500 with an empty body", RespondWith(500), passing("server_failed")),
            Case(
                "500 with a code that the broker does not know",
                RespondWith(500, code="oops_4711"),
                passing("server_failed", "unrecognised"),
            ),
            Case("502 with an HTML page", RespondWith(502, PAGE, html=True), passing("server_failed")),
            Case("503 without Retry-After", RespondWith(503), passing("server_failed")),
            Case("504 with an HTML page", RespondWith(504, PAGE, html=True), passing("server_failed")),
        ),
    ),
    Section(
        ("unknown_error",),
        "2xx with an error code that the broker does not know",
        "no usable response, and a refusal if it happens twice in a row",
        "Ask the provider what its code means. If the credentials are wrong, put the right ones into the secret.",
        (
            Case(
                "200 with an error code that the broker does not know",
                RespondWith(200, {"error": "oops"}),
                invalid("unknown_error", MINUTE_S, "unrecognised"),
            ),
        ),
    ),
    Section(
        ("unusable_response",),
        "2xx without a usable token: not a JSON object, no token, a token over 16 KiB or with characters that no "
        "header may hold, another token_type than bearer for a token that is sent as Bearer, a negative lifetime, or "
        "one of 0 twice in a row",
        "no usable response",
        "Correct token_url or base_url: another server responds there. `detail` says what is wrong. With `oauth2` the "
        "setting token_type names another type that is accepted, and zero_means_never accepts a lifetime of 0.",
        (
            Case("200 with an HTML page", RespondWith(200, PAGE, html=True), invalid("unusable_response")),
            Case("200 with an empty body", RespondWith(200), invalid("unusable_response")),
            Case("204", RespondWith(204), invalid("unusable_response")),
            Case("an array", RespondWith(200, [GOOD]), invalid("unusable_response")),
            Case("a JSON string", RespondWith(200, '"fake-token"'), invalid("unusable_response")),
            Case("JSON nested 30,000 deep", RespondWith(200, DEEP), invalid("unusable_response")),
            Case("JSON in UTF-16", RespondWith(200, UTF_16), invalid("unusable_response")),
            Case(
                "an object without token",
                RespondWith(200, {"token_type": "Bearer", "expires_in": 3600}),
                invalid("unusable_response"),
            ),
            Case("a token that is null", AlterToken({"token": None}), invalid("unusable_response")),
            Case("a token that is empty", AlterToken({"token": ""}), invalid("unusable_response")),
            Case("a token that is a number", AlterToken({"token": 4711}), invalid("unusable_response")),
            Case(
                "a token with a line break",
                AlterToken({"token": "fake\r\nX-Injected: 1"}),
                invalid("unusable_response"),
            ),
            Case("a token with é", AlterToken({"token": "fak\u00e9"}), invalid("unusable_response")),
            Case("a token over 16 KiB", AlterToken({"token": LONG}), invalid("unusable_response")),
            Case(
                "expires_in 0, twice",
                AlterToken({"expires_in": 0}),
                ASKED_TWICE,
                {"unicommerce": invalid("unusable_response")},
            ),
            Case("expires_in -1", AlterToken({"expires_in": -1}), invalid("unusable_response")),
            Case("expires_in soon", AlterToken({"expires_in": "soon"}), invalid("unusable_response")),
            Case("expires_in true", AlterToken({"expires_in": True}), invalid("unusable_response")),
            Case("token_type mac", AlterToken({"token_type": "mac"}), invalid("unusable_response"), NOT_BEARER),
            Case(
                "token_type that is a list",
                AlterToken({"token_type": ["Bearer"]}),
                invalid("unusable_response"),
                NOT_BEARER,
            ),
        ),
    ),
)
