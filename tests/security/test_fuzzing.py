"""Every event, setting, secret, provider response and catalogue file leads to a documented response.

The real handlers get events of every route and function, over a world in memory. An `internal_error` fails the test:
no input may cause one. Time is virtual, so an endless wait shows as a long one.
"""

from __future__ import annotations

import base64
import json
import os
import time
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.fakes import World, answering
from tests.fakes.world import CALLER
from tests.fakes.world import SETTINGS as WORLD_SETTINGS
from tests.integration.handlers.functions import BrokerResponse
from tests.security.leak_hunt import Hunt, hunting
from tests.security.playground import Playground, event, playground, routes
from tests.security.provider_responses import (
    ENDLESS,
    JSON,
    TOKEN,
    WireResponse,
    WireServer,
    rarely,
    wire_responses,
    wire_server,
)
from tests.signing_keys import private_key
from token_broker.adapters.sqs import write_message
from token_broker.catalogue import __file__ as catalogue_file
from token_broker.catalogue import load_catalogue
from token_broker.catalogue.example_keys import example_keys
from token_broker.catalogue.examples import read_examples
from token_broker.catalogue.proof import examples_beside
from token_broker.core.assertions import PEM_FIELDS
from token_broker.core.connections import COMMON_SETTINGS
from token_broker.core.names import ConnectionName
from token_broker.core.provider_files import CatalogueError, parse_provider
from token_broker.core.providers import Provider
from token_broker.errors import ProviderError, ProviderRateLimited
from token_broker.oauth.exchange import OutcomeUnknown, Unreachable
from token_broker.oauth.grants import GRANTS
from token_broker.oauth.outcomes import RULES

pytestmark = pytest.mark.soak

