"""A token is cached until its renewal, requested once for all threads, and used while the broker fails."""

import contextlib
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from token_broker_client import BrokerRefused, BrokerUnreachable, Token, TokenBrokerError, source
from token_broker_client.errors import (
    CallerNotAllowed,
    ConnectionSuspended,
    ProviderRefused,
    ProviderUnavailable,
    TooManyRejections,
)
from token_broker_client.source import TokenSource
from token_broker_client.testing import FakeBroker

UNIDY = ("unidy", "eu-main")


def test_a_cached_token_is_requested_again_after_five_minutes() -> None:
    broker = FakeBroker(lifetime_s=7200)
    first = broker.token(*UNIDY)
    broker.advance(299)
    assert broker.token(*UNIDY) is first
    assert broker.kept(*UNIDY) is first
    assert len(broker.asked) == 1
    broker.advance(2)
    assert broker.kept(*UNIDY) is None
    assert broker.token(*UNIDY).token_id == first.token_id
    assert len(broker.asked) == 2


def test_a_cached_token_is_requested_again_at_renew_at() -> None:
    broker = FakeBroker(lifetime_s=300)
    first = broker.token(*UNIDY)
    broker.advance(149)
    assert broker.token(*UNIDY) is first
    broker.advance(2)
    assert broker.token(*UNIDY).token_id != first.token_id


def test_a_cached_token_is_valid_for_min_ttl() -> None:
    broker = FakeBroker(lifetime_s=3600)
    broker.token(*UNIDY, min_ttl=3500)
    broker.advance(99)
    broker.token(*UNIDY, min_ttl=3500)
    assert len(broker.asked) == 1
    broker.advance(2)
    broker.token(*UNIDY, min_ttl=3500)
    assert len(broker.asked) == 2


def test_an_overdue_token_is_requested_every_five_seconds_at_most() -> None:
    """While a provider fails, the broker returns the longest token: `renew_at` has passed, `min_ttl` is unmet."""
    broker = FakeBroker(lifetime_s=3600)
    overdue = broker._respond("/v1/tokens/unidy/eu-main", {}, timeout_s=1) | {"expires_in": 20}
    overdue["renew_at"] = "2025-12-31T23:50:00Z"
    overdue["expires_at"] = "2026-01-01T00:00:20Z"
    asked: list[str] = []

    def get(path: str, _query: Mapping[str, str], *, timeout_s: float) -> dict[str, Any]:
        assert timeout_s > 0
        asked.append(path)
        return overdue

    source = TokenSource(get, clock=broker._time, sleep=broker.advance)
    for _ in range(12):
        source.token(*UNIDY)
        broker.advance(1)
    assert len(asked) == 3


def test_a_clock_that_differs_from_the_brokers_does_no_harm() -> None:
    broker = FakeBroker(lifetime_s=3600)
    source = TokenSource(broker._respond, clock=lambda: broker._time() - 86_400, sleep=broker.advance)
    source.token(*UNIDY)
    broker.advance(299)
    source.token(*UNIDY)
    assert len(broker.asked) == 1
    broker.advance(2)
    source.token(*UNIDY)
    assert len(broker.asked) == 2


def test_scopes_and_connections_are_cached_separately() -> None:
    broker = FakeBroker()
    ids = {
        broker.token(*name, scope=scope).token_id
        for name in (UNIDY, ("unidy", "us-main"))
        for scope in (None, "users:read")
    }
    assert len(ids) == 4


class Held:
    """A TokenSource over a FakeBroker that holds every request until `go` is set."""

    def __init__(self, broker: FakeBroker) -> None:
        self.arrived = threading.Semaphore(0)
        self.go = threading.Event()
        self._broker = broker
        self.source = TokenSource(self._respond, clock=broker._time, sleep=broker.advance)

    def _respond(self, path: str, query: Mapping[str, str], *, timeout_s: float) -> dict[str, Any]:
        self.arrived.release()
        assert self.go.wait(10)
        return self._broker._respond(path, query, timeout_s=timeout_s)


def test_many_threads_on_a_cold_key_make_one_request() -> None:
    broker = FakeBroker()
    held = Held(broker)
    with ThreadPoolExecutor(50) as threads:
        tokens = [threads.submit(held.source.token, *UNIDY) for _ in range(50)]
        assert held.arrived.acquire(timeout=10)
        held.go.set()
        assert len({token.result(10).token_id for token in tokens}) == 1
    assert len(broker.asked) == 1


