"""`token-broker agent` as a process, against the local stack and a simulated provider."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from local.process import ROOT
from token_broker_cli.agent.command import UnixConnection
from token_broker_cli.agent.listeners import made_password
from token_broker_cli.problems import Exit

from .conftest import Cli
from .terminal import PYTHONPATH

FILES = ROOT / "cli" / "agent"
CURL, JAVA, GO = (shutil.which(program) for program in ("curl", "javac", "go"))


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

    @property
    def port(self) -> str:
        return self.log.partition("http://127.0.0.1:")[2].partition(" ")[0]

    def stop(self) -> int:
        """Ends it by SIGTERM. Returns the exit code."""
        self._process.send_signal(signal.SIGTERM)
        _, rest = self._process.communicate(timeout=60)
        self.log += rest
        return self._process.returncode


@contextmanager
def running_agent(cli: Cli, *options: str, **variables: str) -> Iterator[AgentProcess]:
    process = subprocess.Popen(
        [sys.executable, "-m", "token_broker_cli", "agent", *options, *cli.options],
        cwd=ROOT,
        env={"PYTHONPATH": ":".join(map(str, PYTHONPATH)), **variables},
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


def call_repeatedly(cli: Cli, call: Callable[[], str]) -> None:
    """A program gets a token's response, the same again, and after a revocation one with another token."""
    first = call()
    assert call() == first
    cli.running.providers.simulator("unidy").revoke_tokens()
    assert call() != first


def output_of(*command: str, **variables: str) -> str:
    environment = {"PATH": "/usr/bin:/bin", **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(CURL is None, reason="needs curl")
def test_a_shell_script_survives_a_revoked_token(cli: Cli, tmp_path: Path) -> None:
    """The script of docs/agent.md."""
    name, path = cli.connect(), tmp_path / "agent.sock"
    resource = f"{cli.running.providers_url}/unidy/api/resource"

    def call() -> str:
        return output_of(
            "/bin/sh", str(FILES / "call-api.sh"), f"unidy/{name}", resource, TOKEN_BROKER_SOCKET=str(path)
        )

    with running_agent(cli, "--allow", f"unidy/{name}", "--socket", str(path)) as agent:
        call_repeatedly(cli, call)
        assert cli.plain("agent", "--check", "--socket", str(path)).code == Exit.DONE
        assert agent.stop() == 0
    assert not path.exists()
    assert "Bearer" not in agent.log
    assert len(agent.log.splitlines()) == 2, "its start and its end"
    assert cli.plain("agent", "--check", "--socket", str(path)).code == Exit.UNREACHABLE


@pytest.mark.skipif(JAVA is None, reason="needs java 17 or newer")
def test_a_java_program_survives_a_revoked_token(cli: Cli, tmp_path: Path) -> None:
    name, password = cli.connect(), tmp_path / "password"
    resource = f"{cli.running.providers_url}/unidy/api/resource"
    output_of("javac", "-Xlint:all", "-Werror", "-d", str(tmp_path), str(FILES / "examples" / "Users.java"))
    with running_agent(cli, "--allow", f"unidy/{name}", "--port", "0", "--password-file", str(password)) as agent:
        program = ["java", "-cp", str(tmp_path), "Users", agent.port, str(password), f"unidy/{name}", resource]
        call_repeatedly(cli, lambda: output_of(*program))


@pytest.mark.skipif(GO is None, reason="needs go")
def test_a_go_program_survives_a_revoked_token(cli: Cli, tmp_path: Path) -> None:
    name, path, program = cli.connect(), tmp_path / "agent.sock", tmp_path / "users"
    resource = f"{cli.running.providers_url}/unidy/api/resource"
    source = str(FILES / "examples" / "users.go")
    output_of(str(GO), "build", "-o", str(program), source, HOME=str(tmp_path), GOFLAGS="-mod=mod")
    with running_agent(cli, "--allow", f"unidy/{name}", "--socket", str(path)):
        call_repeatedly(cli, lambda: output_of(str(program), str(path), f"unidy/{name}", resource))


def test_on_a_port_it_needs_the_password_of_the_file(cli: Cli, tmp_path: Path) -> None:
    name, password = cli.connect(), tmp_path / "password"
    other = tmp_path / "another"
    made_password(other)
    with running_agent(cli, "--allow", f"unidy/{name}", "--port", "0", "--password-file", str(password)) as agent:
        check = ["agent", "--check", "--port", agent.port, "--password-file"]
        assert cli.plain(*check, str(password)).code == Exit.DONE
        missing = cli.plain(*check, str(tmp_path / "other"))
        assert "No such file" in missing.err
        wrong = cli.plain(*check, str(other))
        assert wrong.code == Exit.UNREACHABLE
        assert "403" in wrong.err
    assert password.read_text(encoding="ascii").strip() not in agent.log


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("--allow unidy/eu", "Neither --socket nor --port was given."),
        ("--allow unidy/eu --port 1", "need a password"),
        ("--socket /nowhere/s", "Give either"),
        ("--socket /nowhere/s --allow unidy/eu --allow-any", "Give either"),
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


def test_it_tells_systemd_when_it_listens(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify.sock"))
        systemd.settimeout(10)
        options = ["--allow-any", "--socket", str(path)]
        with running_agent(cli, *options, NOTIFY_SOCKET=str(tmp_path / "notify.sock")):
            assert systemd.recv(100) == b"READY=1"