SOAK = os.environ.get("SOAK") == "1"
QUICK = settings(
    max_examples=3000 if SOAK else 100,
    derandomize=not SOAK,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# The providers that the fakes have settings and credentials for: each grant, and every special case of the code.
SLUGS = sorted(WORLD_SETTINGS)
DIRECTORY = Path(catalogue_file).parent
ROUTES = sorted(routes(), key=lambda route: (route.path, route.method))
CANARY = "fake-canary+100%2B/é&=not-real"
CREDENTIALS = {"client_id": "fake-id", "client_secret": CANARY, "username": "fake-user", "password": CANARY}

RULE_NAMES = {None, *(rule.name for rule in RULES)}
NAMES = st.sampled_from(["unidy", "oauth2", "main", "demo", "Main", "-", "a" * 63, "a" * 64, "%75nidy", ".."])
NAME = NAMES | st.text(max_size=12)
TEXT = st.text(max_size=40) | st.sampled_from(["", "users:read", "a b", "a  b", "30", "3601", "-1", "true", "٣", "\0"])
PARAMETERS = st.sampled_from(
    ["scope", "min_ttl", "rejected", "limit", "cursor", "force", "X-Amz-Signature", "x-amz-security-token"]
)
QUERY = st.dictionaries(PARAMETERS | st.text(max_size=8), st.lists(TEXT, min_size=1, max_size=2), max_size=3)
HEADERS = st.dictionaries(
    st.sampled_from(["If-Match", "if-none-match", "Content-Type", "Accept-Encoding", "Origin"]) | st.text(max_size=8),
    TEXT | st.sampled_from(["*", '"v1"', "W/*"]),
    max_size=3,
)
ARNS = st.none() | st.sampled_from(
    [
        "arn:aws:sts::123456789012:assumed-role/shop/session",
        "arn:aws:iam::123456789012:root",
        "arn:aws:sts::123456789012:assumed-role/shop",
        "AROA",
    ]
) | st.text(max_size=60)  # fmt: skip


@pytest.fixture
def hunt() -> Iterator[Hunt]:
    with hunting() as hunt:
        hunt.secret(CANARY)
        hunt.secret(TOKEN)
        yield hunt


def fresh_world(**settings_of_all: Any) -> World:
    """A connection `main` of each provider, and a provider that issues a token."""
    world = World()
    fields = {"access_token": TOKEN, "accessToken": TOKEN, "status": "SUCCESS", "expires_in": 3600}
    world.provider.to = answering(200, {**fields, "token_type": "Bearer", "refresh_token": TOKEN})
    for slug in SLUGS:
        name = world.connection(slug, **settings_of_all)
        world.secrets.put(name, CREDENTIALS)
    return world


def add_connection(world: World, slug: str) -> None:
    """A connection `main` of a provider that the fakes do not know, from the provider's first example."""
    if slug in SLUGS:
        return
    example, name = read_examples(examples_beside(DIRECTORY / f"{slug}.toml")).examples[0], ConnectionName(slug, "main")
    keys = {field: value for field, value in example_keys().secret(example.secret).items() if field in PEM_FIELDS}
    fields = {*example.secret, *load_catalogue()[slug].optional_credentials}
    world.secrets.put(name, {**dict.fromkeys(fields, CANARY), "client_id": "fake-id", **keys})
    settings = {"allowed_callers": [CALLER], **example.settings}
    world.connections.put(name, settings, version="s1", expected=None, absent=False)


def judge(hunt: Hunt, response: BrokerResponse) -> None:
    """Checks that there was no internal error and no leak."""
    assert response.code != "internal_error", response
    hunt.returned({"statusCode": response.status, "headers": response.headers, "body": response.text})
    assert hunt.found() == []
    hunt.clear()


@QUICK
@given(data=st.data())
def test_every_request_gets_a_documented_response(hunt: Hunt, data: st.DataObject) -> None:
    with playground(fresh_world()) as place:
        for _ in range(data.draw(st.integers(1, 4), "requests")):
            route = data.draw(st.sampled_from([GET, *ROUTES]), "route")
            names = {
                "provider": data.draw(rarely(NAME, st.sampled_from(SLUGS)), "provider"),
                "connection": data.draw(rarely(NAME, st.just("main")), "connection"),
                "consent_id": data.draw(rarely(NAME, st.sampled_from(["0" * 64, "f" * 64])), "consent_id"),
            }
            body = data.draw(st.none() | st.text(max_size=60) | JSON.map(json.dumps) | settings_body(), "body")
            is_base64 = data.draw(rarely(st.just(True), st.just(False)))
            if is_base64 and body is not None and data.draw(st.booleans()):
                body = base64.b64encode(body.encode(errors="replace")).decode()
            sent = event(
                route,
                names,
                path=data.draw(rarely(st.text(max_size=30).map(lambda text: f"/v1/{text}")), "path"),
                query=data.draw(rarely(QUERY), "query"),
                headers=data.draw(rarely(HEADERS), "headers"),
                body=body,
                is_base64=is_base64,
                identity=data.draw(rarely(st.fixed_dictionaries({"userArn": ARNS})), "caller"),
            )
            judge(hunt, place.send(route, sent))
            place.world.clock.advance(data.draw(st.sampled_from([0, 1, 31, 3600])))


@st.composite
def settings_body(draw: st.DrawFn) -> str:
    return json.dumps(draw(SETTINGS))


OWN = sorted({spec.name for provider in load_catalogue().values() for spec in provider.settings})
URLS = st.sampled_from(
    [
        "https://id.example/token",
        "https://id.example:8443/a/b",
        "http://id.example/",
        "https://[::1]/",
        "https://[::1",
        "https://user@id.example",
        "https://id.example/?a=b",
        "https://id.example:99999/",
        "https:///x",
        "https://id.example./",
    ]
) | st.text(max_size=20).map(lambda text: f"https://{text}")  # fmt: skip
SCALARS = JSON | URLS | TEXT | st.sampled_from(["*", "always", "basic", "POST", "2027-01-31T00:00:00Z", 3600])
SETTINGS = st.dictionaries(
    st.sampled_from(OWN + [spec.name for spec in COMMON_SETTINGS]) | st.text(max_size=8),
    SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=6), SCALARS, max_size=3),
    max_size=6,
)
PUT = next(route for route in ROUTES if route.method == "PUT")
TRIAL = next(route for route in ROUTES if route.path.endswith("/trial"))
GET = next(route for route in ROUTES if route.path.startswith("/v1/tokens") and route.method == "GET")


@QUICK
@given(slug=st.sampled_from(SLUGS), changes=SETTINGS)
@example(slug="oauth2", changes={"params": {"a": "\ud800"}})
@example(slug="unidy", changes={"allowed_callers": ["arn:aws:iam::123456789012:role/" + "*" * 60]})
def test_settings_are_rejected_or_stored_and_stored_ones_work(hunt: Hunt, slug: str, changes: dict[str, Any]) -> None:
    """Every other route works with settings that PUT accepted. Settings written by hand are misconfigured."""
    world = fresh_world()
    with playground(world) as place:
        names = {"provider": slug, "connection": "main"}
        whole = {**world.connections.get(ConnectionName(slug, "main")).settings, **changes}  # type: ignore[union-attr]  # it is there
        response = place.send(PUT, event(PUT, names, body=json.dumps(whole)))
        judge(hunt, response)
        assert response.status in (200, 400)
        if response.status == 400:
            assert response.body["errors"]
            world.settings(ConnectionName(slug, "main"), **whole)
        for route in ROUTES:
            if route.method != "PUT":
                judge(hunt, place.send(route, event(route, names)))
        place.invoke("SweepDueFunction", {"time": world.clock().isoformat()})


