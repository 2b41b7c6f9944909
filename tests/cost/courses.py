"""The courses that the page counts. The real handlers run them over moto and the simulated providers."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import pytest

from local.aws import AwsServer
from local.connections import aws_client
from local.providers import ProvidersServer
from local.resources import LocalStack
from tests.cost.counting import Item, Meter, Use, item_size
from tests.integration.conftest import LocalSession
from tests.integration.handlers.functions import Clients
from tests.integration.handlers.world import Aws, World
from tests.openapi.recording import fresh
from token_broker import bootstrap, observability
from token_broker.core.names import ConnectionName
from token_broker.core.schedule import IDLE_TIME, KEEP
from token_broker.service.context import SettingsReader

# Tracing is on in the template, so each log line has a trace id.
TRACE: Final = {"_X_AMZN_TRACE_ID": "Root=1-5759e988-bd862e3fe1be46a994272793"}
PROVIDERS: Final = ("ucommerce", "unified-services", "commerce-layer", "unidy", "unicommerce")
# Its assertions are signed with a KMS key.
SIGNED: Final = "oauth2-private-key-jwt"
DUE_KEYS: Final = 10
# The Powertools logger's name comes from the environment at import time, which is not the function's here.
NAME_AT_IMPORT: Final = '"service":"service_undefined"'
NAME_IN_LAMBDA: Final = '"service":"token-broker"'
# The number of digits of days_left differs from run to run.
DAYS_LEFT: Final = re.compile(r'(?<=DaysLeft":\[)[\d.]+')
LONG_DAYS: Final = "13.999999999999999"


@dataclass(frozen=True)
class Kept:
    """A provider's connection in the steady state. Sizes: bytes of the stored items. `lifetime_s`: the token's."""

    first: Use
    renewal: Use
    settings_size: int
    first_size: int
    steady_size: int
    token_size: int
    lifetime_s: int
    interval_s: int


@dataclass(frozen=True)
class Counted:
    """All that was counted: by course, and by provider."""

    courses: Mapping[str, Use]
    kept: Mapping[str, Kept]


@dataclass
class Bench:
    """Fresh worlds over one endpoint, and the meter of their functions."""

    meter: Meter
    new_world: Callable[[], World]
    session: LocalSession = field(repr=False)

    @classmethod
    def over(
        cls, aws: AwsServer, stack: LocalStack, providers: ProvidersServer, monkeypatch: pytest.MonkeyPatch
    ) -> Bench:
        deployed, session = Aws(aws.endpoint_url, stack), LocalSession(aws.endpoint_url)
        meter = Meter(aws_client("dynamodb", aws.endpoint_url))
        meter.attach(session)
        clients = Clients(session)

        def new_world() -> World:
            world = fresh(deployed, clients, providers, monkeypatch)
            world.functions.restart(**TRACE)
            return world

        return cls(meter, new_world, session)

    @contextmanager
    def counting(self) -> Iterator[Use]:
        """Counts calls and log lines until the context ends."""
        with self.meter.counting() as use, quiet() as lines:
            yield use
        text = DAYS_LEFT.sub(LONG_DAYS, lines.getvalue().replace(NAME_AT_IMPORT, NAME_IN_LAMBDA))
        use.log_lines = text.count("\n")
        use.log_bytes = len(text.encode()) - use.log_lines


@contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Captures what the functions write: log lines and metrics."""
    heard = io.StringIO()
    handlers = [
        handler
        for name in (observability.logger.name, observability.audit_log.name)
        for handler in logging.getLogger(name).handlers
        if isinstance(handler, logging.StreamHandler)
    ]
    streams = [(handler, handler.setStream(heard)) for handler in handlers]
    standard, sys.stdout = sys.stdout, heard
    try:
        yield heard
    finally:
        sys.stdout = standard
        for handler, stream in streams:
            if stream is not None:
                handler.setStream(stream)


def count_all(bench: Bench) -> Counted:
    """Runs each course once. The functions' output is counted and not shown."""
    with quiet():
        courses = {**_token_requests(bench), **_sweeps(bench), **_lost_refresh_token(bench)}
        return Counted(courses, {provider: _kept(bench, provider) for provider in (*PROVIDERS, SIGNED)})


def put_clock_on(by: timedelta) -> None:
    """Moves only the running environment's clock ahead, so that its memory grows old."""
    object.__setattr__(bootstrap.broker().context, "clock", lambda: bootstrap.utc_now() + by)


