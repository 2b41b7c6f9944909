"""Every request gets a documented response: status, content type, headers, every field. Nothing leaks."""

from __future__ import annotations

import os
import secrets
from contextlib import closing
from pathlib import Path

import pytest

from local.client import SignedClient
from local.stack import Options, Stack
from tests.openapi.conformance import Schema, closed
from tests.openapi.fuzzing import Ground
from tests.security.leak_hunt import hunting

SOAK = bool(os.environ.get("SOAK"))
# Requests of the whole run, and the examples per operation that give at least as many.
REQUESTS, EXAMPLES = (5_000, 900) if SOAK else (500, 60)
SEED = secrets.randbelow(2**32) if SOAK else 20261122


@pytest.mark.soak
def test_no_request_gets_an_undocumented_response(tmp_path: Path, checked_in: Schema) -> None:
    options = Options(api_environments=2, worker_environments=1, verify_signatures=False, log_dir=tmp_path)
    with hunting() as hunt, Stack(options) as stack:
        with closing(SignedClient(stack.url)) as client:
            ground = Ground(stack, client)
        result = ground.fuzz(closed(checked_in), examples=EXAMPLES, seed=SEED, settings_whole=SOAK)
        hunt.note("responses", "\n".join(result.bodies))
    assert not result.faults, "\n\n".join([f"seed {SEED}", *result.faults])
    assert result.requests >= REQUESTS
    # Some requests were valid, and every kind of response came back.
    assert {200, 400, 403, 404, 409, 412, 429, 502, 503} <= set(result.statuses)
    assert hunt.found() == []