@QUICK
@given(slug=st.sampled_from(SLUGS), secret=JSON.map(json.dumps) | st.text(max_size=60), field=st.text(max_size=9))
def test_a_secret_works_or_is_reported_as_misconfigured(hunt: Hunt, slug: str, secret: str, field: str) -> None:
    for text in (secret, json.dumps({**CREDENTIALS, "client_secret": field, "password": field})):
        world = fresh_world()
        world.secrets.put(ConnectionName(slug, "main"), text)
        with playground(world) as place:
            response = place.send(GET, event(GET, {"provider": slug, "connection": "main"}))
            judge_but_drawn(hunt, response)
            assert response.status == 200 or response.code == "connection_misconfigured", response


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    with wire_server() as server:
        yield server


def fetched(server: WireServer, slug: str, wire: WireResponse, limit: timedelta) -> str | None:
    """The failure rule of a token request that gets this response from the network; None if a token came.

    Whatever is no error of the broker's own tree is raised.
    """
    world = World()
    name = world.connection(slug)
    world.signing_keys.pems[name] = private_key("P-256")
    world.provider.to = lambda request, _network, _timeout: server.send(wire, request, limit)
    started = time.monotonic()
    try:
        response = world.get_token(world.instance(), name)
    except ProviderRateLimited:
        # Its cooldown is the endpoint's, and nothing is stored with the token key.
        return "rate_limited"
    except ProviderError:
        record = world.record(name)
        failure = record.failure or record.health.failure
        assert failure is not None
        return failure.rule
    finally:
        assert time.monotonic() - started < 20
    assert response.access_token
    assert world.clock() < response.token.expires_at <= world.clock() + timedelta(days=30)
    return None


@QUICK
@given(slug=st.sampled_from(SLUGS), wire=wire_responses())
def test_every_response_from_the_network_is_a_token_or_has_a_failure_rule(
    server: WireServer, slug: str, wire: WireResponse
) -> None:
    """Through the real sender and reader: odd fields, encodings, interim responses, headers, chunks, cut bodies."""
    rule = fetched(server, slug, wire, timedelta(seconds=8))
    assert rule in RULE_NAMES
    if wire.usual:
        assert rule is None


@pytest.mark.parametrize("wire", ENDLESS.values(), ids=ENDLESS)
def test_an_endless_response_ends_with_a_failure_rule(server: WireServer, wire: WireResponse) -> None:
    rule = fetched(server, "oauth2", wire, timedelta(seconds=2))
    assert rule in RULE_NAMES - {None}


@QUICK
@given(slug=st.sampled_from(SLUGS), data=st.data())
def test_a_providers_response_becomes_a_token_or_a_documented_error(
    hunt: Hunt, server: WireServer, slug: str, data: st.DataObject
) -> None:
    """Any response at any step: callers get a documented response, the worker continues, a purge works."""
    world = fresh_world()
    scripted = wire_responses() | st.sampled_from(["time-out", "unreachable"])
    good = {"connect": world.connect.to, "token": world.provider.to, "revoke": world.revoker.to}

    def response(step: str) -> Any:
        def send(request: Any, network: Any, timeout: Any) -> Any:
            drawn = data.draw(st.just("good") | scripted, step)
            if drawn == "good":
                return good[step](request, network, timeout)
            if isinstance(drawn, str):
                world.clock.advance(min(timeout.total_seconds(), 8))
                raise OutcomeUnknown("no answer in time") if drawn == "time-out" else Unreachable("nobody listens")
            return server.send(drawn, request, timeout)

        return send

    world.connect.to, world.provider.to, world.revoker.to = response("connect"), response("token"), response("revoke")
    names = {"provider": slug, "connection": "main"}
    with playground(world) as place:
        for _ in range(2):
            for route in ROUTES:
                if route in (GET, TRIAL):
                    judge_but_drawn(hunt, place.send(route, event(route, names)))
            run_sweep_and_worker(place)
            place.restart()
            world.clock.advance(data.draw(st.sampled_from([3, 61, 950, 3700]), "time passes"))
        for route in ROUTES:
            if route.method == "DELETE":
                judge_but_drawn(hunt, place.send(route, event(route, names)))


def judge_but_drawn(hunt: Hunt, response: BrokerResponse) -> None:
    """As `judge`. Drawn tokens and passwords are not searched for, because they may be common words."""
    hunt.secrets -= {secret for secret in hunt.secrets if secret not in (CANARY, TOKEN)}
    judge(hunt, response)


def run_sweep_and_worker(place: Playground) -> None:
    place.invoke("SweepDueFunction", {"time": place.world.clock().isoformat()})
    for message in place.world.queue.take():
        body = write_message(message)
        result = place.invoke("RenewTokenFunction", {"Records": [{"messageId": "m", "body": body}]})
        assert result == {"batchItemFailures": []}


