"""The simulated Ucommerce store: it counts replayed codes and refresh tokens, which other tests count on."""

from __future__ import annotations

from local.providers import ProvidersServer

from .vendor_calls import (
    HandClock,
    code_of,
    connect,
    redeem,
    refresh,
    report,
)


def test_ucommerce_codes_expire_after_a_minute_and_belong_to_their_redirect_uri(
    providers: ProvidersServer, clock: HandClock
) -> None:
    code = code_of(connect(providers))
    clock.now += 60
    assert redeem(providers, code).status_code == 400
    code = code_of(connect(providers))
    clock.now += 59
    assert redeem(providers, code, "https://elsewhere.example/").status_code == 400
    assert redeem(providers, code_of(connect(providers))).status_code == 200


def test_ucommerce_accepts_a_code_once_and_a_replay_revokes_its_tokens(providers: ProvidersServer) -> None:
    code = code_of(connect(providers))
    document = redeem(providers, code).json()
    assert redeem(providers, code).json()["errors"][0]["error"] == "invalid_grant"
    found = report(providers, "ucommerce")
    assert (found["replayed_codes"], found["live_tokens"]) == (1, [])
    assert refresh(providers, document["refresh_token"]).status_code == 400


def test_ucommerce_rotates_refresh_tokens_and_a_replay_revokes_the_family(providers: ProvidersServer) -> None:
    bystander = redeem(providers, code_of(connect(providers))).json()
    first = redeem(providers, code_of(connect(providers))).json()
    second = refresh(providers, first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    assert len(report(providers, "ucommerce")["live_tokens"]) == 3
    replay = refresh(providers, first["refresh_token"])
    assert (replay.status_code, replay.json()["errors"][0]["error"]) == (400, "invalid_grant")
    found = report(providers, "ucommerce")
    assert (found["replayed_refresh_tokens"], len(found["live_tokens"])) == (1, 1)
    assert refresh(providers, second["refresh_token"]).status_code == 400
    assert refresh(providers, bystander["refresh_token"]).status_code == 200
