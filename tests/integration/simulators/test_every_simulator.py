"""What all simulated providers have in common: resource, counters, accounts and paths."""

from __future__ import annotations

import hashlib
import json
from urllib.parse import quote

import pytest

from local.providers import DEFAULT_ACCOUNTS, ProvidersServer

from .vendor_calls import CALLED, HandClock, call, report, sent, steer, token_from


@pytest.mark.parametrize("slug", CALLED)
def test_the_resource_accepts_only_a_live_token_sent_the_vendors_way(
    slug: str, providers: ProvidersServer, clock: HandClock
) -> None:
    token = token_from(providers, slug)
    path = f"/{slug}/api/resource"
    right = call(providers, "GET", path, headers=sent(slug, token))
    assert right.status_code == 200
    assert right.json()["token_id"] == hashlib.sha256(token.encode()).hexdigest()[:16]
    other_way = {"Authorization": f"Bearer {token}"} if slug == "unicommerce" else {"apiKey": token}
    for wrong in (other_way, {}, sent(slug, "unknown"), {"Authorization": f"Basic {token}"}):
        assert call(providers, "GET", path, headers=wrong).status_code == 401
    assert call(providers, "GET", f"{path}?access_token={token}").status_code == 401
    assert call(providers, "POST", path, headers=sent(slug, token)).status_code == 405
    clock.now += 90_000
    assert call(providers, "GET", path, headers=sent(slug, token)).status_code == 401


@pytest.mark.parametrize("slug", CALLED)
def test_the_report_counts_and_holds_no_secret(slug: str, providers: ProvidersServer) -> None:
    token = token_from(providers, slug)
    found = report(providers, slug)
    assert (found["token_requests"], found["issued"], found["refused"]) == (1, 1, 0)
    assert found["requests"][-1]["outcome"] == "issued"
    assert found["requests"][-1]["operation"] == "token"
    text = json.dumps(found, ensure_ascii=False)
    secret = DEFAULT_ACCOUNTS[slug]["secret"]
    assert token not in text
    assert not [value for value in secret.values() if value in text or quote(value, safe="") in text]


@pytest.mark.parametrize("slug", CALLED)
def test_after_a_rotation_the_new_secret_is_needed_and_tokens_stay_valid(slug: str, providers: ProvidersServer) -> None:
    token = token_from(providers, slug)
    field = "password" if slug == "unicommerce" else "client_secret"
    steer(providers, slug, rotate_secret={"secret": {field: "fake-new"}}, options={"reuse": False})
    with pytest.raises(KeyError):
        token_from(providers, slug)
    assert call(providers, "GET", f"/{slug}/api/resource", headers=sent(slug, token)).status_code == 200