def _token_requests(bench: Bench) -> dict[str, Use]:
    world = bench.new_world()
    name = world.connect("unidy")
    found: dict[str, Use] = {}
    # A process's first invocation writes the metric of a cold start too. This request is that one.
    _require(world.api.token("unidy/nobody").status == 404, "a connection that is not there")

    def get(course: str, source: str, **query: str) -> None:
        with bench.counting() as use:
            response = world.api.token(name, **query)
        _require(response.status == 200, f"{course}: {response.status} {response.code}")
        _require(response.body["source"] == source, f"{course}: from {response.body['source']}")
        use.answer_bytes = len(response.text.encode())
        found[course] = use

    get("first_acquisition", "provider")
    get("memory", "memory")
    put_clock_on(timedelta(seconds=31))
    get("table_opened", "table")
    world.functions.restart()
    get("table_new_environment", "table")
    world.functions.restart()
    # With a scope the environment needs no guess. It knows the connection and not the token.
    get("table_unopened", "table", scope="users:read")
    used_at = -timedelta(minutes=40)
    world.aws.change_token_item(name, last_used_at=used_at, ttl=used_at + IDLE_TIME + KEEP)
    world.functions.restart()
    get("use_noted", "table", scope="users:read")
    return found


def _sweeps(bench: Bench) -> dict[str, Use]:
    world = bench.new_world()
    world.sweep()
    found = {}
    with bench.counting() as use:
        counts = world.sweep()
    _require(counts["due"] == 0, f"an empty minute: {counts}")
    found["sweep_empty"] = use
    for number in range(DUE_KEYS):
        name = world.connect("unidy", name=f"due-{number}")
        _require(world.api.token(name).status == 200, name)
        world.aws.change_token_item(name, due_at=-timedelta(minutes=1))
    with bench.counting() as use:
        counts = world.sweep()
    _require(counts["queued"] == DUE_KEYS, f"a sweep of {DUE_KEYS}: {counts}")
    found["sweep_of_ten"] = use
    return found


def _lost_refresh_token(bench: Bench) -> dict[str, Use]:
    """Ucommerce's refresh token was sent with an unknown outcome, so the grant starts anew."""
    world = bench.new_world()
    name = world.connect("ucommerce")
    _require(world.api.token(name).status == 200, name)
    (item,) = world.aws.token_items(name)
    world.aws.dynamodb.update_item(
        TableName=world.stack.token_table,
        Key={"pk": item["pk"], "sk": item["sk"]},
        UpdateExpression="SET refresh_sent = :sent",
        ExpressionAttributeValues={":sent": {"BOOL": True}},
    )
    return {"renewal_without_refresh": _renew(bench, world, name)}


def _kept(bench: Bench, provider: str) -> Kept:
    """Counts two renewals. The second finds the item as every later one does."""
    world = bench.new_world()
    name = world.connect_with_kms(provider) if provider == SIGNED else world.connect(provider)
    with bench.counting() as acquisition:
        response = world.api.token(name)
    _require(response.status == 200, f"{name}: {response.status}")
    (settings,) = world.aws.items(world.stack.connection_table)
    (first,) = world.aws.token_items(name)
    _renew(bench, world, name)
    renewal = _renew(bench, world, name)
    (item,) = world.aws.token_items(name)
    # The lifetime is rounded, because expires_in loses some time on its way.
    lifetime = timedelta(seconds=10 * round((_moment(item, "expires_at") - _moment(item, "issued_at")) / 10_000))
    context = bootstrap.broker().context
    connection = SettingsReader(context).connection(_read_name(name), context.connections.get(_read_name(name)))
    return Kept(
        first=acquisition,
        renewal=renewal,
        settings_size=item_size(settings),
        first_size=item_size(first),
        steady_size=item_size(item),
        token_size=len(response.body["access_token"]),
        lifetime_s=round(lifetime.total_seconds()),
        interval_s=round((lifetime - context.policy(connection).window(lifetime)).total_seconds()),
    )


def _renew(bench: Bench, world: World, name: str) -> Use:
    """One renewal by a warm worker."""
    # Commerce Layer issues another token only in the last 15 minutes.
    world.aws.change_token_item(
        name, due_at=-timedelta(minutes=1), renew_at=-timedelta(minutes=1), expires_at=timedelta(minutes=10)
    )
    if name.startswith("commerce-layer/"):
        world.simulator("commerce-layer").reset()
    _forget_budget(world)
    (before,) = world.aws.token_items(name)
    message = world.aws.renewal_message(before)
    # Without the metric of a cold start.
    world.functions.invoke(world.stack.renew_function, {"Records": []})
    with bench.counting() as use:
        world.work(message)
    (after,) = world.aws.token_items(name)
    _require(after["issued_at"] != before["issued_at"] and "failure" not in after, f"{name} was not renewed")
    return use


def _forget_budget(world: World) -> None:
    """Deletes the endpoints' budgets, so that a new minute during the run does not change the counts."""
    for item in world.aws.items(world.stack.token_table):
        if item["pk"]["S"].startswith("H#"):
            world.aws.dynamodb.delete_item(TableName=world.stack.token_table, Key={"pk": item["pk"], "sk": item["sk"]})


def _moment(item: Item, name: str) -> int:
    return int(item[name]["N"])


def _read_name(name: str) -> ConnectionName:
    return ConnectionName(*name.split("/"))


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)
