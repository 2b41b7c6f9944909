"""The document's examples: real responses of the handlers, with tokens, ids, times and addresses replaced."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest

from local.aws import start_aws
from local.providers import ProvidersServer, start_providers
from local.resources import create_resources
from tests.integration.conftest import LocalSession
from tests.integration.handlers.consents import consents_of
from tests.integration.handlers.functions import BrokerResponse, Clients, Functions
from tests.integration.handlers.test_error_codes import CASES
from tests.integration.handlers.world import PROVIDERS, Aws, World
from token_broker.core.names import TOKEN_ID, fingerprint

NewWorld = Callable[[], World]

# The example token of RFC 6749.
TOKEN: Final = "2YotnFZFEjr1zCsicMWpAA"
CONSENT_ID: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
VERSION: Final = "6f1f2b86-5d39-4c6c-9b6f-2f4d2c1f9a11"
ISSUED_AT = "2026-11-22T11:00:00Z"
RENEW_AT = "2026-11-22T12:47:26Z"
EXPIRES_AT = "2026-11-22T13:00:00Z"
FIXED: Final[dict[str, Any]] = {
    "access_token": TOKEN,
    "expires_in": 7199,
    "expires_at": EXPIRES_AT,
    "next_expiry": EXPIRES_AT,
    "next_renewal": RENEW_AT,
    "renew_at": RENEW_AT,
    "last_renewal": ISSUED_AT,
    "at": ISSUED_AT,
    "retry_at": "2026-11-22T11:15:00Z",
    "cursor": "QyN1bmlkeS9kZW1v",
    "days_left": 69.5,
    "consent_id": CONSENT_ID,
    "authorize_url": "https://login.example.com/authorize?response_type=code&client_id=…&state=…&code_challenge=…",
    "redirect_url": "https://shop.example/consent?code=…&state=…",
    "verification_uri": "https://login.example.com/device",
    "verification_uri_complete": "https://login.example.com/device?user_code=WDJB-MJHT",
    "obtained_at": ISSUED_AT,
    "refreshed_at": ISSUED_AT,
}
UUID: Final = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}")
SIMULATOR: Final = re.compile(r"http://127\.0\.0\.1:[0-9]+/([a-z0-9-]+)")


@contextmanager
def new_worlds() -> Iterator[NewWorld]:
    """Replaces the fixtures outside a test: an AWS endpoint, the simulators, and worlds over them."""
    with start_aws() as aws, start_providers() as providers, pytest.MonkeyPatch.context() as monkeypatch:
        stack = create_resources(aws.endpoint_url)
        clients = Clients(LocalSession(aws.endpoint_url))
        deployed = Aws(aws.endpoint_url, stack)
        yield lambda: fresh(deployed, clients, providers, monkeypatch)


def fresh(deployed: Aws, clients: Clients, providers: ProvidersServer, monkeypatch: pytest.MonkeyPatch) -> World:
    """A world with empty tables, reset simulators, and functions without memory."""
    for slug in PROVIDERS:
        providers.simulator(slug).reset()
    deployed.empty()
    return World(deployed, providers, Functions(deployed.stack, clients, {"TOKEN_BROKER_LOCAL": "1"}, monkeypatch))


def record(new_world: NewWorld) -> dict[str, Any]:
    """`problems`: code → body. `operations`: handler → status → name → body, and `request` for those with a body."""
    return {
        "problems": {case.code: plain(case.cause(new_world()).body) for case in CASES},
        "operations": {
            "get_token": {"200": _tokens(new_world())},
            "delete_token": {"200": _purges(new_world())},
            "drop_consent": {"200": {"dropped": _dropped_consent(new_world())}},
            "try_connection": {"200": {"trial": _trial(new_world())}},
            "list_connections": {"200": {"page": _page(new_world())}},
            "show_connection": {"200": {"connection": _connection(new_world())}},
            "put_connection": _puts(new_world()),
            "check_connection": _check(new_world()),
            "show_history": {"200": {"history": _history(new_world())}},
            "restore_connection": {"200": {"restored": _restored(new_world())}},
            "delete_connection": {"200": {"deletion": _deletion(new_world())}},
            **_consents(new_world()),
            "list_providers": {"200": {"two_of_all": _providers(new_world())}},
            "check_health": _health(new_world()),
        },
    }


def plain(value: Any, name: str = "") -> Any:
    """The body with everything replaced that differs from run to run, and without a token."""
    if value is None:
        return None
    if name in FIXED:
        return FIXED[name]
    if isinstance(value, dict):
        if "access_token" in value:
            value = value | {"headers": _without(value["headers"], value["access_token"])}
        return {key: plain(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str):
        if TOKEN_ID.fullmatch(value):
            return fingerprint(TOKEN)
        return SIMULATOR.sub(r"https://\1.example.com", UUID.sub(VERSION, value))
    return value


def _without(headers: dict[str, str], token: str) -> dict[str, str]:
    return {name: text.replace(token, TOKEN) for name, text in headers.items()}


def _response(world: World, method: str, path: str, status: int = 200, **request: Any) -> Any:
    return _body(world.api.call(method, path, **request), status)


def _body(response: BrokerResponse, status: int = 200) -> Any:
    if response.status != status:
        raise AssertionError(response)
    return plain(response.body)


def _tokens(world: World) -> dict[str, Any]:
    return {slug: _body(world.api.token(world.connect(slug))) for slug in ("unidy", "unicommerce")}


def _purges(world: World) -> dict[str, Any]:
    for slug in ("unidy", "unicommerce"):
        world.api.token(world.connect(slug))
    return {
        "revoked": _response(world, "DELETE", "/v1/tokens/unidy/demo"),
        "not_revoked": _response(world, "DELETE", "/v1/tokens/unicommerce/demo"),
    }


def _dropped_consent(world: World) -> Any:
    name = world.connect_with_consent()
    world.api.token(name)
    return _response(world, "DELETE", f"/v1/connections/{name}/grant")


def _trial(world: World) -> Any:
    return _response(world, "POST", f"/v1/connections/{world.connect('unidy')}/trial")


def _page(world: World) -> Any:
    world.api.token(world.connect("unidy"))
    world.simulator("oauth2").fail("status", status=400, body={"error": "invalid_client"})
    world.api.token(world.connect("oauth2"))
    return _response(world, "GET", "/v1/connections")


def _connection(world: World) -> Any:
    name = world.connect("ucommerce", credentials_expire_at="2027-01-31T00:00:00Z")
    world.api.token(name)
    return _response(world, "GET", f"/v1/connections/{name}")


def _puts(world: World) -> dict[str, Any]:
    settings = {slug: world.settings(slug) for slug in PROVIDERS}
    return {
        "request": {slug: plain(body) for slug, body in settings.items()},
        "201": {"created": _body(world.api.put("unidy/demo", settings["unidy"], If_None_Match="*"), 201)},
        "200": {"replaced": _body(world.api.put("unidy/demo", settings["unidy"], If_Match="*"))},
    }


def _check(world: World) -> dict[str, Any]:
    settings = world.settings("unidy", lifetime_s=0)
    checked = _response(world, "POST", "/v1/connections/unidy/demo/check", body=settings)
    return {"request": {"unidy": plain(settings)}, "200": {"faults": checked}}


def _history(world: World) -> Any:
    world.api.put("unidy/demo", world.settings("unidy"))
    world.api.put("unidy/demo", world.settings("unidy", lifetime_s=3600))
    return _response(world, "GET", "/v1/connections/unidy/demo/history")


def _restored(world: World) -> Any:
    version = world.api.put("unidy/demo", world.settings("unidy")).body["version"]
    world.api.put("unidy/demo", world.settings("unidy", lifetime_s=3600))
    return _response(world, "POST", "/v1/connections/unidy/demo/restore", query={"version": version})


def _deletion(world: World) -> Any:
    name = world.connect("unidy")
    world.api.token(name)
    return _response(world, "DELETE", f"/v1/connections/{name}")


def _consents(world: World) -> dict[str, Any]:
    with consents_of(world) as consents:
        device = consents.start(flow="device")
        started = consents.start()
        consent_id = started["consent_id"]
        redirect_url = consents.vendor.authorize(started["authorize_url"])
        finished = consents.finish(consent_id, redirect_url)
        world.exchange_codes()
        shown = consents.show(consent_id)
        confirmed = consents.call("POST", f"/{consent_id}/confirm")
        consents.vendor.account = "account-2"
        new_account = consents.call("POST", f"/{consents.approved()}/confirm-new-account")
    return {
        "start_consent": {
            "request": {"redirect": {}, "device": {"flow": "device"}},
            "201": {"redirect": plain(started), "device": plain(device)},
        },
        "finish_consent": {
            "request": {"redirect": plain({"redirect_url": redirect_url})},
            "202": {"received": _body(finished, 202)},
        },
        "show_consent": {"200": {"quarantined": plain(shown)}},
        "confirm_consent": {"200": {"confirmed": _body(confirmed)}},
        "confirm_new_account": {"200": {"new_account": _body(new_account)}},
    }


def _providers(world: World) -> Any:
    """Two of the providers: a document with all of them would be twice as long."""
    found = _response(world, "GET", "/v1/providers")
    return {"providers": [item for item in found["providers"] if item["slug"] in ("unidy", "unicommerce")]}


def _health(world: World) -> dict[str, Any]:
    well = _response(world, "GET", "/v1/health")
    world.functions.restart(TOKEN_TABLE="no-such-table")
    return {"200": {"well": well}, "503": {"failing": _response(world, "GET", "/v1/health", 503)}}
