"""The command line as pip installs it from a checkout, with the client and the broker's code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.process import ROOT

PACKAGES = (ROOT / "layers" / "broker", ROOT / "layers" / "client", ROOT / "cli")
OFFLINE = ("--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--no-compile")
SHOW_FILES = """
import token_broker, token_broker_cli, token_broker_client
print(token_broker.__file__, token_broker_cli.__file__, token_broker_client.__file__)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that pip installed the packages into, without an index."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *OFFLINE, "--target", str(target)]
    before = [sorted(path.name for path in package.iterdir()) for package in PACKAGES]
    done = subprocess.run([*pip, *map(str, PACKAGES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [sorted(path.name for path in package.iterdir()) for package in PACKAGES] == before, "no file is left"
    return target


def run(installed: Path, *command: str) -> str:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(installed)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=installed, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_runs(installed: Path) -> None:
    assert run(installed, str(installed / "bin" / "token-broker"), "--help").startswith("usage: token-broker COMMAND")


def test_the_modules_are_the_installed_ones(installed: Path) -> None:
    assert all(file.startswith(str(installed)) for file in run(installed, sys.executable, "-c", SHOW_FILES).split())


def test_the_console_has_its_templates_and_its_style(installed: Path) -> None:
    console = installed / "token_broker_cli" / "console"
    source = ROOT / "cli" / "token_broker_cli" / "console"
    for folder in ("templates", "static"):
        assert {path.name for path in (console / folder).iterdir()} == {
            path.name for path in (source / folder).iterdir()
        }


def test_the_broker_package_has_the_catalogue(installed: Path) -> None:
    shipped = {path.name for path in (ROOT / "layers" / "broker" / "token_broker" / "catalogue").glob("*.toml")}
    catalogue = installed / "token_broker" / "catalogue"
    assert {path.name for path in catalogue.glob("*.toml")} == shipped
    file = catalogue / "unidy.toml"
    script = str(installed / "bin" / "token-broker")
    assert "unidy.toml is valid" in run(installed, script, "providers", "check", str(file))