def test_threads_that_wait_for_a_request_share_its_failure() -> None:
    broker = FakeBroker()
    held = Held(broker)
    broker.fail("provider_refused", times=1)
    with ThreadPoolExecutor(10) as threads:
        first = threads.submit(held.source.token, *UNIDY)
        assert held.arrived.acquire(timeout=10)
        entry = next(iter(held.source._entries.values()))
        assert entry.pending is not None
        waiting = Waiting(entry.pending.done)
        entry.pending.done = waiting  # type: ignore[assignment]  # Waiting has what is used
        others = [threads.submit(held.source.token, *UNIDY) for _ in range(9)]
        for _ in others:
            assert waiting.begun.acquire(timeout=10)
        held.go.set()
        for token in (first, *others):
            with pytest.raises(ProviderRefused):
                token.result(10)
    assert len(broker.asked) == 1


class Waiting:
    """An event. `begun` counts the threads that began to wait for it."""

    def __init__(self, event: threading.Event) -> None:
        self.begun = threading.Semaphore(0)
        self._event = event
        self.set = event.set

    def wait(self, timeout: float | None = None) -> bool:
        self.begun.release()
        return self._event.wait(timeout)


def test_no_other_thread_waits_for_the_successor_of_a_valid_token() -> None:
    broker = FakeBroker()
    held = Held(broker)
    held.go.set()
    first = held.source.token(*UNIDY)
    held.go.clear()
    broker.advance(2800)
    with ThreadPoolExecutor(1) as threads:
        renewing = threads.submit(held.source.token, *UNIDY)
        assert held.arrived.acquire(timeout=10)
        assert held.arrived.acquire(timeout=10)
        assert held.source.token(*UNIDY) is first
        held.go.set()
        assert renewing.result(10).token_id != first.token_id
    assert held.source.token(*UNIDY).token_id != first.token_id
    assert len(broker.asked) == 2


@pytest.mark.parametrize(
    "code", ["broker_unavailable", "provider_unavailable", "throttled", "internal_error", "unreachable"]
)
def test_while_the_broker_fails_a_token_is_used_until_it_expires(code: str) -> None:
    broker = FakeBroker(lifetime_s=3600)
    first = broker.token(*UNIDY)
    broker.fail(code, times=10_000)
    broker.advance(3500)
    before = broker._now
    assert broker.token(*UNIDY) is first
    assert broker.token(*UNIDY) is first, "the broker is not asked again for a moment"
    assert broker._now == before, "without a pause"
    assert len(broker.asked) == (3 if code == "unreachable" else 2)
    broker.advance(101)
    with pytest.raises(TokenBrokerError):
        broker.token(*UNIDY)


@pytest.mark.parametrize(
    ("code", "error"), [("caller_not_allowed", CallerNotAllowed), ("connection_suspended", ConnectionSuspended)]
)
def test_a_caller_that_gets_no_token_does_not_get_the_cached_one(code: str, error: type[BrokerRefused]) -> None:
    broker = FakeBroker()
    broker.token(*UNIDY)
    broker.advance(301)
    broker.fail(code, times=2)
    for _ in range(2):
        with pytest.raises(error):
            broker.token(*UNIDY)
    assert broker.kept(*UNIDY) is None


def test_retry_after_is_obeyed() -> None:
    broker = FakeBroker()
    broker.fail("acquisition_in_progress", times=2, retry_after=2)
    began = broker._now
    broker.token(*UNIDY)
    assert (broker._now - began).total_seconds() == 4
    assert len(broker.asked) == 3


def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    broker = FakeBroker()
    broker.fail("provider_rate_limited", retry_after=60)
    began = broker._now
    with pytest.raises(BrokerRefused) as raised:
        broker.token(*UNIDY)
    assert (raised.value.code, raised.value.retry_after) == ("provider_rate_limited", 60)
    assert broker._now == began


@pytest.mark.parametrize("code", ["unreachable", "provider_unavailable"])
def test_without_retry_after_the_pauses_grow_until_the_deadline(code: str) -> None:
    broker = FakeBroker()
    broker.token("unidy", "us-main")
    broker.fail(code, times=10_000)
    began = broker._now
    with pytest.raises((BrokerUnreachable, ProviderUnavailable)):
        broker.token(*UNIDY)
    assert 20 < (broker._now - began).total_seconds() <= 30
    assert 8 <= len(broker.asked) - 1 <= 12


