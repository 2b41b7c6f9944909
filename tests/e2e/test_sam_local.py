"""`sam local` finds the built code, and its container gets the variables for the local stack."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.process import ROOT
from local.sam_local import BUILT, HOST, write
from local.stack import Stack
from tests.e2e.emulator import VENV

pytestmark = pytest.mark.e2e
FUNCTION = "GetTokenFunction"


def test_a_container_would_get_the_built_code_and_the_local_stacks_variables(stack: Stack, tmp_path: Path) -> None:
    assert write(stack, BUILT, tmp_path)
    script = ROOT / "tests" / "e2e" / "sam_environment.py"
    files = [str(tmp_path / "template.yaml"), str(tmp_path / "env.json")]
    aws = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": "eu-west-1"}
    done = subprocess.run(
        [VENV / "sam" / "bin" / "python", script, *files, FUNCTION],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env={**aws, "PATH": os.environ["PATH"], "HOME": str(tmp_path), "SAM_CLI_TELEMETRY": "0"},
    )
    given = json.loads(done.stdout)
    assert (Path(given["code"]) / "get_token" / "app.py").exists()
    assert all(Path(layer).is_dir() for layer in given["layers"])
    assert given["variables"].items() >= stack.resources.environments[FUNCTION].items()
    endpoint = urlsplit(given["variables"]["AWS_ENDPOINT_URL"])
    assert (endpoint.hostname, endpoint.port) == (HOST, urlsplit(stack.endpoint_url).port)
