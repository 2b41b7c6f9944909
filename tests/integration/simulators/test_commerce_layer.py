"""The simulated Commerce Layer: its reissue window and its limit, which other tests count on."""

from __future__ import annotations

from local.providers import ProvidersServer

from .vendor_calls import MARKET, HandClock, commerce, report


def test_commerce_layer_reissues_the_same_token_until_its_last_15_minutes(
    providers: ProvidersServer, clock: HandClock
) -> None:
    first = commerce(providers).json()
    other_scope = commerce(providers, scope=MARKET).json()
    clock.now += 6299
    again = commerce(providers).json()
    assert again == {**first, "expires_in": 901}
    clock.now += 1
    new = commerce(providers).json()
    assert new["expires_in"] == 7200
    assert len({first["access_token"], other_scope["access_token"], new["access_token"]}) == 3
    found = report(providers, "commerce-layer")
    assert (found["issued"], found["reissued"]) == (3, 1)
    assert [entry["outcome"] for entry in found["requests"]] == ["issued", "issued", "reissued", "issued"]


def test_commerce_layer_allows_30_token_requests_in_any_minute(providers: ProvidersServer, clock: HandClock) -> None:
    for _ in range(30):
        clock.now += 1
        assert commerce(providers).status_code == 200
    limited = commerce(providers)
    assert limited.status_code == 429
    assert limited.json()["errors"][0]["status"] == 429
    assert "Retry-After" not in limited.headers
    clock.now += 30
    assert commerce(providers).status_code == 429
    clock.now += 1
    assert commerce(providers).status_code == 200
    assert commerce(providers).status_code == 429
    assert report(providers, "commerce-layer")["rate_limited"] == 3
