"""Writes docs/performance.md and docs/latency.svg from build/bench.json: `python -m tests.bench.page`.

The figures differ from run to run and from machine to machine. The page shows one run and is not checked by a test.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from local.process import ROOT
from tests.bench import memory_choice
from tests.bench.figure import Amount, Finding, Sample, read

PAGE: Final = ROOT / "docs" / "performance.md"
CHART: Final = ROOT / "docs" / "latency.svg"
BENCH: Final = ROOT / "build" / "bench.json"
MARK: Final = "<!-- What follows is written by hand. -->"

HEAD: Final = """\
# How fast it is

Written by `make bench ARGS=--write-page` from one run, on {measured_at}: {cores} cores, {system}, Python {python}.
Nothing here was measured on AWS: AWS is a local endpoint (moto), and the providers are simulated, all on loopback. So
look at the ratios. Each compares a time with a floor that was measured in the same run, in turn with it, so a busy
machine affects both.

![Latency by path: median and 99th percentile, and the floor of each](latency.svg)

The chart shows one caller by the wall clock. The difference to the floor is the time of the broker's own code. AWS and
a provider over a real network add time to both.

## The bars

{bars}

## All figures

A quarter of the calls took at most the first number in brackets, three quarters at most the second.
"""

SECTIONS: Final = {
    "hits": """\
### Hits

Processor time of the whole handler (with Powertools' resolver, log line and metric). botocore's HTTP send returns
responses that the local endpoint gave earlier in the run. The floors are `tests/bench/floors`: the same resolver, one
log line, one metric; for the table also one BatchGetItem and one Decrypt. The memory figure calls the real handler and
broker for many connections, with fakes of the table and KMS.
""",
    "paths": """\
### Every path

One caller against the local endpoint and the simulated provider. A miss and a renewal are compared with a handler
that stores no tokens: it reads the secret and asks the provider each time, without lease, budget, seal or record.
""",
    "agent": """\
### The agent

One caller over a kept connection, by the wall clock: a token that is there, from `token-broker agent` over its Unix
socket, and from the broker by a signed request, whose front here is no API Gateway but a Python process. nginx caches
the token endpoint's response, Envoy's credential injector adds the token to a request to the API. Both hold the client
secret.
""",
    "cold": """\
### Cold starts

The first event of a new Runtime Interface Emulator with the built artefact and its layers. The floor has the same
layers and third-party imports. The time of Python and awslambdaric themselves is subtracted from both sides of
the figure with the bar.
""",
    "layers": """\
### Size

The result of `make build`.
""",
    "calls": """\
### Calls of AWS

The most calls with any provider (counted by `tests/cost`).
""",
    "stampede": """\
### Bursts

All callers start at one moment, signed, through the local API Gateway front, which gives each environment one request
at a time. Every burst requests a new connection.
""",
    "kill_switch": """\
### The kill switch

After `DELETE /v1/tokens/...` one caller keeps requesting from every environment. Each had read the token just before.
""",
    "hanging_provider": """\
### One provider hangs

Callers of four providers while the fifth's token endpoint hangs, and while it responds.
""",
    "sweep": """\
### The sweep

Items that DynamoDB would charge for reading, with as many keys due.
""",
}


def write_page(document: Mapping[str, Any]) -> None:
    """Writes the page from build/bench.json's content. The part below the mark was written by hand and stays."""
    # Imported here, because importing matplotlib takes a second.
    from tests.bench.chart import draw

    findings = [read(figure) for figure in document["figures"]]
    _, mark, notes = PAGE.read_text(encoding="utf-8").partition(MARK) if PAGE.exists() else ("", MARK, "\n")
    PAGE.write_text(f"{render(document, findings)}\n{mark}{notes}", encoding="utf-8")
    draw(findings, CHART)


def render(document: Mapping[str, Any], findings: Sequence[Finding]) -> str:
    """The page up to the mark."""
    with_bar = [finding for finding in findings if finding.bar is not None]
    parts = [HEAD.format(measured_at=document["measured_at"], bars=_bars(with_bar), **document["machine"])]
    for name, text in SECTIONS.items():
        of_section = [finding for finding in findings if finding.section == name]
        if of_section:
            parts.append(f"{text}\n{_table(of_section)}\n")
    return "\n".join([*parts, memory_choice.section(findings)])


def _bars(findings: Sequence[Finding]) -> str:
    rows = [
        f"| {finding.name} | {_number(finding)} | {finding.bar:g} | {'yes' if finding.holds else '**no**'} |"
        for finding in findings
    ]
    return "\n".join(["| figure | measured | at most | holds |", "|---|---|---|---|", *rows])


def _number(finding: Finding) -> str:
    return f"{finding.number} {finding.unit}" if isinstance(finding, Amount) else finding.number


def _table(findings: Sequence[Finding]) -> str:
    rows = []
    for finding in findings:
        measured, reference = (
            ("", "") if isinstance(finding, Amount) else (_side(finding.measured), _side(finding.reference))
        )
        conditions = ", ".join(
            f"{name.replace('_', ' ')} {_plain(value)}" for name, value in finding.conditions.items()
        )
        cells = [finding.name, _number(finding), measured, reference, str(finding.repetitions), conditions]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(["| figure | | measured | floor | runs | with |", "|---|---|---|---|---|---|", *rows])


def _side(side: object) -> str:
    if isinstance(side, Sample):
        spread = f"({side.low_ms:.2f} to {side.high_ms:.2f})"
        return f"{side.median_ms:.2f} ms {spread}, p99 {side.p99_ms:.2f} ms, {side.calls:,} calls"
    return str(side)


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {one}" for name, one in value.items())
    return str(value)


if __name__ == "__main__":
    write_page(json.loads(Path(BENCH).read_text(encoding="utf-8")))
