"""What runs in the measured process: `hits`, `paths`, `renewals` and `many_keys`, each one long invocation.

The real handlers are called as Lambda's runtime calls them. Times are in seconds. Everything that a call is made ready
by (forgetting, growing old) stands outside the time that is taken.
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
from token_broker.core.names import ConnectionName, TokenKey
from token_broker.core.records import TokenRecord
from token_broker.ports import StoredSettings

Handler = Callable[[Any, Any], Any]
Clock = Callable[[], float]
OLDER_THAN_MEMORY: Final = timedelta(seconds=31)
PAGE_MB: Final = 4096 / 1024**2
STATM: Final = Path("/proc/self/statm")


class Side:
    """One handler on one event, made ready before each call. `expected` stands in every answer's body."""

    def __init__(
        self, handler: Handler, event: Any, context: Any, expected: str, ready: Callable[[], object] = lambda: None
    ) -> None:
        self._handler, self._event, self._context = handler, event, context
        self._expected, self._ready = expected, ready

    def call(self, clock: Clock) -> float:
        """How long it took. Raises AssertionError for another answer than the expected one."""
        self._ready()
        before = clock()
        response = self._handler(self._event, self._context)
        taken = clock() - before
        assert response["statusCode"] == 200, response["body"]
        assert self._expected in response["body"], response["body"]
        return taken

    def per_second(self, seconds: float) -> float:
        """As many calls as the thread can make, by the wall clock."""
        calls, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            self.call(time.perf_counter)
            calls += 1
        return calls / (time.perf_counter() - started)


class Memory:
    """This process's memory of one connection's token: the real one, looked into."""

    def __init__(self, name: str) -> None:
        self._name = ConnectionName(*name.split("/"))
        self._memory = broker()._get_token._memory

    def forget(self) -> None:
        """The token, and not the settings."""
        broker()._get_token.forget(self._name)

    def grow_old(self) -> None:
        """The token has been opened, and the table must be asked again."""
        key = TokenKey(self._name, self._memory.default_scope(self._name))
        entry = self._memory.get(key)
        if entry is not None:
            self._memory.put(replace(entry, read_at=entry.read_at - OLDER_THAN_MEMORY))


