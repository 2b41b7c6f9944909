"""Hits, one caller: own processor time and its floors, hits per second of one thread, and memory of many keys.

tests.bench.courses has the measured code, tests.bench.floors the floors.
"""

from __future__ import annotations

from typing import Any, Final

from tests.bench.figure import Amount, Figure, Finding, Rate, Size, timed
from tests.bench.ground import GET_TOKEN, Ground, event
from tests.bench.scale import Progress, Scale

MEMORY_BAR: Final = 1.5
TABLE_BAR: Final = 1.3
OWN: Final = "own CPU, with canned responses of AWS"


def measure(scale: Scale, progress: Progress) -> list[Finding]:
    """The figures of hits."""
    with Ground() as ground:
        name = ground.connect("demo")
        ground.fetch(name)
        task = {"name": name, "request": event(name)}
        progress(f"hits: {scale.hit_rounds} rounds of {scale.hit_calls} calls of each side")
        course = {
            "rounds": scale.hit_rounds,
            "calls": scale.hit_calls,
            "blocks": scale.blocks,
            "block_s": scale.block_s,
        }
        found = ground.course(GET_TOKEN, "hits", {**task, **course}, **ground.floor(name))
        progress(f"memory: {scale.keys[-1]:,} keys")
        kept = ground.course(GET_TOKEN, "many_keys", {**task, "numbers": scale.keys})
    return [*_times(found["cpu"], found["sends"], scale), _rate(found["per_s"], scale), *_memory(kept, scale)]


def _times(cpu: dict[str, list[float]], sends: dict[str, int], scale: Scale) -> list[Finding]:
    pairs: list[tuple[str, float | None, str, str]] = [
        ("memory hit, whole handler / a handler that does nothing", MEMORY_BAR, "memory", "nothing"),
        ("table hit / a handler with one BatchGetItem and one Decrypt", TABLE_BAR, "table", "reading"),
        ("table hit, token opened before / that handler", None, "opened", "reading"),
    ]
    return [
        timed(
            title,
            bar,
            cpu[measured],
            cpu[reference],
            scale.hit_rounds,
            time=OWN,
            aws_calls=sends[measured],
            aws_calls_of_floor=sends[reference],
        )
        for title, bar, measured, reference in pairs
    ]


def _rate(per_s: dict[str, list[float]], scale: Scale) -> Figure:
    measured, reference = Rate.of(per_s["memory"]), Rate.of(per_s["nothing"])
    return Figure(
        "hits a second of one thread, a handler that does nothing / memory hit",
        round(reference.median_per_s / measured.median_per_s, 3),
        None,
        measured,
        reference,
        scale.blocks,
        {"block_s": scale.block_s},
    )


def _memory(kept: dict[str, Any], scale: Scale) -> list[Finding]:
    *_, before, after = kept["resident_mb"]
    ratio = round(after / before, 3)
    name = f"resident memory after {scale.keys[-1]:,} different keys / after {scale.keys[-2]:,}"
    resident = {f"{number:,} keys": round(mb, 1) for number, mb in zip(scale.keys, kept["resident_mb"], strict=True)}
    sides = Size(round(after, 1)), Size(round(before, 1))
    return [
        Figure(name, ratio, None, *sides, 1, {"resident_mb": resident}),
        Amount("tokens in one instance's memory after that", kept["cached"], "tokens", None, 1),
    ]
