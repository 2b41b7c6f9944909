"""The module for Node.js: its own tests, botocore's signatures, and a service against the local stack."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.aws import REGION
from local.client import SignedClient
from local.connections import DEMO_PROVIDERS, aws_client
from local.process import ROOT
from local.providers import DEFAULT_ACCOUNTS, default_settings
from local.sigv4 import LOCAL, SERVICE
from local.stack import Options, Stack
from tests.docs.markdown import page

HERE = Path(__file__).parent
PACKAGE = ROOT / "layers" / "client_node"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs node 20 or newer on PATH")
MAIN = """
import { handler } from "./app.mjs";
console.log(JSON.stringify(await handler()));
"""
HOST = "https://abc.execute-api.eu-west-1.amazonaws.com"
URLS = (
    f"{HOST}/api/v1/tokens/unidy/eu-main",
    f"{HOST}/api/v1/tokens/unidy/eu-main?min_ttl=60&rejected=0123456789abcdef&scope=users%3Aread%20api%3A%2F%2Fx%2F.default",
    f"{HOST}/api/v1/tokens/unidy/a%2F..%2Fb%3Fc",
    f"{HOST}/v1/tokens/unidy/%21%27%28%29%2A~",
    f"{HOST}/v1/tokens/unidy/x?scope=%21%27%28%29%2A~%2B%26%3D&a=2&a=1&B=",
    "http://127.0.0.1:3000/v1/tokens/unidy/demo",
    "http://127.0.0.1:3000/v1/tokens/unidy/demo?scope=%C3%A9%E2%82%AC",
)


def node(*arguments: str, **variables: str) -> str:
    """What node prints. Fails with all of its output."""
    assert NODE is not None
    environment = {"PATH": os.environ["PATH"], **variables}
    done = subprocess.run([NODE, *arguments], capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def vector(url: str, session_token: str | None) -> dict[str, Any]:
    """The headers that botocore signs a request with, now."""
    request = AWSRequest("GET", url, headers={"Host": urlsplit(url).netloc})
    SigV4Auth(Credentials("AKIDEXAMPLE", "invented/secret", session_token), SERVICE, REGION).add_auth(request)
    timestamp = request.headers["X-Amz-Date"]
    now = datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    signed = {"x-amz-date": timestamp, "Authorization": request.headers["Authorization"]}
    if session_token:
        signed["x-amz-security-token"] = session_token
    credentials = {"accessKeyId": "AKIDEXAMPLE", "secretAccessKey": "invented/secret", "sessionToken": session_token}
    return {"url": url, "credentials": credentials, "region": REGION, "now": now.isoformat(), "headers": signed}


def test_its_own_tests_pass(tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.json"
    made = [vector(url, session_token) for url in URLS for session_token in (None, "invented/session+token==")]
    vectors.write_text(json.dumps(made), encoding="utf-8")
    tests = str(HERE / "token_broker.test.mjs")
    printed = node("--test", "--test-reporter=tap", tests, VECTORS=str(vectors))
    assert re.search(r"^# fail 0$", printed, re.MULTILINE)
    assert re.search(r"^# skipped 0$", printed, re.MULTILINE)
    assert int(re.findall(r"^# pass (\d+)$", printed, re.MULTILINE)[0]) > 30


def test_its_version_is_the_packages() -> None:
    package = json.loads((PACKAGE / "package.json").read_text(encoding="utf-8"))
    text = (PACKAGE / "token-broker.mjs").read_text(encoding="utf-8")
    assert f'"token-broker-client-node/{package["version"]}"' in text
    assert "dependencies" not in package


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    logs = tmp_path_factory.mktemp("logs")
    with Stack(Options(api_environments=2, worker_environments=1, ticks=False, log_dir=logs)) as stack:
        yield stack


def connect(stack: Stack, provider: str) -> str:
    """Makes a connection. Returns its name."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    aws_client("secretsmanager", stack.endpoint_url).create_secret(
        Name=f"{stack.resources.secret_prefix}/{provider}/{name}",
        SecretString=json.dumps(DEFAULT_ACCOUNTS[provider]["secret"]),
    )
    settings = {**default_settings(provider, stack.providers_url), "allowed_callers": [LOCAL.arn]}
    with closing(SignedClient(stack.url)) as platform:
        assert platform.call("PUT", f"/v1/connections/{provider}/{name}", body=settings).status == 201
    return name


def service_environment(url: str) -> Mapping[str, str]:
    return {
        "TOKEN_BROKER_URL": url,
        "AWS_ACCESS_KEY_ID": LOCAL.access_key,
        "AWS_SECRET_ACCESS_KEY": LOCAL.secret_key,
        "AWS_REGION": REGION,
    }


@pytest.mark.parametrize("provider", DEMO_PROVIDERS)
def test_a_service_does_not_notice_that_the_provider_revoked_its_token(stack: Stack, provider: str) -> None:
    name = connect(stack, provider)
    simulator = stack.providers.simulator(provider)
    before = simulator.report()["issued"]
    requests: list[str] = []
    stack.front.log_requests(requests.append)
    resource, control = f"{stack.providers_url}/{provider}/api/resource", f"{stack.providers_url}/_control/{provider}"
    printed = node(str(HERE / "service.mjs"), provider, name, resource, control, **service_environment(f"{stack.url}/"))
    result = json.loads(printed)
    assert (result["before"], result["after"]) == ([200] * 20, [200] * 20)
    assert result["first"]["tokenId"] != result["second"]["tokenId"]
    assert simulator.report()["issued"] - before == 2
    assert len([line for line in requests if f"/v1/tokens/{provider}/{name} 200" in line]) == 2
    assert result["error"] == {"code": "unknown_connection", "status": 404}
    assert not {"accessToken", "headers"} & result["first"].keys()


def test_the_sample_of_a_service_runs(stack: Stack, tmp_path: Path) -> None:
    (block,) = page("docs/service-developers.md").blocks("javascript")
    (tmp_path / "app.mjs").write_text(block.text, encoding="utf-8")
    shutil.copy(PACKAGE / "token-broker.mjs", tmp_path)
    (tmp_path / "main.mjs").write_text(MAIN, encoding="utf-8")
    printed = json.loads(node(str(tmp_path / "main.mjs"), **service_environment(stack.url)))
    assert (printed["provider"], printed["account"]) == ("unidy", "demo")
