"""The results of the simulated days, as a Markdown table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.simulation.figures import Outage, Row
from tests.simulation.scenarios import Finding, Line, worst_gaps

HOW_TO_READ = """\
Times are virtual. The broker's own code runs over stores in memory, which pass the same contract as DynamoDB's.

- **waited, failed**: calls after their key's first token, on keys that are kept warm (waited) and on all (failed). A
  call waits if it does not return at once: it asks the vendor itself, or waits for another that does.
- **least**: the fewest token requests that keep the day's promises. For a key that is kept warm: one for its first
  token, and one for each renewal, as late as the largest jitter (a fifth of the window) allows. The broker needs more,
  because its jitter differs per key. For `keep_warm: never`: one for each caller who finds no token that lives long
  enough.
- **by lifetimes**: the same without windows, with each token used until it expires. Then somebody waits each time.
- **worst minute**: requests of any kind to the provider's endpoint within any 60 s.
- **expired**: tokens of keys that are kept warm that expired before a new one was stored."""


def table(findings: Sequence[Finding], dynamodb: Sequence[Line]) -> str:
    """The whole report as Markdown."""
    parts = ["# The simulated days", HOW_TO_READ]
    for finding in findings:
        outcome = finding.outcome
        calls = sum(row.calls for row in finding.rows)
        size = f"{len(outcome.courses):,} keys, {outcome.plan.length_s / 3600:g} h, {calls:,} calls"
        effort = f"{outcome.instances} instances; {outcome.cpu_s:.0f} s of computing"
        parts += [f"## {finding.title}", f"{size}, {effort}.", _rows(finding.rows)]
        if finding.outages:
            parts.append(_outages(finding.outages))
        parts.append(_lines(finding.lines))
    parts += ["## The same day over DynamoDB's adapters and in memory", _lines(dynamodb)]
    return "\n\n".join(parts) + "\n"


def document(findings: Sequence[Finding], dynamodb: Sequence[Line]) -> dict[str, Any]:
    """The report as JSON, with more figures to find a cause."""
    return {
        "holds": holds(findings, dynamodb),
        "days": {
            finding.outcome.plan.name: {
                "title": finding.title,
                "hours": finding.outcome.plan.length_s / 3600,
                "seed": finding.outcome.plan.seed,
                "cpu_s": round(finding.outcome.cpu_s, 1),
                "providers": [asdict(row) for row in finding.rows],
                "outages": [asdict(outage) for outage in finding.outages],
                "renewals": {"/".join(kind): number for kind, number in sorted(finding.outcome.renewals.items())},
                "keys_deferred": finding.outcome.deferred,
                "longest_wait_for_a_worker_s": round(finding.outcome.longest_queue_s, 1),
                "instances": finding.outcome.instances,
                "first_tokens_that_expired_unrenewed": worst_gaps(finding.outcome),
                "lines": [asdict(line) for line in finding.lines],
            }
            for finding in findings
        },
        "dynamodb": [asdict(line) for line in dynamodb],
    }


def holds(findings: Iterable[Finding], dynamodb: Iterable[Line]) -> bool:
    """Whether every line holds."""
    return all(line.holds for finding in findings for line in finding.lines) and all(line.holds for line in dynamodb)


def write(folder: Path, findings: Sequence[Finding], dynamodb: Sequence[Line]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(table(findings, dynamodb), encoding="utf-8")
    result = json.dumps(document(findings, dynamodb), indent=2)
    (folder / "result.json").write_text(f"{result}\n", encoding="utf-8")


def _rows(rows: Sequence[Row]) -> str:
    head = (
        "provider",
        "keys",
        "calls",
        "waited",
        "failed",
        "token requests",
        "least",
        "ratio",
        "by lifetimes",
        "worst minute",
        "limit",
        "expired",
    )
    body = [
        (
            row.provider,
            row.keys,
            row.calls,
            row.waited,
            row.failed,
            row.requests,
            row.least,
            f"{row.requests / max(row.least, 1):.3f}",
            row.by_lifetimes,
            row.worst_minute,
            "none" if row.limit is None else row.limit,
            row.expired_unrenewed,
        )
        for row in rows
    ]
    return _markdown(head, body)


def _outages(outages: Sequence[Outage]) -> str:
    head = (
        "outage",
        "at",
        "keys",
        "token outlives it",
        "of these failed",
        "failed in all",
        "requests a key and min",
        "busiest key",
        "its worst min",
        "waited elsewhere",
    )
    body = [
        (
            f"{outage.trouble.provider} {outage.trouble.kind}",
            f"{outage.trouble.start_s / 3600:g} h",
            outage.keys,
            outage.protected,
            len(outage.broken_promises),
            outage.failed,
            f"{outage.requests_per_key:.3f}",
            f"{outage.busiest_key:.2f}",
            outage.worst_minute_of_a_key,
            outage.waited_elsewhere,
        )
        for outage in outages
    ]
    return _markdown(head, body)


def _lines(lines: Sequence[Line]) -> str:
    return _markdown(
        ("", "line", "measured"), [("ok" if line.holds else "**OVER**", line.name, line.measured) for line in lines]
    )


def _markdown(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    cells = [list(head), *([f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in body)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)