@pytest.mark.parametrize("attempt_s", [0.0, 1.5, 4.5], ids=["refused", "one dead address", "three dead addresses"])
def test_a_broker_that_has_never_responded_is_tried_for_five_seconds(attempt_s: float) -> None:
    broker = FakeBroker()

    def get(_path: str, _query: Mapping[str, str], *, timeout_s: float) -> dict[str, Any]:  # noqa: ARG001  # the interface
        broker.advance(attempt_s)
        raise BrokerUnreachable("no response")

    source = TokenSource(get, clock=broker._time, sleep=broker.advance)
    for _ in range(2):
        began = broker._now
        with pytest.raises(BrokerUnreachable):
            source.token(*UNIDY)
        assert (broker._now - began).total_seconds() <= 5


def test_an_outage_is_one_line_in_the_log_and_the_next_one_another(caplog: pytest.LogCaptureFixture) -> None:
    broker = FakeBroker(lifetime_s=10**6)
    names = [("unidy", f"shop-{number}") for number in range(20)]
    for outage in (1, 2):
        for name in names:
            broker.token(*name)
        broker.fail("unreachable", times=2000)
        broker.advance(301)
        for _ in range(50):
            for name in names:
                broker.token(*name)
            broker.advance(6)
        assert len(caplog.records) == outage
        broker._planned.clear()
        broker.advance(3600)


def test_failures_of_two_connections_are_two_lines_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    broker = FakeBroker(lifetime_s=10**6)
    names = (UNIDY, ("unidy", "us-main"))
    for name in names:
        broker.token(*name)
    broker.fail("provider_unavailable", times=20)
    for _ in range(10):
        broker.advance(301)
        for name in names:
            broker.token(*name)
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    "code", ["invalid_request", "unknown_connection", "provider_refused", "internal_error", "too_many_rejections"]
)
def test_an_error_that_waiting_does_not_help_is_raised_at_once(code: str) -> None:
    broker = FakeBroker()
    broker.fail(code, retry_after=1)
    with pytest.raises(BrokerRefused, match=code):
        broker.token(*UNIDY, rejected="0" * 16)
    assert len(broker.asked) == 1


def test_a_reported_token_is_replaced_for_all_threads_by_one_report() -> None:
    broker = FakeBroker()
    held = Held(broker)
    held.go.set()
    rejected = held.source.token(*UNIDY)
    with ThreadPoolExecutor(20) as threads:
        others = list(threads.map(held.source.replacement, [rejected] * 20, timeout=20))
    assert {other.token_id for other in others if other} == {held.source.token(*UNIDY).token_id}
    assert None not in others
    assert broker.reported == [rejected.token_id]


def test_other_threads_use_the_reported_token_until_there_is_another() -> None:
    broker = FakeBroker()
    held = Held(broker)
    held.go.set()
    rejected = held.source.token(*UNIDY)
    held.go.clear()
    assert held.arrived.acquire(timeout=10)
    with ThreadPoolExecutor(1) as threads:
        reporting = threads.submit(held.source.replacement, rejected)
        assert held.arrived.acquire(timeout=10)
        assert held.source.token(*UNIDY) is rejected
        held.go.set()
        assert reporting.result(10) != rejected


def test_a_rejected_token_that_was_replaced_already_is_not_reported() -> None:
    broker = FakeBroker()
    old = broker.token(*UNIDY)
    broker.advance(2800)
    new = broker.token(*UNIDY)
    assert broker.replacement(old) is new
    broker.advance(301)
    replacement = broker.replacement(old)
    assert replacement is not None
    assert replacement.token_id == new.token_id
    assert broker.reported == []


def test_a_report_that_fails_is_logged_and_made_again_later(caplog: pytest.LogCaptureFixture) -> None:
    broker = FakeBroker()
    rejected = broker.token(*UNIDY)
    broker.fail("provider_refused", times=2)
    with caplog.at_level(logging.WARNING, "token_broker_client"):
        assert broker.replacement(rejected) is None
        assert broker.replacement(rejected) is None
    assert "provider_refused" in caplog.text
    assert rejected.token_id in caplog.text
    assert rejected.access_token not in caplog.text
    assert len(broker.reported) == 1
    broker.advance(31)
    assert broker.replacement(rejected) is None
    assert len(broker.reported) == 2


def test_a_caller_sees_that_a_report_was_not_accepted() -> None:
    broker = FakeBroker()
    rejected = broker.token(*UNIDY)
    broker.fail("too_many_rejections", retry_after=900)
    with pytest.raises(TooManyRejections):
        broker.token(*UNIDY, rejected=rejected.token_id)
    assert broker.token(*UNIDY) is rejected


