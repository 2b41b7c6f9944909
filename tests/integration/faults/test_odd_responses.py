"""Unusual responses that hold a good token, tokens that live one second, and the same token twice."""

from __future__ import annotations

import contextlib
import socket
import threading
from datetime import timedelta

import pytest

from tests.integration.faults.odd_table import ACCEPTED, OddResponse
from tests.integration.faults.stage import DONE, Stage, moment
from tests.integration.handlers.problems import assert_problem
from tests.integration.handlers.world import PROVIDERS
from token_broker.core.records import REPORT_BURST

ENDLESS = 64 * 1024 * 1024


@pytest.mark.parametrize("slug", PROVIDERS)
@pytest.mark.parametrize("odd", ACCEPTED, ids=lambda odd: odd.text)
def test_an_unusual_response_gives_a_good_token(stage: Stage, odd: OddResponse, slug: str) -> None:
    stage.simulator(slug).configure(**odd.options)
    odd.fault(stage, slug)
    name = stage.connect(slug)
    response = stage.token(name)
    assert response.status == 200, response
    assert moment(response.body["expires_at"]) == stage.clock() + timedelta(seconds=odd.lifetimes_s[slug])
    assert response.body["expires_in"] == odd.lifetimes_s[slug]
    assert response.body["expires_assumed"] is (slug in odd.assumed)
    assert response.body["warnings"] == odd.expected_warnings(slug)
    # The next caller, at another instance, gets the same token without a request to the provider.
    again = stage.token(name)
    assert (again.body["token_id"], again.body["warnings"]) == (response.body["token_id"], response.body["warnings"])
    assert stage.requests(slug).token == 1
    assert stage.state(name).body["state"] == "ok"


@pytest.mark.parametrize("slug", PROVIDERS)
def test_tokens_that_live_one_second_cause_no_tight_loop(stage: Stage, slug: str) -> None:
    """Callers ask every six seconds. A sweep runs every minute, and SQS delivers each of its messages twice."""
    stage.simulator(slug).configure(set_fields={"expires_in": 1}, rate_limit=None)
    name = stage.connect(slug)
    by_sweep, per_call = [], []
    for second in range(0, 240, 6):
        if second % 60 == 0:
            messages = stage.sweep()
            before = stage.requests(slug).sent
            for message in messages * 2:
                assert stage.work(message) == DONE
            by_sweep.append(stage.requests(slug).sent - before)
        for query in ({}, {"min_ttl": "3600"}, {}):
            before = stage.requests(slug).sent
            response = stage.token_again(name, **query)
            per_call.append(stage.requests(slug).sent - before)
            # The budget of Commerce Layer's endpoint may be used up.
            assert (response.status, response.code) in {(200, None), (503, "provider_rate_limited")}
        stage.clock.advance(6)
    # An acquisition at Ucommerce takes at most two requests: connect and code, or one refresh.
    assert max(per_call) <= (2 if slug == "ucommerce" else 1)
    assert max(by_sweep) <= 1


@pytest.mark.parametrize("slug", PROVIDERS)
def test_many_callers_of_a_token_that_lives_one_second_cause_one_request(stage: Stage, slug: str) -> None:
    stage.simulator(slug).configure(set_fields={"expires_in": 1})
    name = stage.connect(slug)
    for query in ({}, {"min_ttl": "3600"}) * 10:
        response = stage.token(name, **query)
        assert (response.status, response.body["warnings"]) == (200, ["min_ttl_unmet"])
    assert stage.requests(slug).token == 1


def test_a_token_for_every_scope_that_was_not_requested_is_not_accepted(stage: Stage) -> None:
    stage.simulator("commerce-layer").configure(set_fields={"scope": "market:all"})
    name = stage.connect("commerce-layer", scope="market:id:abc")
    response = stage.token(name)
    assert_problem(response, 502, "provider_invalid_response")
    assert "every scope" in response.body["detail"]


def test_a_token_that_has_expired_when_it_is_issued_is_not_accepted(stage: Stage) -> None:
    """A JWT with an exp in the past, in a response without expires_in."""
    stage.simulator("ucommerce").configure(jwt_lifetime_s=-60, omit_fields=("expires_in",))
    response = stage.token(stage.connect("ucommerce"))
    assert_problem(response, 502, "provider_invalid_response")
    assert "expired" in response.body["detail"]


def test_the_same_token_again_causes_a_warning_and_no_loop(stage: Stage) -> None:
    """Commerce Layer before the token's last 15 min: a caller that reports the token gets it again, with a warning."""
    name = stage.connect("commerce-layer")
    first = stage.token(name)
    for reports in range(1, REPORT_BURST + 1):
        again = stage.token(name, rejected=first.body["token_id"])
        assert (again.status, again.body["token_id"]) == (200, first.body["token_id"])
        assert again.body["expires_at"] == first.body["expires_at"]
        assert "same_token_reissued" in again.body["warnings"]
        assert stage.requests("commerce-layer").token == 1 + reports
    assert_problem(stage.token(name, rejected=first.body["token_id"]), 429, "too_many_rejections")
    assert stage.requests("commerce-layer").token == 1 + REPORT_BURST


class Endless:
    """A server whose redirect has an endless body. `sent`: how many bytes it could send."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\n\r\n")
            while self.sent < ENDLESS:
                connection.sendall(b"x" * 65_536)
                self.sent += 65_536

    def close(self) -> None:
        self._thread.join(5)
        self._listener.close()


def test_the_body_of_a_redirect_has_the_same_size_limit(stage: Stage) -> None:
    """64 KiB, plus what the sockets buffer. Without a limit the server could send far more in time."""
    with contextlib.closing(Endless()) as server:
        response = stage.token(stage.connect("unidy", base_url=server.url))
    assert (response.status, response.code) in {(503, "provider_unavailable"), (502, "provider_invalid_response")}
    assert server.sent < ENDLESS // 2
