"""`token-broker agent` as a process, against the local stack and a simulated provider."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from local.process import ROOT
from token_broker_cli.agent.command import UnixConnection
from token_broker_cli.problems import Exit

from .conftest import Cli
from .terminal import PYTHONPATH

CURL = shutil.which("curl")


class AgentProcess:
    """A running agent. `log` is complete once it has ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.log = ""
        self._process = process

    def wait_until_it_listens(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log += line
            if "listening on" in line:
                return
        pytest.fail(f"the agent ended: {self.log}")

    def stop(self) -> int:
        """Ends it by SIGTERM. Returns the exit code."""
        self._process.send_signal(signal.SIGTERM)
        _, rest = self._process.communicate(timeout=60)
        self.log += rest
        return self._process.returncode


@contextmanager
def running_agent(cli: Cli, *options: str) -> Iterator[AgentProcess]:
    process = subprocess.Popen(
        [sys.executable, "-m", "token_broker_cli", "agent", *options, *cli.options],
        cwd=ROOT,
        env={"PYTHONPATH": ":".join(map(str, PYTHONPATH))},
        stderr=subprocess.PIPE,
        text=True,
    )
    agent = AgentProcess(process)
    try:
        agent.wait_until_it_listens()
        yield agent
    finally:
        if process.poll() is None:
            agent.stop()


@pytest.mark.skipif(CURL is None, reason="needs curl")
def test_a_shell_script_survives_a_revoked_token(cli: Cli, tmp_path: Path) -> None:
    """The script of docs/agent.md."""
    name, path = cli.connect(), tmp_path / "agent.sock"
    simulator = cli.running.providers.simulator("unidy")
    script = ROOT / "cli" / "agent" / "call-api.sh"
    resource = f"{cli.running.providers_url}/unidy/api/resource"

    def call() -> str:
        done = subprocess.run(
            ["/bin/sh", str(script), f"unidy/{name}", resource],
            env={"PATH": "/usr/bin:/bin", "TOKEN_BROKER_SOCKET": str(path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["token_id"])

    with running_agent(cli, "--allow", f"unidy/{name}", "--socket", str(path)) as agent:
        first = call()
        assert call() == first
        simulator.revoke_tokens()
        assert call() != first
        assert cli.plain("agent", "--check", "--socket", str(path)).code == Exit.DONE
        assert agent.stop() == 0
    assert not path.exists()
    assert first not in agent.log
    assert "Bearer" not in agent.log
    assert cli.plain("agent", "--check", "--socket", str(path)).code == Exit.UNREACHABLE


def test_on_a_port_it_needs_the_password_of_the_file(cli: Cli, tmp_path: Path) -> None:
    name, password = cli.connect(), tmp_path / "password"
    with running_agent(cli, "--allow", f"unidy/{name}", "--port", "0", "--password-file", str(password)) as agent:
        port = agent.log.partition("http://127.0.0.1:")[2].partition(" ")[0]
        check = ["agent", "--check", "--port", port, "--password-file"]
        assert cli.plain(*check, str(password)).code == Exit.DONE
        wrong = cli.plain(*check, str(tmp_path / "other"))
        assert wrong.code == Exit.UNREACHABLE
        assert "403" in wrong.err
    assert password.read_text(encoding="ascii").strip() not in agent.log


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("--allow unidy/eu", "Where does the agent listen?"),
        ("--allow unidy/eu --port 1", "need a password"),
        ("--socket /nowhere/s", "Which connections"),
        ("--socket /nowhere/s --allow unidy/eu --allow-any", "Which connections"),
        ("--socket /nowhere/s --allow unidy", "unidy is no connection"),
        ("--socket /nowhere/s --allow unidy/*", "unidy/* is no connection"),
        ("--socket /nowhere/s --allow unidy/eu", "cannot use /nowhere/s"),
    ],
)
def test_options_that_do_not_work_are_an_error_before_it_listens(cli: Cli, options: str, what: str) -> None:
    result = cli("agent", *options.split())
    assert result.code == Exit.USAGE
    assert what in result.err


def test_a_program_can_reach_it_over_its_socket(cli: Cli, tmp_path: Path) -> None:
    name, path = cli.connect("unicommerce"), tmp_path / "agent.sock"
    with running_agent(cli, "--allow-any", "--socket", str(path)), closing(UnixConnection(path)) as connection:
        connection.request("GET", f"/v1/headers/unicommerce/{name}")
        assert connection.getresponse().read().startswith(b"apiKey: ")
