"""FakeBroker in the tests of a service."""

import pytest

from token_broker_client import BrokerAuth, TokenBrokerError
from token_broker_client.client import shared_broker
from token_broker_client.testing import Asked, FakeBroker


def test_it_replaces_every_auths_broker_until_the_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN_BROKER_URL", raising=False)
    auth = BrokerAuth("unidy", "eu-main", scope="users:read")
    with FakeBroker() as outer:
        with FakeBroker() as inner:
            auth.token()
        assert (len(inner.asked), len(outer.asked)) == (1, 0)
        auth.token()
        assert outer.asked == [Asked("unidy", "eu-main", "users:read", None, None)]
    with pytest.raises(TokenBrokerError, match="TOKEN_BROKER_URL"):
        shared_broker()


def test_it_can_be_passed_to_one_auth() -> None:
    fake = FakeBroker(api_base_url="https://api.example", headers={"own": {"X-Key": "key {token}"}})
    token = BrokerAuth("own", "main", broker=fake).token()
    assert token.headers == {"X-Key": "key fake-own-main-1"}
    assert token.api_base_url == "https://api.example"


def test_it_fails_as_set_and_pauses_take_no_time() -> None:
    fake = FakeBroker()
    fake.fail("provider_unavailable", times=2, retry_after=5)
    fake.fail("unreachable")
    assert fake.token("unidy", "eu-main").access_token == "fake-unidy-eu-main-1"
    assert len(fake.asked) == 4
    with pytest.raises(KeyError):
        fake.fail("no_such_code")


def test_it_renews_like_the_broker() -> None:
    fake = FakeBroker(lifetime_s=600)
    tokens = []
    for _ in range(3):
        tokens.append(fake.token("unidy", "eu-main").access_token)
        fake.advance(310)
    assert tokens == ["fake-unidy-eu-main-1", "fake-unidy-eu-main-2", "fake-unidy-eu-main-3"]
