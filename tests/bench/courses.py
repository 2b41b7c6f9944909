"""The code in the measured process: `hits`, `paths`, `renewals` and `many_keys`, each one long invocation.

The real handlers are called as Lambda's runtime calls them. Times are in seconds. Preparing a call (emptying or ageing
the memory) is not measured.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from get_token import app as get_token
from renew_token import app as renew_token
from tests.bench.canned import Canned
from tests.bench.floors import powertools
from token_broker.bootstrap import broker
from token_broker.core.names import ConnectionName, Place, TokenKey
from token_broker.core.records import TokenRecord
from token_broker.ports import StoredSettings

Handler = Callable[[Any, Any], Any]
Clock = Callable[[], float]
OLDER_THAN_MEMORY: Final = timedelta(seconds=31)
PAGE_MB: Final = 4096 / 1024**2
STATM: Final = Path("/proc/self/statm")


class Side:
    """One handler on one event. `ready` prepares each call. `expected`: a text in every response's body."""

    def __init__(
        self, handler: Handler, event: Any, context: Any, expected: str, ready: Callable[[], object] = lambda: None
    ) -> None:
        self._handler, self._event, self._context = handler, event, context
        self._expected, self._ready = expected, ready

    def call(self, clock: Clock) -> float:
        """The time of a call. Raises AssertionError for an unexpected response."""
        self._ready()
        before = clock()
        response = self._handler(self._event, self._context)
        taken = clock() - before
        assert response["statusCode"] == 200, response["body"]
        assert self._expected in response["body"], response["body"]
        return taken

    def per_second(self, seconds: float) -> float:
        """How many calls the thread can make per second, by the wall clock."""
        calls, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            self.call(time.perf_counter)
            calls += 1
        return calls / (time.perf_counter() - started)


class Memory:
    """The broker's memory of one connection's token in this process."""

    def __init__(self, name: str) -> None:
        self._name = ConnectionName(*name.split("/"))
        self._memory = broker()._get_token._memory

    def forget(self) -> None:
        """Drops the token, but not the settings."""
        broker()._get_token.forget(self._name)

    def grow_old(self) -> None:
        """Ages the token, so that the table must be read again. The token stays opened."""
        key = TokenKey(self._name, self._memory.default_scope(self._name))
        entry = self._memory.get(key)
        if entry is not None:
            self._memory.put(replace(entry, read_at=entry.read_at - OLDER_THAN_MEMORY))


def hits(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Own processor time of token requests and floors, in alternating blocks, with canned responses of AWS.

    {name, request, rounds, calls, blocks, block_s} in; {cpu: {side: seconds of each call}, per_s: {side: of each
    block}, sends: {side: requests to AWS of one call}} out.
    """
    canned, memory, request = Canned(), Memory(event["name"]), event["request"]
    canned.install()
    sides = {
        "memory": Side(get_token.lambda_handler, request, context, '"source": "memory"'),
        "table": Side(get_token.lambda_handler, request, context, '"source": "table"', memory.forget),
        "opened": Side(get_token.lambda_handler, request, context, '"source": "table"', memory.grow_old),
        "nothing": Side(powertools.nothing, request, context, "{}"),
        "reading": Side(powertools.reading, request, context, '{"items": 2, "key_bytes": 32}'),
    }
    # The first call reads the settings. After it every request has been sent once.
    get_token.lambda_handler(request, context)
    sends = {name: _sends(canned, sides[name]) for name in ("table", "opened", "memory", "nothing", "reading")}
    canned.freeze()

    def refresh() -> None:
        # Memory is valid for 30 s after a read. A block takes less.
        sides["table"].call(time.process_time)

    cpu = _in_turn(sides, event["rounds"], event["calls"], time.process_time, refresh)
    per_s: dict[str, list[float]] = {"memory": [], "nothing": []}
    for _ in range(event["blocks"]):
        for name, rates in per_s.items():
            refresh()
            rates.append(sides[name].per_second(event["block_s"]))
    return {"cpu": cpu, "per_s": per_s, "sends": sends}


def paths(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Every path of a token request against the endpoint and the provider on loopback, in turn.

    {name, request, cold: [an event for each connection without a token]} in; {wall, cpu: {side: seconds of each call}}
    out.
    """
    memory, request = Memory(event["name"]), event["request"]
    sides = {
        "table": Side(get_token.lambda_handler, request, context, '"source": "table"', memory.forget),
        "memory": Side(get_token.lambda_handler, request, context, '"source": "memory"'),
        "opened": Side(get_token.lambda_handler, request, context, '"source": "table"', memory.grow_old),
        "nothing": Side(powertools.nothing, request, context, "{}"),
        "reading": Side(powertools.reading, request, context, '{"items": 2, "key_bytes": 32}'),
        "fetching": Side(powertools.fetching, request, context, '"access_token"'),
    }
    get_token.lambda_handler(request, context)
    for side in sides.values():
        side.call(time.perf_counter)
    first, *others = event["cold"]
    _both(Side(get_token.lambda_handler, first, context, '"source": "provider"'))
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in (*sides, "miss")}
    for cold in others:
        for name, side in sides.items():
            taken[name].append(_both(side))
        taken["miss"].append(_both(Side(get_token.lambda_handler, cold, context, '"source": "provider"')))
    return _wall_and_cpu(taken)


