"""Odd answers that are good tokens, tokens of a second, and the same token again."""

from __future__ import annotations

import contextlib
import socket
import threading
from datetime import timedelta

import pytest

from tests.integration.faults.odd_table import ACCEPTED, Odd
from tests.integration.faults.stage import DONE, Stage, moment
from tests.integration.handlers.problems import assert_problem
from tests.integration.handlers.world import PROVIDERS

ENDLESS = 64 * 1024 * 1024


@pytest.mark.parametrize("slug", PROVIDERS)
@pytest.mark.parametrize("odd", ACCEPTED, ids=lambda odd: odd.text)
def test_an_odd_answer_is_a_good_token(stage: Stage, odd: Odd, slug: str) -> None:
    stage.simulator(slug).configure(**odd.options)
    odd.play(stage, slug)
    name = stage.connect(slug)
    answer = stage.token(name)
    assert answer.status == 200, answer
    assert moment(answer.body["expires_at"]) == stage.clock() + timedelta(seconds=odd.lives[slug])
    assert answer.body["expires_in"] == odd.lives[slug]
    assert answer.body["expires_assumed"] is (slug in odd.assumed)
    assert answer.body["warnings"] == odd.expected_warnings(slug)
    # The next caller, at another instance, gets the same without a request.
    again = stage.token(name)
    assert (again.body["token_id"], again.body["warnings"]) == (answer.body["token_id"], answer.body["warnings"])
    assert stage.asked(slug)[0] == 1
    assert stage.state(name).body["state"] == "ok"


@pytest.mark.parametrize("slug", PROVIDERS)
def test_tokens_of_a_second_make_no_tight_loop(stage: Stage, slug: str) -> None:
    """Callers every six seconds, and a sweep every minute whose messages are delivered twice, as SQS may."""
    stage.simulator(slug).configure(set_fields={"expires_in": 1}, rate_limit=None)
    name = stage.connect(slug)
    by_sweep, per_call = [], []
    for second in range(0, 240, 6):
        if second % 60 == 0:
            messages = stage.sweep()
            before = stage.asked(slug)[2]
            for message in messages * 2:
                assert stage.work(message) == DONE
            by_sweep.append(stage.asked(slug)[2] - before)
        for hungry in ({}, {"min_ttl": "3600"}, {}):
            before = stage.asked(slug)[2]
            answer = stage.token_again(name, **hungry)
            per_call.append(stage.asked(slug)[2] - before)
            # The budget of Commerce Layer's endpoint ends before the callers' patience does.
            assert (answer.status, answer.code) in {(200, None), (503, "provider_rate_limited")}
        stage.clock.advance(6)
    # One connect and one code, or one refresh: an acquisition of Ucommerce takes two requests at the most.
    assert max(per_call) <= (2 if slug == "ucommerce" else 1)
    assert max(by_sweep) <= 1


@pytest.mark.parametrize("slug", PROVIDERS)
def test_a_token_of_a_second_is_asked_for_once_however_many_want_it(stage: Stage, slug: str) -> None:
    stage.simulator(slug).configure(set_fields={"expires_in": 1})
    name = stage.connect(slug)
    for query in ({}, {"min_ttl": "3600"}) * 10:
        answer = stage.token(name, **query)
        assert (answer.status, answer.body["warnings"]) == (200, ["min_ttl_unmet"])
    assert stage.asked(slug)[0] == 1


def test_a_token_for_everything_that_was_not_asked_for_is_no_token(stage: Stage) -> None:
    stage.simulator("commerce-layer").configure(set_fields={"scope": "market:all"})
    name = stage.connect("commerce-layer", scope="market:id:abc")
    answer = stage.token(name)
    assert_problem(answer, 502, "provider_invalid_response")
    assert "everything" in answer.body["detail"]


def test_a_token_that_was_past_when_it_was_issued_is_no_token(stage: Stage) -> None:
    """A JWT with an exp in the past, and no expires_in to say otherwise."""
    stage.simulator("ucommerce").configure(jwt_lifetime_s=-60, omit_fields=("expires_in",))
    answer = stage.token(stage.connect("ucommerce"))
    assert_problem(answer, 502, "provider_invalid_response")
    assert "expired" in answer.body["detail"]


def test_the_same_token_again_is_no_alarm_and_no_loop(stage: Stage) -> None:
    """Commerce Layer before its last 15 min: whoever reports the token gets it again, with a warning."""
    name = stage.connect("commerce-layer")
    first = stage.token(name)
    again = stage.token(name, rejected=first.body["token_id"])
    assert (again.status, again.body["token_id"]) == (200, first.body["token_id"])
    assert "same_token_reissued" in again.body["warnings"]
    assert stage.asked("commerce-layer")[0] == 2
    assert_problem(stage.token(name, rejected=first.body["token_id"]), 429, "too_many_rejections")
    assert stage.asked("commerce-layer")[0] == 2


class Endless:
    """A server whose redirect has a body without an end; counts what it got rid of."""

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


def test_the_body_of_a_redirect_is_read_no_further_than_any_other(stage: Stage) -> None:
    """64 KiB, and what the sockets hold: not as much as comes in the time that an exchange may take."""
    with contextlib.closing(Endless()) as server:
        answer = stage.token(stage.connect("unidy", base_url=server.url))
    assert (answer.status, answer.code) in {(503, "provider_unavailable"), (502, "provider_invalid_response")}
    assert server.sent < ENDLESS // 2
