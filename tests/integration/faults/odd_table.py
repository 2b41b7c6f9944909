"""Answers that are odd and good all the same, and what becomes of them. Every one is played at every provider."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.integration.faults.playing import NOW, Bends, Says

DAY_S: Final = 86_400
# What the simulated vendors tell, or their tokens say, or (Unicommerce) the catalogue.
TOLD: Final = {
    "unified-services": 3599,
    "unicommerce": 72_000,
    "commerce-layer": 7200,
    "ucommerce": 300,
    "unidy": 7200,
    "oauth2": 3600,
}
UNTOLD: Final = {**TOLD, "ucommerce": 3600, "unidy": 3600}
HAVE_SCOPE: Final = ("unified-services", "unidy", "oauth2")


def jwt(exp: float) -> str:
    """A token that claims to end then."""
    parts = [{"alg": "none"}, {"exp": exp}]
    return ".".join(
        [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts] + ["x"]
    )


@dataclass(frozen=True)
class Odd:
    """One odd answer. `lives`: seconds by provider; `warnings`: where the provider's connections have a scope, all of
    them, elsewhere those that are no `scope_differs`. `options` of the simulators come before the play."""

    text: str
    play: Bends | Says
    life: str
    lives: Mapping[str, int]
    assumed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def expected_warnings(self, slug: str) -> list[str]:
        return [warning for warning in self.warnings if warning != "scope_differs" or slug in HAVE_SCOPE]


def everywhere(seconds: int) -> dict[str, int]:
    return dict.fromkeys(TOLD, seconds)


def answer(**changes: object) -> dict[str, object]:
    """A plain answer that suits all six."""
    good = {"access_token": "fake-token", "accessToken": "fake-token", "status": "SUCCESS", "token_type": "Bearer"}
    return {**good, "expires_in": 600, **changes}


ACCEPTED: Final = (
    Odd(
        "no expires_in",
        Bends(without=("expires_in",)),
        "what a JWT's own exp says, else `lifetime_s`, else the catalogue's, else 1 h; without exp `expires_assumed`",
        UNTOLD,
        assumed=("unicommerce", "unidy", "oauth2"),
    ),
    Odd("expires_in as text", Bends({"expires_in": "600"}), "as told", everywhere(600)),
    Odd("expires_in with a fraction", Bends({"expires_in": 600.9}), "as told", everywhere(600)),
    Odd(
        "expires_in of a century",
        Bends({"expires_in": 36_525 * DAY_S}),
        "48 h, or what a JWT's own exp says",
        {**everywhere(2 * DAY_S), "unified-services": 3599, "commerce-layer": 7200, "ucommerce": 3600},
    ),
    Odd(
        "expires_in 1",
        Bends({"expires_in": 1}),
        "1 s; at most one request per call, and one a minute on the sweep's account",
        everywhere(1),
        warnings=("min_ttl_unmet",),
    ),
    Odd("token_type bearer", Bends({"token_type": "bearer"}), "as told", TOLD, assumed=("unicommerce",)),
    Odd("no token_type", Bends(without=("token_type",)), "as told", TOLD, assumed=("unicommerce",)),
    Odd("no scope", Bends(without=("scope",)), "as told", TOLD, assumed=("unicommerce",)),
    Odd(
        "another scope than asked for",
        Bends({"scope": "users:other"}),
        "as told; `scope` is the granted one",
        TOLD,
        assumed=("unicommerce",),
        warnings=("scope_differs",),
    ),
    Odd(
        "an error that is not on the list, beside a token",
        Bends({"error": "note_4711"}),
        "as told",
        TOLD,
        assumed=("unicommerce",),
    ),
    Odd("a byte order mark", Says(200, "\ufeff" + json.dumps(answer())), "as told", everywhere(600)),
    Odd(
        "a charset that it is not",
        Says(200, answer(), headers={"Content-Type": "application/json; charset=utf-16"}),
        "as told",
        everywhere(600),
    ),
    Odd("a content type of HTML", Says(200, answer(), html=True), "as told", everywhere(600)),
    Odd("201", Says(201, answer()), "as told", everywhere(600)),
    Odd(
        "a JWT that ends before expires_in",
        Says(200, answer(access_token=jwt(NOW.timestamp() + 60), accessToken=jwt(NOW.timestamp() + 60))),
        "what the JWT's own exp says",
        everywhere(60),
    ),
    Odd(
        "a JWT that claims to be past, and a positive expires_in",
        Says(200, answer(access_token=jwt(NOW.timestamp() - 60), accessToken=jwt(NOW.timestamp() - 60))),
        "as told",
        everywhere(600),
        warnings=("expiry_disputed",),
    ),
    Odd(
        "a clock 5 min ahead",
        Bends(),
        "as told: the provider's Date header cancels the difference",
        TOLD,
        assumed=("unicommerce",),
        options={"clock_skew_s": 300},
    ),
    Odd(
        "a clock 5 min behind",
        Bends(),
        "as told",
        TOLD,
        assumed=("unicommerce",),
        options={"clock_skew_s": -300},
    ),
)