def hits(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Own processor time of hand-outs and floors, their blocks in turn, AWS answered from canned bytes.

    {name, ask, rounds, calls, blocks, block_s} in; {cpu: {side: seconds of each call}, per_s: {side: of each block},
    sends: {side: requests to AWS of one call}} out.
    """
    canned, memory, ask = Canned(), Memory(event["name"]), event["ask"]
    canned.install()
    sides = {
        "memory": Side(get_token.lambda_handler, ask, context, '"source": "memory"'),
        "table": Side(get_token.lambda_handler, ask, context, '"source": "table"', memory.forget),
        "seen": Side(get_token.lambda_handler, ask, context, '"source": "table"', memory.grow_old),
        "nothing": Side(powertools.nothing, ask, context, "{}"),
        "reading": Side(powertools.reading, ask, context, '{"items": 2, "key_bytes": 32}'),
    }
    # The first of all learns the settings; then every request has been made once.
    get_token.lambda_handler(ask, context)
    sends = {name: _sends(canned, sides[name]) for name in ("table", "seen", "memory", "nothing", "reading")}
    canned.freeze()

    def refresh() -> None:
        # What is in memory now was read now: a block takes less than the 30 s for which that counts.
        sides["table"].call(time.process_time)

    cpu = _in_turn(sides, event["rounds"], event["calls"], time.process_time, refresh)
    per_s: dict[str, list[float]] = {"memory": [], "nothing": []}
    for _ in range(event["blocks"]):
        for name, rates in per_s.items():
            refresh()
            rates.append(sides[name].per_second(event["block_s"]))
    return {"cpu": cpu, "per_s": per_s, "sends": sends}


def paths(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Every path of a hand-out against the endpoint and the provider on loopback, in turn.

    {name, ask, cold: [an event for each connection without a token]} in; {wall, cpu: {side: seconds of each call}} out.
    """
    memory, ask = Memory(event["name"]), event["ask"]
    sides = {
        "table": Side(get_token.lambda_handler, ask, context, '"source": "table"', memory.forget),
        "memory": Side(get_token.lambda_handler, ask, context, '"source": "memory"'),
        "seen": Side(get_token.lambda_handler, ask, context, '"source": "table"', memory.grow_old),
        "nothing": Side(powertools.nothing, ask, context, "{}"),
        "reading": Side(powertools.reading, ask, context, '{"items": 2, "key_bytes": 32}'),
        "fetching": Side(powertools.fetching, ask, context, '"access_token"'),
    }
    get_token.lambda_handler(ask, context)
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

    {ask, messages: [an SQS event for each key]} in; {wall, cpu: {side: seconds of each call}} out.
    """

    def renew(message: Any, context: Any) -> dict[str, Any]:
        done = renew_token.lambda_handler(message, context)
        return {"statusCode": 200, "body": str(done["batchItemFailures"])}

    fetching = Side(powertools.fetching, event["ask"], context, '"access_token"')
    fetching.call(time.perf_counter)
    first, *others = event["messages"]
    _both(Side(renew, first, context, "[]"))
    taken: dict[str, list[tuple[float, float]]] = {"renewal": [], "fetching": []}
    for message in others:
        taken["renewal"].append(_both(Side(renew, message, context, "[]")))
        taken["fetching"].append(_both(fetching))
    return _wall_and_cpu(taken)


def many_keys(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Hand-outs of ever other connections: the process's resident memory after each number of them.

    {name, ask, numbers: [ascending]} in; {resident_mb: [...], remembered: entries in memory at the end} out. The
    handler, the broker and its memory are the real ones. The table has every key, and what it gives is opened, without
    botocore and KMS, which would take minutes.
    """
    get_token.lambda_handler(event["ask"], context)
    name = ConnectionName(*event["name"].split("/"))
    parts = broker().context
    stored, record = parts.tokens.read(TokenKey(name, broker()._get_token._memory.default_scope(name)))
    assert stored is not None
    object.__setattr__(parts, "tokens", _EveryKey(stored, record))
    object.__setattr__(parts, "sealer", _Opener())
    resident = []
    for before, number in pairwise((0, *event["numbers"])):
        for shop in range(before, number):
            ask = _of_connection(event["ask"], f"shop-{shop}")
            Side(get_token.lambda_handler, ask, context, '"source": "table"').call(time.process_time)
        gc.collect()
        resident.append(int(STATM.read_text().split()[1]) * PAGE_MB)
    return {"resident_mb": resident, "remembered": len(broker()._get_token._memory._tokens)}


class _EveryKey:
    """A table that has a token for every key: one record, under each key's name and with bytes of its own."""

    def __init__(self, stored: StoredSettings, record: TokenRecord) -> None:
        self._stored, self._record = stored, record

    def read(self, key: TokenKey) -> tuple[StoredSettings, TokenRecord]:
        stored, record = self._stored, self._record
        assert record.token is not None
        token = replace(record.token, sealed=bytes(bytearray(record.token.sealed)))
        settings = replace(stored, name=key.name, settings={**stored.settings})
        return settings, replace(record, key=key, token=token)


class _Opener:
    """Opens what `_EveryKey` gives: a text of its own for each key."""

    def open(self, _sealed: bytes, key: TokenKey, _purpose: str) -> str:
        return f"{key.scope_id}/{key.name.connection}"


def _of_connection(ask: Mapping[str, Any], connection: str) -> dict[str, Any]:
    provider = ask["pathParameters"]["provider"]
    parameters = {"provider": provider, "connection": connection}
    return {**ask, "path": f"/v1/tokens/{provider}/{connection}", "pathParameters": parameters}


def _sends(canned: Canned, side: Side) -> int:
    before = canned.sent
    side.call(time.process_time)
    return canned.sent - before


def _in_turn(
    sides: Mapping[str, Side], rounds: int, calls: int, clock: Clock, refresh: Callable[[], None]
) -> dict[str, list[float]]:
    """Blocks of `calls` calls, the order of the sides turned around each round."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sorted(sides, reverse=bool(number % 2)):
            refresh()
            taken[name] += [sides[name].call(clock) for _ in range(calls)]
    return taken


def _both(side: Side) -> tuple[float, float]:
    """By the wall clock, and the processor time of all threads of this process."""
    cpu = time.process_time()
    wall = side.call(time.perf_counter)
    return wall, time.process_time() - cpu


def _wall_and_cpu(taken: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, dict[str, list[float]]]:
    return {
        "wall": {name: [wall for wall, _ in both] for name, both in taken.items()},
        "cpu": {name: [cpu for _, cpu in both] for name, both in taken.items()},
    }
