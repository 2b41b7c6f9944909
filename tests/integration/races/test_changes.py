"""Settings and secrets that change during an acquisition: a token of the old ones is not used for the new ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from local.providers import DEFAULT_ACCOUNTS, ProvidersServer, default_settings, start_providers
from local.sigv4 import LOCAL
from tests.integration.handlers.world import PROVIDERS
from token_broker.bootstrap import utc_now

from .fleet import RESPONSE_S
from .ground import Ground, provider_of


@dataclass
class OtherHost:
    """A second host with the same simulators. `received`: every request that arrived there, as text."""

    providers: ProvidersServer
    received: list[str]

    def settings(self, provider: str) -> dict[str, Any]:
        return {"allowed_callers": [LOCAL.arn], **default_settings(provider, self.providers.url)}

    def live(self, provider: str) -> set[str]:
        found: list[dict[str, str]] = self.providers.simulator(provider).report()["live_tokens"]
        return {token["token_id"] for token in found}


@pytest.fixture
def other_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtherHost]:
    received: list[str] = []
    with start_providers() as providers:
        for provider in PROVIDERS:
            simulator = providers.simulator(provider)
            monkeypatch.setattr(simulator, "arrive", partial(_recording, simulator.arrive, received))
        yield OtherHost(providers, received)


def _recording(arrive: Callable[[Any], Any], received: list[str], request: Any) -> Any:
    headers = " ".join(f"{name}: {value}" for name, value in request.headers.items())
    received.append(f"{request.query} {headers} {request.body.decode()}")
    return arrive(request)


def change_secret(ground: Ground, name: str) -> str:
    """Puts a new version of the secret with the same credentials, and sends the event. Returns the version."""
    secrets, text = ground.world.aws.secrets, json.dumps(DEFAULT_ACCOUNTS[provider_of(name)]["secret"])
    response = secrets.put_secret_value(SecretId=ground.world.aws.secret_id(name), SecretString=text)
    ground.fleet.secret_changed(name)
    version: str = response["VersionId"]
    return version


def test_after_a_change_of_the_endpoint_callers_get_no_token_of_the_old_one(
    ground: Ground, other_host: OtherHost
) -> None:
    for round_ in ground:
        name, simulator = round_.connect("oauth2"), round_.world.simulator("oauth2")
        simulator.fail("hang")
        before = round_.race.meanwhile(partial(round_.fleet.get, name))
        assert simulator.waits.until_held(1, RESPONSE_S)
        round_.fleet.put(name, other_host.settings("oauth2"))
        after = [round_.race.meanwhile(partial(round_.fleet.get, name)) for _ in range(4)]
        simulator.waits.release()
        old = before.result(RESPONSE_S)
        assert round_.tokens_of([caller.result(RESPONSE_S) for caller in after]) <= other_host.live("oauth2")
        assert round_.count(name, "token_requests") == 1
        assert round_.current(name) in other_host.live("oauth2")
        round_.fleet.purge(name)
        assert other_host.live("oauth2") == set()
        assert old.access_token
        assert not any(old.access_token in request for request in other_host.received)


def test_no_token_and_no_refresh_token_goes_to_another_host(ground: Ground, other_host: OtherHost) -> None:
    for round_ in ground:
        name, old = round_.seeded("ucommerce", keep=False)
        scope_id, simulator = round_.scope_id(name), round_.world.simulator("ucommerce")
        round_.expire_token(name)
        change = partial(round_.fleet.put, name, other_host.settings("ucommerce"))
        callers: list[Callable[[], object]] = [partial(round_.fleet.get, name)] * 3
        callers += [change, partial(round_.fleet.renew, name, scope_id)]
        round_.race.together(callers)
        got = round_.bystander.get(name)
        assert got.token_id in other_host.live("ucommerce")
        secret = {old.access_token, *simulator._refresh_tokens, *simulator._codes}
        assert not [request for request in other_host.received if any(value in request for value in secret)]
        for server in (round_.world.providers, other_host.providers):
            report = server.simulator("ucommerce").report()
            assert (report["replayed_refresh_tokens"], report["replayed_codes"]) == (0, 0)


def test_a_secret_that_changes_during_an_acquisition_leaves_the_key_due(ground: Ground) -> None:
    for round_ in ground:
        name, simulator = round_.connect("unidy"), round_.world.simulator("unidy")
        simulator.fail("hang")
        caller = round_.race.meanwhile(partial(round_.fleet.get, name))
        assert simulator.waits.until_held(1, RESPONSE_S)
        version = change_secret(round_, name)
        simulator.waits.release()
        old = caller.result(RESPONSE_S)
        record = round_.record(name)
        assert record.token is not None
        assert record.token.token_id == old.token_id
        assert record.token.secret_version != version
        assert record.stale_at is not None
        assert record.due_at is not None
        assert record.due_at <= utc_now()
        assert round_.fleet.sweep() == 1
        round_.fleet.renew(name, record.key.scope_id)
        renewed = round_.record(name)
        assert renewed.token is not None
        assert (renewed.token.secret_version, renewed.stale_at) == (version, None)
        assert round_.count(name, "token_requests") == 2


def test_after_a_change_of_the_secret_the_key_is_renewed_or_due(ground: Ground) -> None:
    for round_ in ground:
        name, old = round_.seeded("unidy")
        scope_id = round_.scope_id(name)
        round_.make_due(name)
        round_.allow_reports(name)
        calls: list[Callable[[], object]] = [
            partial(round_.fleet.get, name, old.token_id),
            partial(round_.fleet.renew, name, scope_id),
            partial(change_secret, round_, name),
        ]
        version = round_.race.together(calls)[-1]
        record = round_.record(name)
        assert record.token is not None
        is_due = record.stale_at is not None and record.due_at is not None and record.due_at <= utc_now()
        assert is_due or (record.token.secret_version == version and record.stale_at is None)
        round_.fleet.renew(name, scope_id)
        renewed = round_.record(name)
        assert renewed.token is not None
        assert (renewed.token.secret_version, renewed.stale_at) == (version, None)
        assert round_.count(name, "token_requests") <= 3
