"""The bench with few repetitions: each section runs and writes its fields, and the floors work."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session

from local.aws import REGION, AwsServer
from local.connections import aws_client
from local.resources import LocalStack
from tests.bench import courses, memory_choice, page, sweep_cost
from tests.bench.__main__ import main
from tests.bench.canned import Canned
from tests.bench.chart import by_path, draw
from tests.bench.figure import (
    Amount,
    Figure,
    Finding,
    Rate,
    Sample,
    Side,
    Size,
    Tally,
    machine,
    percentile,
    read,
    table,
    timed,
)
from tests.bench.floors import bare, powertools
from tests.bench.ground import FLOORS, GET_TOKEN, KEY_BYTES, event
from tests.bench.hanging_provider import BAR, FIRST_ROUND_BAR_S
from tests.bench.sections import SECTIONS
from tests.e2e.built import built_functions
from tests.e2e.emulator import PYTHON
from tests.integration.handlers.functions import Context

APART = ("cold", "layers", "hanging_provider")
SIDES = {
    frozenset({"calls", "median_ms", "low_ms", "high_ms", "p99_ms", "slowest_ms"}),
    frozenset({"read", "queries", "stored"}),
    frozenset({"blocks", "median_per_s", "slowest_per_s", "fastest_per_s"}),
    frozenset({"megabytes"}),
}
CONTEXT: Any = Context("floor")  # the attributes that Powertools reads
ALWAYS = {"name", "bar", "holds", "repetitions", "conditions", "section"}


def figure(ratio: float, bar: float | None = BAR) -> Figure:
    sample = Sample.of([0.001, 0.002])
    return Figure("figure", ratio, bar, sample, sample, 1)


def quick(name: str, output: Path) -> dict[str, Any]:
    """The output of a quick run of one section. With so few repetitions it is chance whether a bar holds."""
    assert main([name, "--quick", "--output", str(output)]) in (0, 1)
    document: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return document


def check(document: Mapping[str, Any], section: str) -> None:
    """Checks that every field exists, has its type, and agrees with the others."""
    assert set(document) == {"measured_at", "machine", "figures"}
    assert set(document["machine"]) == {"cores", "python", "system"}
    assert document["figures"]
    for found in document["figures"]:
        assert found["section"] == section
        assert found["repetitions"] >= 1
        number = found["value"] if "unit" in found else found["ratio"]
        assert found["holds"] == (found["bar"] is None or number <= found["bar"])
        if "unit" in found:
            assert set(found) == ALWAYS | {"value", "unit"}
            assert found["value"] >= 0
            continue
        assert set(found) == ALWAYS | {"ratio", "measured", "reference"}
        assert found["ratio"] > 0
        for side in (found["measured"], found["reference"]):
            assert frozenset(side) in SIDES
            assert all(value > 0 for value in side.values())
            if "median_ms" in side:
                assert side["low_ms"] <= side["median_ms"] <= side["high_ms"] <= side["slowest_ms"]
                assert side["median_ms"] <= side["p99_ms"] <= side["slowest_ms"]
    assert [read(found).document() for found in document["figures"]] == document["figures"]


@pytest.mark.parametrize("name", [name for name in SECTIONS if name not in APART])
def test_each_section_runs_and_writes_every_field(name: str, tmp_path: Path) -> None:
    document = quick(name, tmp_path / "build" / "bench.json")
    check(document, name)
    assert any(found["bar"] is not None for found in document["figures"]) == (name != "paths")


@pytest.mark.built
def test_the_layers_are_measured(tmp_path: Path) -> None:
    document = quick("layers", tmp_path / "bench.json")
    check(document, "layers")
    (found,) = document["figures"]
    assert found["value"] == pytest.approx(sum(found["conditions"].values()), abs=0.2)


@pytest.mark.e2e
def test_cold_starts_run_on_the_runtime(tmp_path: Path) -> None:
    check(quick("cold", tmp_path / "bench.json"), "cold")


@pytest.mark.e2e
def test_the_floor_of_a_cold_start_imports_what_a_hit_from_the_table_imports() -> None:
    """All modules except the broker's own and the reader of its catalogue."""
    code = built_functions()[GET_TOKEN]
    broker = _imported(code.task_root, code.layers, "get_token.app", "token_broker.adapters.kms")
    floor = _imported(FLOORS, code.layers, "powertools")
    own = {name for name in broker if name.partition(".")[0] in ("token_broker", "get_token", "tomllib")}
    assert own
    assert broker - own == floor - {"powertools"}


