"""The built artefact: cold starts through Lambda's own runtime, and the size of the layers.

A cold start is the first event of a new Runtime Interface Emulator: it starts Python with awslambdaric, which imports
the handler and runs it once, a hit from the table of the local AWS endpoint. The floor is a handler on the same layers
with the same third-party imports, which makes one BatchGetItem and one Decrypt. The time of Python and awslambdaric (a
handler that imports nothing) is measured too, and subtracted from both sides of the ratio with the bar.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from local.lambda_environments import Function
from tests.bench.figure import Amount, Finding, paired
from tests.bench.ground import FLOORS, GET_TOKEN, Ground, event, running
from tests.bench.scale import Progress, Scale
from tests.e2e.built import BUILD, Code, built_functions
from tests.e2e.emulator import Emulator

COLD_BAR: Final = 1.25
LAYERS_BAR_MB: Final = 45
MB: Final = 1024**2


@dataclass(frozen=True)
class Start:
    """One kind of cold start: the code, the handler, and a text in its response's body."""

    code: Code
    handler: str
    expected: str
    variables: Mapping[str, str]


def cold_starts(scale: Scale, progress: Progress) -> list[Finding]:
    """Each kind in turn, `scale.cold_starts` times. Raises tests.e2e.built.NotBuilt."""
    built = built_functions()[GET_TOKEN]
    with Ground() as ground, tempfile.TemporaryDirectory() as directory:
        name = ground.connect("demo")
        ground.fetch(name)
        # .pyc files must not be written there, as in Lambda.
        uncompiled, unwritable = _without_pyc(built, Path(directory)), {"PYTHONDONTWRITEBYTECODE": "1"}
        app = ground.resources.handlers[GET_TOKEN]
        kinds = {
            "built": Start(built, app, '"source": "table"', {}),
            "floor": Start(Code(FLOORS, built.layers), "powertools.reading", '{"items": 2', ground.floor(name)),
            "uncompiled": Start(uncompiled, app, '"source": "table"', unwritable),
            "bare": Start(Code(FLOORS, built.layers), "bare.lambda_handler", "", {}),
        }
        taken: dict[str, list[float]] = {kind: [] for kind in kinds}
        for start in kinds.values():
            _cold_start(ground, start, event(name))  # fills the page cache, and writes the floor's .pyc files
        for number in range(scale.cold_starts):
            progress(f"cold starts: {number + 1} of {scale.cold_starts}")
            for kind in sorted(kinds, reverse=bool(number % 2)):
                taken[kind].append(_cold_start(ground, kinds[kind], event(name)))
    runtime_ms = round(1000 * statistics.median(taken["bare"]))
    own, floor = (
        [seconds - runtime for seconds, runtime in zip(taken[kind], taken["bare"], strict=True)]
        for kind in ("built", "floor")
    )
    return [
        paired(
            "cold start, import and first table hit / the same imports, one BatchGetItem and one Decrypt",
            COLD_BAR,
            own,
            floor,
            runtime_itself_ms=f"{runtime_ms} (taken off)",
        ),
        paired("cold start as a whole / that handler's", None, taken["built"], taken["floor"]),
        paired("cold start without .pyc / with", None, taken["uncompiled"], taken["built"]),
    ]


def _cold_start(ground: Ground, start: Start, request: Any) -> float:
    """Seconds from the first event to its response."""
    function = Function(
        GET_TOKEN,
        start.handler,
        ground.resources.environments[GET_TOKEN],
        timeout_s=ground.resources.timeouts[GET_TOKEN],
        memory_mb=ground.resources.memory[GET_TOKEN],
    )

    def make(function: Function, variables: Mapping[str, str], log: Path | None) -> Emulator:
        emulator = Emulator(start.code, function, variables, log)
        emulator.start()
        return emulator

    with running(make, function, ground.variables(function, **start.variables)) as invoke:
        started = time.perf_counter()
        response = invoke(request)
        taken = time.perf_counter() - started
    assert start.expected in response.get("body", ""), response
    return taken


def _without_pyc(code: Code, directory: Path) -> Code:
    """A copy without compiled files."""

    def copy(source: Path, name: str) -> Path:
        copied: Path = shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        return copied

    layers = [copy(layer, f"layer-{number}") for number, layer in enumerate(code.layers)]
    return Code(copy(code.task_root, "task"), layers)


def layer_sizes(_scale: Scale, _progress: Progress) -> list[Finding]:
    """The size of all built layers. Raises tests.e2e.built.NotBuilt."""
    layers = sorted({layer.parent for code in built_functions().values() for layer in code.layers})
    layers += [layer for layer in sorted(BUILD.glob("*Layer")) if layer not in layers]
    sizes = {layer.name: _size_mb(layer) for layer in layers}
    conditions = {f"{name}_mb": round(size, 1) for name, size in sizes.items()}
    total = round(sum(sizes.values()), 1)
    return [Amount("built layers, unzipped, .pyc included", total, "MB", LAYERS_BAR_MB, 1, conditions)]


def _size_mb(directory: Path) -> float:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / MB
