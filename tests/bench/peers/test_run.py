"""Runs every real peer with few calls: each returns tokens and is counted (`pytest -m peers`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.stack import Options, Stack
from tests.bench.peers.measuring import Course, measure
from tests.bench.peers.peers import PEERS
from tests.bench.peers.result import FAILURES

COURSE = Course(callers=8, processes=2, asks=2, patience_s=5.0, latency_s=0.05, hits=20, hits_over_http=5)


@pytest.mark.peers
def test_each_peer_is_called_and_counted(tmp_path: Path) -> None:
    with Stack(Options(api_environments=2, ticks=False, log_dir=tmp_path)) as stack:
        rows = {row.name: row for row in measure(stack, PEERS, COURSE, lambda _: None)}
    assert list(rows) == [peer.name for peer in PEERS]
    for peer in PEERS:
        row = rows[peer.name]
        assert [row.one_process.asks, row.processes.asks] == [8, 8]
        assert min(row.one_process.token_requests, row.processes.token_requests) >= 1
        assert [row.failures[name].failed for name in FAILURES] == [row.failures[name].asks for name in FAILURES]
        assert (row.hit is not None) == peer.returns_token
        assert row.hit is None or row.hit.token_requests == 1
        if peer.distribution is None:
            assert [row.one_process.token_requests, row.processes.token_requests] == [1, 1]
            assert row.one_process.failed == row.processes.failed == 0