def _imported(task_root: Path, layers: Sequence[Path], *modules: str) -> set[str]:
    """The modules that a new process of the runtime has after importing these."""
    done = subprocess.run(
        [PYTHON, "-B", "-c", f"import sys, {', '.join(modules)}; print(*sys.modules)"],
        env={"PYTHONPATH": os.pathsep.join(map(str, [task_root, *layers])), "AWS_REGION": REGION},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_a_hanging_provider_is_measured_with_and_without_the_hang(tmp_path: Path) -> None:
    document = quick("hanging_provider", tmp_path / "bench.json")
    check(document, "hanging_provider")
    few, first_round, later_rounds = document["figures"]
    assert (few["bar"], later_rounds["bar"]) == (BAR, BAR)
    assert (first_round["bar"], first_round["unit"]) == (FIRST_ROUND_BAR_S, "seconds")
    for found in (few, later_rounds):
        assert found["ratio"] == round(found["measured"]["p99_ms"] / found["reference"]["p99_ms"], 3)
        assert min(found["measured"]["calls"], found["reference"]["calls"]) >= 4


def test_an_unknown_section_ends_the_bench(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["memory"])
    assert "there is no memory; there are hits, paths" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--quick"], ["calls"]])
def test_a_page_needs_a_whole_run(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--write-page", *arguments])


# ------------------------------------------------------------------ figures


def test_a_figure_over_its_bar_is_marked() -> None:
    assert [figure(1.5).holds, figure(1.51).holds, figure(9, None).holds] == [True, False, True]
    assert "OVER" in table([figure(1.51)])
    assert "OVER" not in table([figure(1.5), figure(9, None)])
    over = Amount("calls", 3, "calls", 2, 1)
    assert (over.holds, Amount("calls", 2, "calls", 2, 1).holds) == (False, True)
    assert "OVER" in table([over])


def test_a_ratio_is_that_of_the_medians() -> None:
    found = timed("figure", 1.5, [0.003, 0.001, 0.1], [0.002, 0.002], 2, rounds=2)
    assert (found.ratio, found.repetitions, found.conditions) == (1.5, 2, {"rounds": 2})


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(1, 201)]
    assert (percentile(values, 99), percentile(values, 50), percentile([7.0], 99)) == (198.0, 100.0, 7.0)


@pytest.mark.parametrize("kind", [Sample, Rate])
def test_a_sample_needs_measurements(kind: type[Sample | Rate]) -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        kind.of([])


def test_an_unknown_kind_of_side_is_rejected() -> None:
    document = figure(1.0).document() | {"measured": {"miles": 3}}
    with pytest.raises(ValueError, match="no side of a figure has miles"):
        read(document)


def test_a_sweep_reads_only_keys_that_are_due() -> None:
    """With more keys due, it reads more items."""
    (figure,) = sweep_cost.measure(lambda _: None, sizes=(100, 400), due=10)
    assert (figure.ratio, figure.holds) == (1.0, True)
    assert isinstance(figure.measured, Tally)
    assert (figure.measured.read, figure.measured.stored) == (10, 400)
    (more,) = sweep_cost.measure(lambda _: None, sizes=(100, 400), due=20)
    assert isinstance(more.measured, Tally)
    assert more.measured.read == 20
    assert "20 items read" in table([more])


# ------------------------------------------------------------------ floors


@pytest.fixture
def floor(aws: AwsServer, stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the floors read. One of the two items exists."""
    kms, dynamodb = aws_client("kms", aws.endpoint_url), aws_client("dynamodb", aws.endpoint_url)
    context = {"purpose": "bench"}
    sealed = kms.generate_data_key(KeyId=stack.sealing_key_arn, NumberOfBytes=KEY_BYTES, EncryptionContext=context)
    dynamodb.put_item(TableName=stack.connection_table, Item={"pk": {"S": "C#unidy/floor"}})
    wanted = {
        "items": {
            stack.connection_table: {"Keys": [{"pk": {"S": "C#unidy/floor"}}]},
            stack.token_table: {"Keys": [{"pk": {"S": "C#unidy/floor"}, "sk": {"S": "T#none"}}]},
        },
        "sealed": base64.b64encode(sealed["CiphertextBlob"]).decode(),
        "context": context,
        "key": stack.sealing_key_arn,
    }
    clients = {"dynamodb": dynamodb, "kms": kms}
    monkeypatch.setattr(powertools, "client", clients.__getitem__)
    monkeypatch.setattr(powertools, "_wanted", lambda: wanted)
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Floor")
    return wanted


def test_the_handler_that_does_nothing_writes_one_line_and_one_metric(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Floor")
    response = powertools.nothing(event("unidy/floor"), CONTEXT)
    assert (response["statusCode"], response["body"]) == (200, "{}")
    assert [record.message for record in caplog.records if record.name == "floor"] == ["answered"]
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["Answers"] for line in lines if "_aws" in line] == [[1.0]]
    assert bare.lambda_handler({}, None) == {}


def test_the_floor_of_a_table_hit_returns_what_it_read(
    floor: dict[str, Any], aws: AwsServer, stack: LocalStack
) -> None:
    """It reads one item if one exists, two if both do. It also decrypts the key."""
    request = event("unidy/floor")
    assert json.loads(powertools.reading(request, CONTEXT)["body"]) == {"items": 1, "key_bytes": KEY_BYTES}
    item = {"pk": {"S": "C#unidy/floor"}, "sk": {"S": "T#none"}}
    aws_client("dynamodb", aws.endpoint_url).put_item(TableName=stack.token_table, Item=item)
    assert json.loads(powertools.reading(request, CONTEXT)["body"]) == {"items": 2, "key_bytes": KEY_BYTES}
    floor["context"]["purpose"] = "another"
    with pytest.raises(powertools.client("kms").exceptions.InvalidCiphertextException):
        powertools.reading(request, CONTEXT)


def test_an_unexpected_response_is_not_measured() -> None:
    def handler(_event: Any, _context: Any) -> dict[str, Any]:
        return {"statusCode": 200, "body": '{"source": "provider"}'}

    with pytest.raises(AssertionError):
        courses.Side(handler, {}, None, '"source": "memory"').call(lambda: 0.0)


# ------------------------------------------------------------------ canned bytes


def request_for(body: bytes) -> AWSPreparedRequest:
    headers: Any = {"X-Amz-Target": b"DynamoDB_20120810.BatchGetItem"}
    return AWSPreparedRequest("POST", "http://127.0.0.1:1/", headers, body, stream_output=False)


class Bytes:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> list[bytes]:
        return [self._body]


def test_a_response_is_fetched_once_and_repeated_for_the_same_request() -> None:
    canned, asked = Canned(), []

    def send(_session: object, request: AWSPreparedRequest) -> AWSResponse:
        asked.append(request.body)
        assert isinstance(request.body, bytes)
        raw: Any = Bytes(b"answer to " + request.body)
        headers: Any = {"x-amz-crc32": "1"}
        return AWSResponse(request.url, 200, headers, raw)

    canned._send = send  # type: ignore[assignment]  # the network's part
    session = URLLib3Session()
    responses = [canned.response(session, request_for(body)) for body in (b"one", b"two", b"one")]
    assert [response.content for response in responses] == [b"answer to one", b"answer to two", b"answer to one"]
    assert (asked, canned.sent) == ([b"one", b"two"], 3)
    canned.freeze()
    assert canned.response(session, request_for(b"two")).content == b"answer to two"
    with pytest.raises(AssertionError, match="BatchGetItem was not asked before"):
        canned.response(session, request_for(b"three"))


# ------------------------------------------------------------------ the page


def findings() -> list[Finding]:
    sample = Sample.of([0.001, 0.002])
    sides: list[tuple[str, Side, Side]] = [
        ("hits", sample, sample),
        ("hits", Rate.of([10, 20]), Rate.of([30])),
        ("hits", Size(60.0), Size(59.0)),
        ("sweep", Tally(50, 8, 1000), Tally(50, 8, 100)),
    ]
    figures: list[Finding] = [
        Figure(f"{section} {number}", 1.0, 1.5, measured, floor, 1, {"mb": {"10 keys": 1}}, section)
        for number, (section, measured, floor) in enumerate(sides)
    ]
    name = "memory hit / a handler that does nothing, by the wall clock over loopback"
    figures.append(Figure(name, 2.0, None, sample, sample, 3, {}, "paths"))
    figures.append(Figure("cold start as a whole / that handler's", 1.0, None, sample, sample, 3, {}, "cold"))
    return [*figures, Amount("AWS calls, miss", 9, "calls", 8, 1, {"kms": 1}, "calls")]


def test_the_page_shows_every_figure_and_which_bars_do_not_hold() -> None:
    document = {"measured_at": "2026-11-22T12:00:00+00:00", "machine": machine()}
    text = page.render(document, findings())
    assert all(finding.name in text for finding in findings())
    assert "| AWS calls, miss | 9 calls | 8 | **no** |" in text
    assert "| hits 0 | 1.00 | 1.5 | yes |" in text


def test_the_page_shows_the_effect_of_memory_if_it_was_measured() -> None:
    assert memory_choice.section(findings()) == ""
    sample = Sample.of([0.001])
    hits = [Figure(f"{name} x", 1.0, None, sample, sample, 1, {}, "hits") for _, name, _ in memory_choice.PATHS]
    text = memory_choice.section([*findings(), *hits])
    # 1 ms of a whole vCPU. Half a vCPU takes twice as long, at half the price per millisecond.
    assert "| 1769 | 1.00 | 1.0, 0.03 | 11.0, 0.32 |" in text
    assert "| 256 | 0.14 | 6.9, 0.03 |" in text


def test_the_handwritten_part_of_the_page_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(page, "CHART", tmp_path / "chart.svg")
    document = {
        "measured_at": "2026-11-22T12:00:00+00:00",
        "machine": machine(),
        "figures": [{**finding.document()} for finding in findings()],
    }
    page.write_page(document)
    assert page.PAGE.read_text(encoding="utf-8").endswith(f"{page.MARK}\n")
    page.PAGE.write_text(f"old\n{page.MARK}\nnotes\n", encoding="utf-8")
    page.write_page(document)
    text = page.PAGE.read_text(encoding="utf-8")
    assert text.startswith("# How fast it is")
    assert text.endswith(f"{page.MARK}\nnotes\n")


def test_the_page_has_every_section() -> None:
    assert list(page.SECTIONS) == list(SECTIONS)


def test_the_chart_shows_the_paths_and_is_the_same_each_time(tmp_path: Path) -> None:
    assert [label for label, _, _ in by_path(findings())] == ["memory hit", "cold start"]
    first, second = tmp_path / "first.svg", tmp_path / "second.svg"
    draw(findings(), first)
    draw(findings(), second)
    assert first.read_bytes() == second.read_bytes()
    assert "memory hit" in first.read_text(encoding="utf-8")
