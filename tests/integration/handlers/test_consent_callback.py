"""The callback: the one route without a signature. Whatever comes, the page is the same and says nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from tests.fakes.consent_vendor import SLUG

from .consents import NAME, Consents, callback, consents_of
from .world import World


@pytest.fixture
def consents(world: World) -> Iterator[Consents]:
    with consents_of(world) as consents:
        yield consents


def changed(redirect_url: str, **changes: str | None) -> str:
    """The redirect with other parameters. None leaves one out."""
    query = {**dict(parse_qsl(redirect_url.partition("?")[2])), **changes}
    kept = {name: value for name, value in query.items() if value is not None}
    return f"{redirect_url.partition('?')[0]}?{urlencode(kept)}"


def stored(world: World) -> list[dict[str, Any]]:
    return world.aws.items(world.stack.grant_table)


def test_a_code_that_the_browser_brings_is_exchanged(consents: Consents) -> None:
    started = consents.start()
    page = callback(consents.world, NAME, consents.vendor.authorize(started["authorize_url"]))
    assert page["statusCode"] == 200
    assert consents.show(started["consent_id"])["state"] == "code_received"
    assert consents.world.exchange_codes() == 1
    assert consents.show(started["consent_id"])["state"] == "quarantined"


def test_a_refusal_that_the_browser_brings_ends_the_session(consents: Consents) -> None:
    started = consents.start()
    callback(consents.world, NAME, consents.vendor.refuse(started["authorize_url"]))
    shown = consents.show(started["consent_id"])
    assert shown["failure"] == {"code": "provider_refused", "provider_error": "access_denied"}
    assert consents.world.exchange_codes() == 0


def test_a_reload_queues_the_same_code_again(consents: Consents) -> None:
    redirect_url = consents.vendor.authorize(consents.start()["authorize_url"])
    for _ in range(2):
        callback(consents.world, NAME, redirect_url)
    assert consents.world.exchange_codes() == 2
    assert len(consents.vendor.requests) == 1


def test_the_page_is_always_the_same_and_is_kept_nowhere(consents: Consents) -> None:
    world = consents.world
    redirect_url = consents.vendor.authorize(consents.start()["authorize_url"])
    pages = [
        callback(world, name, url)
        for name, url in (
            (NAME, changed(redirect_url, state="x" * 43)),
            (NAME, "?<script>alert(1)</script>=1&code=<script>"),
            (NAME, ""),
            ("no-such-provider/x", redirect_url),
            ("unidy/demo", redirect_url),
            (NAME, redirect_url),
        )
    ]
    assert all(page == pages[0] for page in pages)
    headers = {name.lower(): values for name, values in pages[0]["multiValueHeaders"].items()}
    assert headers["cache-control"] == ["no-store"]
    assert headers["referrer-policy"] == ["no-referrer"]
    assert headers["content-security-policy"][0].startswith("default-src 'none'")
    assert "<script" not in pages[0]["body"]


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "x" * 43},
        {"state": None},
        {"code": None},
        {"code": "c\r\nSet-Cookie: a=b"},
        {"realmId": "evil.example"},
        {"realmId": None},
        {"iss": "https://evil.example"},
        {"padding": "x" * 9000},
    ],
)
def test_what_is_not_a_redirect_of_this_session_stores_nothing(
    consents: Consents, changes: dict[str, str | None]
) -> None:
    redirect_url = consents.vendor.authorize(consents.start()["authorize_url"])
    before = stored(consents.world)
    callback(consents.world, NAME, changed(redirect_url, **changes))
    assert stored(consents.world) == before
    assert consents.world.exchange_codes() == 0


def test_a_redirect_for_another_provider_stores_nothing(consents: Consents) -> None:
    """Mix-up: each provider has an address of its own, and a session belongs to one."""
    redirect_url = consents.vendor.authorize(consents.start()["authorize_url"])
    before = stored(consents.world)
    callback(consents.world, "another/demo", redirect_url)
    assert stored(consents.world) == before


def test_a_failure_of_our_own_shows_the_page_too_and_a_reload_helps(
    consents: Consents, caplog: pytest.LogCaptureFixture
) -> None:
    world = consents.world
    started = consents.start()
    redirect_url = consents.vendor.authorize(started["authorize_url"])
    world.functions.restart(GRANT_TABLE="no-such-table")
    failed = callback(world, NAME, redirect_url)
    world.functions.restart(GRANT_TABLE=world.stack.grant_table)
    page = callback(world, NAME, redirect_url)
    assert (failed["statusCode"], page["statusCode"], failed["body"] == page["body"]) == (503, 200, True)
    assert [record.message for record in caplog.records if record.message == "callback_broken_off"]
    assert consents.show(started["consent_id"])["state"] == "code_received"


def test_the_log_holds_no_part_of_the_query(consents: Consents, caplog: pytest.LogCaptureFixture) -> None:
    redirect_url = consents.vendor.authorize(consents.start()["authorize_url"])
    callback(consents.world, NAME, redirect_url)
    logged = json.dumps([repr(vars(record)) for record in caplog.records if record.name in ("audit", "token-broker")])
    for name, value in parse_qsl(redirect_url.partition("?")[2]):
        assert name in ("realmId", "iss") or value not in logged
    assert SLUG in logged