SCOPE_IDS = st.text("0123456789abcdef", min_size=64, max_size=64)


@QUICK
@given(body=st.text(max_size=60) | JSON.map(json.dumps) | st.fixed_dictionaries(
    {"version": st.just(1) | JSON, "provider": NAME, "connection": NAME, "scope_id": TEXT | SCOPE_IDS}
).map(json.dumps))  # fmt: skip
def test_a_message_succeeds_or_returns_to_the_queue(hunt: Hunt, body: str) -> None:
    """It never fails the function, which would return the other messages of the batch too."""
    with playground(fresh_world()) as place:
        result = place.invoke("RenewTokenFunction", {"Records": [{"messageId": "m-1", "body": body}]})
    assert result["batchItemFailures"] in ([], [{"itemIdentifier": "m-1"}])
    assert hunt.found() == []
    hunt.clear()


SECRET_IDS = st.text(max_size=40) | st.sampled_from(
    [
        "token-broker/unidy/main",
        "token-broker/",
        "arn:aws:secretsmanager:::secret:token-broker/unidy/main-AbCdEf",
        "arn:",
    ]
)
DETAILS = st.dictionaries(
    st.sampled_from(
        "requestParameters responseElements additionalEventData serviceEventDetails errorCode eventName".split()
    ),
    JSON
    | st.dictionaries(
        st.sampled_from("secretId arn aRN SecretId sourceArn versionStage versionStages".split()),
        SECRET_IDS | JSON | st.lists(st.sampled_from(["AWSCURRENT", "AWSPENDING"]), max_size=2),
        max_size=4,
    ),
    max_size=5,
)


@QUICK
@given(received=st.fixed_dictionaries({}, optional={"detail": DETAILS | JSON}))
@example(
    received={"detail": {"requestParameters": {"versionStages": [{"a": 1}], "secretId": "token-broker/unidy/main"}}}
)
def test_an_event_of_a_secret_is_used_or_ignored(hunt: Hunt, received: dict[str, Any]) -> None:
    with playground(fresh_world()) as place:
        result = place.invoke("SecretChangedFunction", received)
    assert set(result) == {"connections", "keys"}
    assert hunt.found() == []
    hunt.clear()


@QUICK
@given(scheduled=st.fixed_dictionaries({}, optional={"time": JSON | st.datetimes().map(str) | st.text(max_size=30)}))
def test_a_scheduled_event_is_swept(hunt: Hunt, scheduled: dict[str, Any]) -> None:
    with playground(fresh_world()) as place:
        assert place.invoke("SweepDueFunction", scheduled)["deferred"] == 0
    assert hunt.found() == []
    hunt.clear()


FILES = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in DIRECTORY.glob("*.toml")}
PLACES = sorted(
    {(name,) for file in FILES.values() for name in file}
    | {
        (name, key)
        for file in FILES.values()
        for name, section in file.items()
        if isinstance(section, dict)
        for key in section
    }
)


@QUICK
@given(
    slug=st.sampled_from(sorted(FILES)),
    changes=st.dictionaries(
        st.sampled_from(PLACES) | st.tuples(TEXT),
        st.just(...)
        | JSON
        | TEXT
        | st.sampled_from(["{base_url}/x", "{nobody}", "{", "GET", "none", "login", 1, ["client_id"]]),
        min_size=1,
        max_size=3,
    ),
)
def test_a_catalogue_file_is_rejected_with_its_faults_or_gives_a_working_provider(
    hunt: Hunt, slug: str, changes: dict[tuple[str, ...], Any]
) -> None:
    file = json.loads(json.dumps(FILES[slug]))
    for (name, *rest), value in changes.items():
        target = file.setdefault(name, {}) if rest else file
        if isinstance(target, dict):
            key = rest[0] if rest else name
            if value is ...:
                target.pop(key, None)
            else:
                target[key] = value
    provider = parsed(slug, file)
    if isinstance(provider, CatalogueError):
        assert str(provider).startswith(f"{slug}.toml: ")
        assert all(fault.reason for fault in provider.faults)
        return
    world = fresh_world()
    add_connection(world, slug)
    with playground(world, catalogue={**load_catalogue(), slug: provider}) as place:
        for route in ROUTES:
            if route.method != "PUT":
                judge(hunt, place.send(route, event(route, {"provider": slug, "connection": "main"})))


def parsed(slug: str, file: dict[str, Any]) -> Provider | CatalogueError:
    try:
        return parse_provider(slug, file, file=f"{slug}.toml", grants=GRANTS)
    except CatalogueError as error:
        return error
