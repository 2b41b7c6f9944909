"""Every fault that a simulator can be set to."""

from __future__ import annotations

import concurrent.futures
import time

import pytest
import requests

from local.providers import ProvidersServer

from .vendor_calls import call, connect, report, steer, unidy


def test_status_fault_happens_as_often_as_set(providers: ProvidersServer) -> None:
    fault = {"kind": "status", "status": 503, "body": "busy", "headers": {"Retry-After": "7"}, "times": 2}
    steer(providers, "unidy", faults=[fault])
    responses = [unidy(providers) for _ in range(3)]
    assert [response.status_code for response in responses] == [503, 503, 200]
    assert (responses[0].text, responses[0].headers["Retry-After"]) == ("busy", "7")
    found = report(providers, "unidy")
    assert (found["token_requests"], found["issued"]) == (3, 1)
    assert found["requests"][0]["outcome"] == "fault: status"


def test_fault_without_times_lasts_until_cleared_and_affects_only_its_operation(providers: ProvidersServer) -> None:
    steer(providers, "ucommerce", faults=[{"kind": "status", "on": "connect", "times": None}])
    assert [connect(providers).status_code for _ in range(3)] == [500, 500, 500]
    assert call(providers, "GET", "/ucommerce/api/resource").status_code == 401
    steer(providers, "ucommerce", clear_faults=True)
    assert connect(providers).status_code == 302


@pytest.mark.parametrize("on", ["revoke", "resource"])
def test_faults_affect_the_other_operations_too(on: str, providers: ProvidersServer) -> None:
    providers.simulator("unidy").fail("status", on=on, status=504)
    method, path = {"revoke": ("POST", "/unidy/oauth/revoke"), "resource": ("GET", "/unidy/api/resource")}[on]
    assert call(providers, method, path).status_code == 504


@pytest.mark.parametrize("kind", ["body", "malformed"])
def test_body_fault_responds_200_with_any_body(kind: str, providers: ProvidersServer) -> None:
    steer(providers, "unidy", faults=[{"kind": kind, "body": '{"access_token": '}, {"kind": kind, "body": {"a": 1}}])
    first, second = unidy(providers), unidy(providers)
    assert (first.status_code, first.text) == (200, '{"access_token": ')
    assert second.json() == {"a": 1}


def test_redirect_fault_redirects_to_another_host(providers: ProvidersServer) -> None:
    steer(providers, "unidy", faults=[{"kind": "redirect", "location": "https://elsewhere.example/"}])
    response = unidy(providers)
    assert (response.status_code, response.headers["Location"]) == (302, "https://elsewhere.example/")


@pytest.mark.parametrize("when", ["before", "after"])
def test_delay_fault_responds_late(when: str, providers: ProvidersServer) -> None:
    steer(providers, "unidy", faults=[{"kind": "delay", "seconds": 0.05, "when": when}])
    before = time.monotonic()
    assert unidy(providers).status_code == 200
    assert time.monotonic() - before >= 0.05


def test_after_means_that_a_token_was_issued_and_the_response_is_lost(providers: ProvidersServer) -> None:
    for when, issued in (("before", 0), ("after", 1)):
        steer(providers, "unidy", faults=[{"kind": "reset", "when": when}])
        with pytest.raises(requests.ConnectionError):
            unidy(providers)
        assert report(providers, "unidy")["issued"] == issued


def test_reset_fault_resets_the_connection(providers: ProvidersServer) -> None:
    providers.simulator("unidy").fail("reset")
    with pytest.raises(requests.ConnectionError, match="reset"):
        unidy(providers)


def test_hang_fault_holds_only_its_request_until_released(providers: ProvidersServer) -> None:
    steer(providers, "unidy", faults=[{"kind": "hang"}])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(unidy, providers)
        assert providers.simulator("unidy").waits.until_held(1, timeout_s=5)
        assert unidy(providers).status_code == 200
        assert not hanging.done()
        steer(providers, "unidy", release=True)
        assert hanging.result(timeout=5).status_code == 200


def test_drip_fault_sends_byte_by_byte(providers: ProvidersServer) -> None:
    steer(
        providers, "unidy", faults=[{"kind": "drip", "seconds": 0.001}, {"kind": "drip", "seconds": 5, "part": "all"}]
    )
    assert unidy(providers).json()["token_type"] == "Bearer"
    with pytest.raises(requests.Timeout):
        requests.post(f"{providers.url}/unidy/oauth/token", json={}, timeout=0.05)


def test_truncate_fault_breaks_off_within_the_body(providers: ProvidersServer) -> None:
    steer(providers, "unidy", faults=[{"kind": "truncate"}])
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        unidy(providers)
    assert report(providers, "unidy")["issued"] == 1


def test_huge_fault_sends_10_megabytes(providers: ProvidersServer) -> None:
    steer(providers, "unidy", faults=[{"kind": "huge"}])
    assert len(unidy(providers).content) == 10 * 1024 * 1024
