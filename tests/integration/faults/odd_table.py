"""Unusual responses that the broker accepts, and the token that follows. The suite tries each at every provider."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode

from tests.integration.faults.provider_faults import NOW, AlterToken, RespondWith

DAY_S: Final = 86_400
# The lifetimes from expires_in, from the token's own exp, or (Unicommerce) from the catalogue.
GIVEN: Final = {
    "unified-services": 3599,
    "unicommerce": 72_000,
    "commerce-layer": 7200,
    "ucommerce": 300,
    "unidy": 7200,
    "oauth2": 3600,
}
MISSING: Final = {**GIVEN, "ucommerce": 3600, "unidy": 3600}
HAVE_SCOPE: Final = ("unified-services", "unidy", "oauth2")


def jwt(exp: float) -> str:
    """A token whose exp claim is this."""
    parts = [{"alg": "none"}, {"exp": exp}]
    return ".".join(
        [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts] + ["x"]
    )


@dataclass(frozen=True)
class OddResponse:
    """One unusual response. `lifetimes_s`: by provider. `assumed`: providers whose token has `expires_assumed`.

    `scope_differs` among the `warnings` is expected only where connections have a scope. `options`: of the simulator.
    """

    text: str
    fault: AlterToken | RespondWith
    lifetime: str
    lifetimes_s: Mapping[str, int]
    assumed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def expected_warnings(self, slug: str) -> list[str]:
        return [warning for warning in self.warnings if warning != "scope_differs" or slug in HAVE_SCOPE]


def everywhere(seconds: int) -> dict[str, int]:
    return dict.fromkeys(GIVEN, seconds)


def response(**changes: object) -> dict[str, object]:
    """A plain response that suits all six providers."""
    good = {"access_token": "fake-token", "accessToken": "fake-token", "status": "SUCCESS", "token_type": "Bearer"}
    return {**good, "expires_in": 600, **changes}


ACCEPTED: Final = (
    OddResponse(
        "no expires_in",
        AlterToken(without=("expires_in",)),
        "a JWT's own exp, else `lifetime_s`, else the catalogue's, else 1 h; without exp with `expires_assumed`",
        MISSING,
        assumed=("unicommerce", "unidy", "oauth2"),
    ),
    OddResponse("expires_in as text", AlterToken({"expires_in": "600"}), "as given", everywhere(600)),
    OddResponse("expires_in with a fraction", AlterToken({"expires_in": 600.9}), "as given", everywhere(600)),
    OddResponse(
        "expires_in of a century",
        AlterToken({"expires_in": 36_525 * DAY_S}),
        "30 days, or a JWT's own exp",
        {**everywhere(30 * DAY_S), "unified-services": 3599, "commerce-layer": 7200, "ucommerce": 3600},
    ),
    OddResponse(
        "expires_at as a moment instead of expires_in",
        AlterToken({"expires_at": (NOW + timedelta(seconds=600)).isoformat()}, without=("expires_in",)),
        "as given",
        everywhere(600),
    ),
    OddResponse(
        "expires as milliseconds since 1970 beside a longer expires_in",
        AlterToken({"expires": (NOW.timestamp() + 60) * 1000}),
        "the earliest expiry",
        everywhere(60),
    ),
    OddResponse(
        "expires_in 1",
        AlterToken({"expires_in": 1}),
        "1 s; at most one request per call, and one a minute by the sweep",
        everywhere(1),
        warnings=("min_ttl_unmet",),
    ),
    OddResponse("token_type bearer", AlterToken({"token_type": "bearer"}), "as given", GIVEN, assumed=("unicommerce",)),
    OddResponse("no token_type", AlterToken(without=("token_type",)), "as given", GIVEN, assumed=("unicommerce",)),
    OddResponse("no scope", AlterToken(without=("scope",)), "as given", GIVEN, assumed=("unicommerce",)),
    OddResponse(
        "another scope than requested",
        AlterToken({"scope": "users:other"}),
        "as given; `scope` is the granted one",
        GIVEN,
        assumed=("unicommerce",),
        warnings=("scope_differs",),
    ),
    OddResponse(
        "an error that the broker does not know, together with a token",
        AlterToken({"error": "note_4711"}),
        "as given",
        GIVEN,
        assumed=("unicommerce",),
    ),
    OddResponse("a byte order mark", RespondWith(200, "\ufeff" + json.dumps(response())), "as given", everywhere(600)),
    OddResponse(
        "a wrong charset in Content-Type",
        RespondWith(200, response(), headers={"Content-Type": "application/json; charset=utf-16"}),
        "as given",
        everywhere(600),
    ),
    OddResponse("Content-Type text/html", RespondWith(200, response(), html=True), "as given", everywhere(600)),
    OddResponse("201", RespondWith(201, response()), "as given", everywhere(600)),
    OddResponse(
        "a form, where the content type says so",
        RespondWith(200, urlencode(response()), headers={"Content-Type": "application/x-www-form-urlencoded"}),
        "as given",
        everywhere(600),
    ),
    OddResponse(
        "120 headers",
        RespondWith(200, response(), headers={f"X-Header-{number}": "x" for number in range(120)}),
        "as given",
        everywhere(600),
    ),
    OddResponse(
        "a JWT that expires before expires_in",
        RespondWith(200, response(access_token=jwt(NOW.timestamp() + 60), accessToken=jwt(NOW.timestamp() + 60))),
        "the JWT's own exp",
        everywhere(60),
    ),
    OddResponse(
        "a JWT whose exp is in the past, with a positive expires_in",
        RespondWith(200, response(access_token=jwt(NOW.timestamp() - 60), accessToken=jwt(NOW.timestamp() - 60))),
        "as given",
        everywhere(600),
        warnings=("expiry_disputed",),
    ),
    OddResponse(
        "a clock 5 min ahead",
        AlterToken(),
        "as given: the provider's Date header cancels the difference",
        GIVEN,
        assumed=("unicommerce",),
        options={"clock_skew_s": 300},
    ),
    OddResponse(
        "a clock 5 min behind",
        AlterToken(),
        "as given",
        GIVEN,
        assumed=("unicommerce",),
        options={"clock_skew_s": -300},
    ),
)
