"""FakeBroker in the tests of a service."""

from collections.abc import Callable
from functools import partial

import pytest

from token_broker_client import BrokerAuth, BrokerUnreachable, ClientNotConfigured, Token, TokenBroker
from token_broker_client.httpx_auth import HttpxAuth
from token_broker_client.testing import Asked, FakeBroker

from .api import OK, UNAUTHORIZED, Api
from .conftest import Call

UNIDY = ("unidy", "eu-main")
ENTRY_POINTS: dict[str, Callable[[], Callable[[], Token]]] = {
    "BrokerAuth": lambda: BrokerAuth(*UNIDY).token,
    "BrokerAuth with a URL": lambda: BrokerAuth(*UNIDY, url="https://broker.invalid/api").token,
    "BrokerAuth with a broker": lambda: BrokerAuth(*UNIDY, broker=TokenBroker("https://broker.invalid/api")).token,
    "HttpxAuth": lambda: HttpxAuth(*UNIDY).token,
    "TokenBroker": lambda: partial(TokenBroker().token, *UNIDY),
    "TokenBroker with a URL": lambda: partial(TokenBroker("https://broker.invalid/api").token, *UNIDY),
}


@pytest.mark.parametrize("entry_point", ENTRY_POINTS.values(), ids=ENTRY_POINTS)
def test_it_stands_in_for_every_entry_point_until_the_block_ends(
    entry_point: Callable[[], Callable[[], Token]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKEN_BROKER_URL", raising=False)
    made_before = entry_point()
    with FakeBroker() as outer:
        with FakeBroker() as inner:
            assert made_before().access_token == "fake-unidy-eu-main-1"
        assert (len(inner.asked), len(outer.asked)) == (1, 0)
        assert entry_point()() is made_before()
        assert outer.asked == [Asked("unidy", "eu-main", None, None, None)]


def test_it_serves_every_call_of_a_token_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN_BROKER_URL", raising=False)
    broker = TokenBroker()
    with FakeBroker() as fake:
        first = broker.token(*UNIDY)
        assert broker.kept(*UNIDY) is first
        second = broker.replacement(first)
        assert second is not None
        assert fake.reported == [first.token_id]
    with pytest.raises(ClientNotConfigured, match="TOKEN_BROKER_URL"):
        broker.token(*UNIDY)


def test_it_can_be_passed_to_one_auth() -> None:
    fake = FakeBroker(api_base_url="https://api.example", headers={"own": {"X-Key": "key {token}"}})
    token = BrokerAuth("own", "main", broker=fake).token()
    assert token.headers == {"X-Key": "key fake-own-main-1"}
    assert token.api_base_url == "https://api.example"


def test_it_fails_as_set_and_pauses_take_no_time() -> None:
    fake = FakeBroker()
    fake.fail("provider_unavailable", times=2, retry_after=5)
    fake.fail("unreachable")
    assert fake.token(*UNIDY).access_token == "fake-unidy-eu-main-1"
    assert len(fake.asked) == 4
    with pytest.raises(KeyError):
        fake.fail("no_such_code")


def test_it_renews_like_the_broker() -> None:
    fake = FakeBroker(lifetime_s=600)
    tokens = []
    for _ in range(3):
        tokens.append(fake.token(*UNIDY).access_token)
        fake.advance(310)
    assert tokens == ["fake-unidy-eu-main-1", "fake-unidy-eu-main-2", "fake-unidy-eu-main-3"]


def test_a_service_lives_through_what_the_fake_can_do(call: Call, api: Api, broker: FakeBroker) -> None:
    api.response_to = lambda request: OK if broker.accepts(request.headers) else UNAUTHORIZED
    auth = BrokerAuth(*UNIDY)
    begun_at = broker._now
    broker.delay(3)
    assert call("GET", api.url, auth).status == 200
    assert (broker._now - begun_at).total_seconds() == 3
    broker.revoke()
    assert call("GET", api.url, auth).status == 200
    assert len(broker.reported) == 1
    broker.expire()
    broker.fail("broker_unavailable")
    assert call("GET", api.url, auth).status == 200
    assert [token and token[-1] for token in api.tokens] == ["1", "1", "2", "3"]
    assert not broker.accepts({"Authorization": "Bearer fake-unidy-eu-main-2"})


def test_a_delay_beyond_the_clients_time_limit_is_no_response() -> None:
    fake = FakeBroker()
    fake.delay(60, times=2)
    with pytest.raises(BrokerUnreachable, match="in time"):
        fake.token(*UNIDY)