def test_after_a_report_that_was_not_accepted_the_broker_is_asked_when_it_says_so() -> None:
    """Somebody else's report may have replaced the token by then: nobody waits five minutes to learn of that."""
    broker = FakeBroker(lifetime_s=7200)
    rejected = broker.token(*UNIDY)
    broker.fail("too_many_rejections", retry_after=20)
    assert broker.replacement(rejected) is None
    broker.advance(19)
    assert broker.token(*UNIDY) is rejected
    requests = len(broker.asked)
    broker.advance(2)
    broker.token(*UNIDY)
    assert len(broker.asked) == requests + 1


@pytest.mark.parametrize("wrong", [{"headers": {"apiKey": 1}}, {"expires_at": "soon"}, {"expires_in": None}])
def test_a_response_that_is_not_a_token_is_an_error_that_repeats_nothing_of_it(wrong: dict[str, Any]) -> None:
    broker = FakeBroker()
    body = broker._respond("/v1/tokens/unidy/eu-main", {}, timeout_s=1) | wrong
    source = TokenSource(lambda *_, **__: body)
    with pytest.raises(BrokerRefused) as raised:
        source.token(*UNIDY)
    assert raised.value.code == "unknown"
    assert "fake-unidy" not in repr(raised.value)
    assert raised.value.__suppress_context__


def test_fields_that_a_newer_broker_adds_are_ignored() -> None:
    broker = FakeBroker()
    body = broker._respond("/v1/tokens/unidy/eu-main", {}, timeout_s=1) | {"new": "field"}
    assert isinstance(TokenSource(lambda *_, **__: body).token(*UNIDY), Token)


def test_a_token_in_use_is_renewed_before_a_caller_would_have_to_wait() -> None:
    broker = FakeBroker(lifetime_s=300)
    first = broker.token(*UNIDY)
    broker.token(*UNIDY)
    broker.advance(147)
    broker.renew_used(2)
    assert len(broker.asked) == 1
    broker.advance(1)
    broker.renew_used(2)
    assert len(broker.asked) == 2
    assert broker.token(*UNIDY) is not first
    assert len(broker.asked) == 2


def test_a_token_that_nobody_used_is_not_renewed() -> None:
    broker = FakeBroker(lifetime_s=300)
    broker.token(*UNIDY)
    broker.advance(149)
    broker.renew_used(2)
    assert len(broker.asked) == 1
    broker.token(*UNIDY)
    broker.advance(151)
    broker.renew_used(2)
    assert len(broker.asked) == 1, "an expired token is not renewed either"


def test_a_renewal_that_fails_is_repeated_every_five_seconds_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    broker = FakeBroker(lifetime_s=3600)
    first = broker.token(*UNIDY)
    broker.token(*UNIDY)
    broker.fail("broker_unavailable", times=10_000)
    broker.advance(300)
    for _ in range(60):
        broker.renew_used(2)
        broker.advance(1)
    assert broker.token(*UNIDY) is first
    assert 12 <= len(broker.asked) - 1 <= 20
    assert len(caplog.records) == 1


def test_a_renewal_that_is_denied_drops_the_token() -> None:
    broker = FakeBroker()
    broker.token(*UNIDY)
    broker.token(*UNIDY)
    broker.fail("connection_suspended")
    broker.advance(299)
    broker.renew_used(2)
    assert broker.kept(*UNIDY) is None


@pytest.mark.parametrize("with_tokens", [True, False], ids=["with tokens", "without tokens"])
def test_the_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch, with_tokens: bool) -> None:
    monkeypatch.setattr(source, "MAX_ENTRIES", 20)
    broker = FakeBroker()
    kept = broker.token(*UNIDY)
    if not with_tokens:
        broker.fail("unknown_connection", times=100)
    for number in range(100):
        with contextlib.suppress(BrokerRefused):
            broker.token("unidy", f"shop-{number}")
    assert len(broker._entries) <= 20
    assert len(broker._failed_at) <= 20
    if not with_tokens:
        assert broker.token(*UNIDY) is kept


def test_a_response_can_be_written_again_as_it_was_read() -> None:
    broker = FakeBroker()
    body = broker._respond("/v1/tokens/unidy/eu-main", {"scope": "a b"}, timeout_s=1)
    body |= {"expires_at": "2026-01-01T01:00:00Z", "renew_at": "2026-01-01T00:45:00Z", "expires_assumed": True}
    assert Token.from_response(body).response(3600) == body
    assert Token.from_response(body).response(-1)["expires_in"] == 0
