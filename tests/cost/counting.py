"""Counts the AWS calls of running functions, and what DynamoDB would charge for them.

A hook in botocore counts each call. Units are computed from the real items, read before and after each write, by the
rules of AWS's developer guide (Read and write operations; Item sizes and formats). moto's own figures are not used.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

READ_UNIT: Final = 4096
WRITE_UNIT: Final = 1024
INDEX_ATTRIBUTES: Final = ("pk", "sk", "due_shard", "due_at", "ttl")
WRITES: Final = frozenset({"UpdateItem", "PutItem", "DeleteItem"})

Item = Mapping[str, Any]


@dataclass
class Use:
    """What one or more invocations used. `index_units` are among `write_units`; bytes are those of log lines."""

    calls: Counter[str] = field(default_factory=Counter)
    read_units: float = 0
    write_units: int = 0
    index_units: int = 0
    largest_item: int = 0
    log_lines: int = 0
    log_bytes: int = 0
    answer_bytes: int = 0

    def of(self, service: str) -> int:
        """Calls of one service."""
        return sum(count for name, count in self.calls.items() if name.startswith(f"{service}:"))


class Meter:
    """Counts the calls of one session's clients during `counting`. Calls may come from several threads."""

    def __init__(self, reader: Any) -> None:
        """`reader`: a DynamoDB client of another session, to read items."""
        self._reader = reader
        self._use: Use | None = None
        self._lock = threading.Lock()

    def attach(self, session: Any) -> None:
        """Registers the hooks. Must be called before the session creates clients."""
        session.events.register("provide-client-params", self._before)
        session.events.register("after-call", self._after)

    @contextmanager
    def counting(self) -> Iterator[Use]:
        self._use = use = Use()
        try:
            yield use
        finally:
            self._use = None

    def _before(self, params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        if self._use is None:
            return
        context["asked"] = params
        if model.service_model.service_name == "dynamodb" and model.name in WRITES:
            context["item"] = self._item(params["TableName"], _key_of(params))

    def _after(self, parsed: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        if self._use is None:
            return
        service, asked = model.service_model.service_name, context["asked"]
        read: float = 0
        write = index = largest = 0
        if service == "dynamodb" and model.name in WRITES:
            before, after = context["item"], self._item(asked["TableName"], _key_of(asked))
            largest = max(item_size(before), item_size(after))
            index = index_units(before, after)
            write = write_units(largest) + index
        elif service == "dynamodb":
            read = self._read_units(model.name, asked, parsed)
        with self._lock:
            self._use.calls[f"{service}:{model.name}"] += 1
            self._use.read_units += read
            self._use.write_units += write
            self._use.index_units += index
            self._use.largest_item = max(self._use.largest_item, largest)

    def _item(self, table: str, key: Item) -> Item:
        found: Item = self._reader.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item", {})
        return found

    @staticmethod
    def _read_units(operation: str, asked: dict[str, Any], parsed: dict[str, Any]) -> float:
        match operation:
            case "BatchGetItem":
                return sum(
                    _units_of_batch(request, parsed["Responses"].get(table, []))
                    for table, request in asked["RequestItems"].items()
                )
            case "GetItem":
                return read_units(item_size(parsed.get("Item", {})), strong=asked.get("ConsistentRead", False))
            case "Query":
                size = sum(
                    index_entry_size(item) if "IndexName" in asked else item_size(item) for item in parsed["Items"]
                )
                return read_units(size, strong=asked.get("ConsistentRead", False))
        raise NotImplementedError(f"teach _read_units {operation}")


def read_units(size: int, *, strong: bool) -> float:
    """Read units for `size` bytes. A missing item costs as much as the smallest one."""
    return max(1, math.ceil(size / READ_UNIT)) * (1.0 if strong else 0.5)


def write_units(size: int) -> int:
    """Write units for the larger of an item's sizes before and after. A failed condition costs the same."""
    return max(1, math.ceil(size / WRITE_UNIT))


def index_units(before: Item, after: Item) -> int:
    """Write units of the due index. A changed key deletes one entry and puts one, a changed `ttl` updates one."""
    old, new = _index_key(before), _index_key(after)
    if old == new:
        changed = new is not None and index_entry(before) != index_entry(after)
        return write_units(max(index_entry_size(before), index_entry_size(after))) if changed else 0
    return sum(write_units(index_entry_size(item)) for item, key in ((before, old), (after, new)) if key is not None)


def index_entry(item: Item) -> Item:
    return {name: item[name] for name in INDEX_ATTRIBUTES if name in item}


def index_entry_size(item: Item) -> int:
    return item_size(index_entry(item))


def item_size(item: Item) -> int:
    """Bytes of an item as DynamoDB counts them: names and values."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Item) -> int:
    ((kind, content),) = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "B":
            return len(content)
        case "N":
            # Half a byte per digit and one more. Trailing zeros are counted, so that all moments have the same size.
            return math.ceil(len(content.lstrip("-")) / 2) + 1
        case "BOOL" | "NULL":
            return 1
        case "M":
            return 3 + sum(1 + len(name.encode()) + _value_size(entry) for name, entry in content.items())
        case "L":
            return 3 + sum(1 + _value_size(entry) for entry in content)
    raise NotImplementedError(f"teach _value_size {kind}")


def _index_key(item: Item) -> tuple[Any, ...] | None:
    return (item["due_shard"], item["due_at"]) if "due_shard" in item and "due_at" in item else None


def _key_of(asked: dict[str, Any]) -> Item:
    key: Item = asked["Key"] if "Key" in asked else {n: asked["Item"][n] for n in ("pk", "sk") if n in asked["Item"]}
    return key


def _units_of_batch(request: dict[str, Any], found: list[Item]) -> float:
    """Read units of a batch. Each item is rounded up separately."""
    strong, missing = request.get("ConsistentRead", False), len(request["Keys"]) - len(found)
    sizes = [item_size(item) for item in found] + [0] * missing
    return sum(read_units(size, strong=strong) for size in sizes)
