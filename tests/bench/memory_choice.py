"""The effect of a function's memory on latency and cost, from measured processor time and AWS's rules and prices."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from typing import Final

from local.process import ROOT
from tests.bench.figure import Finding, Sample

PRICES: Final = ROOT / "tests" / "cost" / "prices.toml"
SIZES_MB: Final = (256, 512, 1024, 1769, 3008)
# AWS, "Configure Lambda function memory": 1,769 MB give the equivalent of one vCPU, in proportion.
MB_OF_A_VCPU: Final = 1769
MS_OF_A_CALL: Final = 5.0  # an AWS call that waits for the network: the estimate of tests/cost/prices.toml
# Column, the figure's name, and AWS calls. The code is one thread, so a second processor does not help.
PATHS: Final = (
    ("memory hit", "memory hit, whole handler", 0),
    ("table hit, token not opened before", "table hit / ", 2),
    ("table hit, token opened before", "table hit, token opened before", 1),
)
COLD: Final = "cold start as a whole"


def section(findings: Sequence[Finding]) -> str:
    """The section of the page. Empty if the run lacks one of the figures."""
    times = [_median_ms(findings, name) for _, name, _ in PATHS]
    cold = _median_ms(findings, COLD)
    known = [ms for ms in times if ms is not None]
    if cold is None or len(known) < len(PATHS):
        return ""
    prices = tomllib.loads(PRICES.read_text(encoding="utf-8"))
    gb_second = prices["prices"]["lambda_gb_second"]
    rows = [_row(size, known, cold, gb_second) for size in SIZES_MB]
    head = " | ".join(f"{column}: ms, $ per million" for column, _, _ in PATHS)
    return f"""\
## How much memory

Lambda gives processor time in proportion to memory, a whole vCPU at 1,769 MB. From the processor time above (this
machine's processor standing for Lambda's), {MS_OF_A_CALL:g} ms for each AWS call as an estimate, and
{gb_second:.10f} $ a GB-second ({prices["region"]}, x86_64, list price of
{prices["as_of"]}); billed by the started millisecond, requests and API Gateway apart:

| MB | of a vCPU | {head} | cold start, s |
|---|---|---|---|---|---|
{chr(10).join(rows)}

The cold start is the whole one above at that share of a processor. Lambda may give more of it while a function
initialises, so small sizes can do better than the table says. The template's default is 1024 (`MemorySize`).
"""


def _row(size_mb: int, times_ms: Sequence[float], cold_ms: float, gb_second: float) -> str:
    share = min(size_mb / MB_OF_A_VCPU, 1.0)
    cells = []
    for cpu_ms, (_, _, calls) in zip(times_ms, PATHS, strict=True):
        taken_ms = cpu_ms / share + calls * MS_OF_A_CALL
        dollars = math.ceil(taken_ms) / 1000 * size_mb / 1024 * gb_second * 1_000_000
        cells.append(f"{taken_ms:.1f}, {dollars:.2f}")
    return f"| {size_mb} | {share:.2f} | {' | '.join(cells)} | {cold_ms / share / 1000:.2f} |"


def _median_ms(findings: Sequence[Finding], name: str) -> float | None:
    for finding in findings:
        measured = getattr(finding, "measured", None)
        if finding.name.startswith(name) and isinstance(measured, Sample):
            return measured.median_ms
    return None
