"""The control route, the clock, the time scale, and starting and closing the server."""

from __future__ import annotations

import concurrent.futures
import time
from typing import Any

import pytest
import requests

from local.providers import ProvidersServer, start_providers
from local.providers.example_vendor import example_slugs

from .vendor_calls import SLUGS, call, report, unidy


@pytest.mark.parametrize(
    "command",
    [
        [],
        {"unknown": 1},
        {"faults": [{"kind": "status"}, {"kind": "no-such"}]},
        {"faults": [{"kind": "status", "colour": "red"}]},
        {"faults": [{"kind": "status", "times": 0}]},
        {"faults": [{"kind": "delay", "seconds": "long"}]},
        {"options": {"lifetime_s": "long"}},
        {"options": {"no_such": 1}},
        {"options": {"set_fields": 1}},
        {"accounts": [{"name": "x"}]},
        {"rotate_secret": {"account": "nobody", "secret": {}}},
        {"lock_after": 3},
        {"reset": False},
    ],
)
def test_the_control_route_rejects_unknown_input(command: Any, providers: ProvidersServer) -> None:
    response = call(providers, "POST", "/_control/unidy", json=command)
    assert response.status_code == 400
    assert response.json()["error"]
    assert report(providers, "unidy")["faults"] == []


def test_the_control_route_knows_only_its_simulators(providers: ProvidersServer) -> None:
    assert call(providers, "GET", "/_control").json() == {
        "simulators": [*SLUGS, *(f"vendors/{slug}" for slug in example_slugs())]
    }
    assert call(providers, "GET", "/_control/nobody").status_code == 404
    assert call(providers, "POST", "/_control/unidy", data="{").status_code == 400
    assert call(providers, "DELETE", "/_control/unidy").status_code == 405
    assert call(providers, "GET", "/nobody/api/resource").status_code == 404


def test_time_scale_shrinks_lifetimes_and_windows_together() -> None:
    with start_providers(time_scale=0.01) as providers:
        options = report(providers, "commerce-layer")["options"]
        assert (options["lifetime_s"], options["reissue_window_s"], options["rate_window_s"]) == (72, 9, 0.6)
        assert report(providers, "ucommerce")["options"]["code_lifetime_s"] == 0.6
        assert unidy(providers).json()["expires_in"] in {71, 72}


def test_close_ends_hanging_and_idle_connections_at_once() -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool, requests.Session() as session:
        with start_providers() as providers:
            session.get(f"{providers.url}/_control", timeout=5)
            providers.simulator("unidy").fail("hang")
            hanging = pool.submit(unidy, providers)
            assert providers.simulator("unidy").waits.until_held(1, timeout_s=5)
            closing_at = time.monotonic()
        assert time.monotonic() - closing_at < 2
        assert isinstance(hanging.exception(timeout=5), requests.ConnectionError)
        with pytest.raises(requests.ConnectionError):
            session.get(f"{providers.url}/_control", timeout=5)