def renewals(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """The worker on messages of keys that are due, and the floor that asks the provider, in turn.

    {request, messages: [an SQS event for each key]} in; {wall, cpu: {side: seconds of each call}} out.
    """

    def renew(message: Any, context: Any) -> dict[str, Any]:
        done = renew_token.lambda_handler(message, context)
        return {"statusCode": 200, "body": str(done["batchItemFailures"])}

    fetching = Side(powertools.fetching, event["request"], context, '"access_token"')
    fetching.call(time.perf_counter)
    first, *others = event["messages"]
    _both(Side(renew, first, context, "[]"))
    taken: dict[str, list[tuple[float, float]]] = {"renewal": [], "fetching": []}
    for message in others:
        taken["renewal"].append(_both(Side(renew, message, context, "[]")))
        taken["fetching"].append(_both(fetching))
    return _wall_and_cpu(taken)


def many_keys(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Token requests for many connections: the process's resident memory after each number of them.

    {name, request, numbers: [ascending]} in; {resident_mb: [...], cached: entries in memory at the end} out. The
    handler, the broker and its memory are real. The table and the sealer are fakes: botocore and KMS would take
    minutes.
    """
    get_token.lambda_handler(event["request"], context)
    name = ConnectionName(*event["name"].split("/"))
    context_of_broker = broker().context
    stored, record = context_of_broker.tokens.read(TokenKey(name, broker()._get_token._memory.default_scope(name)))
    assert stored is not None
    object.__setattr__(context_of_broker, "tokens", _EveryKey(stored, record))
    object.__setattr__(context_of_broker, "sealer", _Opener())
    resident = []
    for before, number in pairwise((0, *event["numbers"])):
        for shop in range(before, number):
            request = _of_connection(event["request"], f"shop-{shop}")
            Side(get_token.lambda_handler, request, context, '"source": "table"').call(time.process_time)
        gc.collect()
        resident.append(int(STATM.read_text().split()[1]) * PAGE_MB)
    return {"resident_mb": resident, "cached": len(broker()._get_token._memory._tokens)}


class _EveryKey:
    """A table with a token for every key: the same record, with its own bytes for each key."""

    def __init__(self, stored: StoredSettings, record: TokenRecord) -> None:
        self._stored, self._record = stored, record

    def read(self, key: TokenKey) -> tuple[StoredSettings, TokenRecord]:
        stored, record = self._stored, self._record
        assert record.token is not None
        token = replace(record.token, sealed=bytes(bytearray(record.token.sealed)))
        settings = replace(stored, name=key.name, settings={**stored.settings})
        return settings, replace(record, key=key, token=token)


class _Opener:
    """Opens the tokens of `_EveryKey`: another text for each key."""

    def open(self, _sealed: bytes, place: Place, _purpose: str) -> str:
        return str(place)


def _of_connection(request: Mapping[str, Any], connection: str) -> dict[str, Any]:
    provider = request["pathParameters"]["provider"]
    parameters = {"provider": provider, "connection": connection}
    return {**request, "path": f"/v1/tokens/{provider}/{connection}", "pathParameters": parameters}


def _sends(canned: Canned, side: Side) -> int:
    before = canned.sent
    side.call(time.process_time)
    return canned.sent - before


def _in_turn(
    sides: Mapping[str, Side], rounds: int, calls: int, clock: Clock, refresh: Callable[[], None]
) -> dict[str, list[float]]:
    """Blocks of `calls` calls. The order of the sides is reversed each round."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sorted(sides, reverse=bool(number % 2)):
            refresh()
            taken[name] += [sides[name].call(clock) for _ in range(calls)]
    return taken


def _both(side: Side) -> tuple[float, float]:
    """The wall time and the processor time of all threads of this process."""
    cpu = time.process_time()
    wall = side.call(time.perf_counter)
    return wall, time.process_time() - cpu


def _wall_and_cpu(taken: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, dict[str, list[float]]]:
    return {
        "wall": {name: [wall for wall, _ in both] for name, both in taken.items()},
        "cpu": {name: [cpu for _, cpu in both] for name, both in taken.items()},
    }
