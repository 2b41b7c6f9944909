"""The package as a service gets it: installed by pip, without the broker, and fast to import."""

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "layers" / "client"
# Modules that a service imports anyway. Each further one costs start-up time, and callers wait for it.
NEW_MODULES = """
import sys
import boto3, requests
before = set(sys.modules)
from token_broker_client import BrokerAuth, TokenBroker
print(*sorted(name for name in set(sys.modules) - before if not name.startswith("token_broker_client")))
"""
WITHOUT_OPTIONAL_PACKAGES = """
import sys
for name in ("requests", "httpx", "anyio", "token_broker"):
    sys.modules[name] = None
import token_broker_client, token_broker_client.testing
with token_broker_client.testing.FakeBroker() as broker:
    token_broker_client.BrokerAuth("unidy", "eu-main").token()
print(len(broker.asked))
"""


def python(*arguments: str, path: Path = PACKAGE) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env={"PYTHONPATH": str(path)}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_imports_only_what_boto3_and_requests_import() -> None:
    assert python("-c", NEW_MODULES) == ""


def test_it_needs_neither_requests_nor_httpx_nor_the_broker() -> None:
    assert python("-c", WITHOUT_OPTIONAL_PACKAGES) == "1"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that pip installed it into, without an index."""
    target = tmp_path_factory.mktemp("installed")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--no-compile"]
    before = sorted(path.name for path in PACKAGE.iterdir())
    python("-m", "pip", "install", "--quiet", *offline, "--target", str(target), str(PACKAGE))
    assert sorted(path.name for path in PACKAGE.iterdir()) == before, "pip leaves no file beside the sources"
    return target


def test_pip_installs_every_module_and_the_types(installed: Path) -> None:
    sources = {path.name for path in (PACKAGE / "token_broker_client").iterdir() if path.name != "__pycache__"}
    assert {path.name for path in (installed / "token_broker_client").iterdir()} == sources
    assert "py.typed" in sources
    assert python("-c", WITHOUT_OPTIONAL_PACKAGES, path=installed) == "1"


def test_it_sends_its_version_to_the_broker(installed: Path) -> None:
    code = "import importlib.metadata as m, token_broker_client.endpoint as e; print(m.version('token-broker-client'))"
    version = python("-c", code + "; print(e.USER_AGENT)", path=installed).split()
    assert version[1] == f"token-broker-client/{version[0]}"


def test_it_names_its_extras(installed: Path) -> None:
    code = "import importlib.metadata as m; print(*m.metadata('token-broker-client').get_all('Provides-Extra'))"
    assert set(python("-c", code, path=installed).split()) == {"httpx", "requests"}
