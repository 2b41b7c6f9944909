"""These get nothing: a web page, what a proxy forwards, a program without the password, a connection not allowed."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from token_broker_cli.agent.door import PASSWORD_HEADER
from token_broker_cli.agent.listeners import listen_on_port, listen_on_socket, made_password, password_in
from token_broker_cli.problems import Problem

from .conftest import HEADERS, PASSWORD, TOKENS, Agent

ROUTES = [
    ("GET", TOKENS),
    ("GET", HEADERS),
    ("POST", f"{TOKENS}/rejected"),
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("OPTIONS", TOKENS),
    ("GET", "/"),
]
FOREIGN = {
    "Origin": "https://evil.example",
    "Referer": "https://evil.example/",
    "Sec-Fetch-Site": "same-origin",
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Host": "localhost",
    "Forwarded": "for=192.0.2.1",
    "Via": "1.1 proxy",
    "origin": "null",
}
HOSTS = ["evil.example", "localhost.evil.example", "localhost:1", "127.0.0.1:99999", "169.254.169.254", ""]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(("name", "value"), FOREIGN.items())
def test_what_only_a_browser_or_a_proxy_sends_is_refused(
    agent: Agent, method: str, path: str, name: str, value: str
) -> None:
    reply = agent.ask(method, path, headers={name: value})
    assert (reply.status, reply.json["code"]) == (403, "not_local")
    assert agent.broker.asked == []


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("host", HOSTS)
def test_a_foreign_host_is_refused(agent: Agent, method: str, path: str, host: str) -> None:
    with closing(agent.plain_socket()) as plain:
        password = f"{PASSWORD_HEADER}: {PASSWORD}\r\n"
        plain.sendall(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{password}Connection: close\r\n\r\n".encode())
        received = received_from(plain)
    assert received.startswith("HTTP/1.1 403 ")
    assert '"not_local"' in received
    assert agent.broker.asked == []


@pytest.mark.parametrize(
    "head",
    [
        "GET {path} HTTP/1.1\r\n",
        "GET {path} HTTP/1.0\r\n",
        "GET {path}\r\n",
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n",
        "GET http://{host}{path} HTTP/1.1\r\nHost: evil.example\r\n",
    ],
    ids=["no host", "HTTP/1.0", "HTTP/0.9", "two hosts", "another host than in the target"],
)
def test_one_host_must_be_named(agent: Agent, head: str) -> None:
    host = "localhost" if agent.port is None else f"localhost:{agent.port}"
    with closing(agent.plain_socket()) as plain:
        text = head.format(path=TOKENS, host=host)
        plain.sendall(f"{text}{PASSWORD_HEADER}: {PASSWORD}\r\nConnection: close\r\n\r\n".encode())
        received = received_from(plain)
    assert "not_local" in received
    assert agent.broker.asked == []


def test_an_absolute_target_is_no_route(agent: Agent) -> None:
    host = "localhost" if agent.port is None else f"localhost:{agent.port}"
    assert agent.ask("GET", f"http://{host}{TOKENS}", headers={"Host": host}).json["code"] == "unknown_route"
    assert agent.broker.asked == []


@pytest.fixture
def on_a_port() -> Iterator[Agent]:
    with closing(Agent(None)) as agent:
        yield agent


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("sent", [None, "", "wrong", PASSWORD[:-1], f"{PASSWORD}p", "p\xe9"])
def test_on_a_port_a_program_without_the_password_gets_nothing(
    on_a_port: Agent, method: str, path: str, sent: str | None
) -> None:
    reply = on_a_port.ask(method, path, headers={PASSWORD_HEADER: sent})
    assert (reply.status, reply.json["code"]) == (403, "wrong_password")
    assert on_a_port.broker.asked == []
    assert PASSWORD not in reply.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/tokens/unidy/us-main"),
        ("GET", "/v1/headers/unidy/us-main?scope=x"),
        ("POST", "/v1/tokens/unicommerce/eu-main/rejected"),
    ],
)
def test_a_connection_that_is_not_allowed_gives_nothing(agent: Agent, method: str, path: str) -> None:
    reply = agent.ask(method, path, body='{"token": "t"}')
    assert (reply.status, reply.json["code"]) == (403, "connection_not_allowed")
    assert agent.broker.asked == []


@pytest.mark.parametrize("name", ["unidy/eu-main/", "unidy/EU-main", "unidy/eu%2dmain", "unidy/../eu-main", "unidy//x"])
def test_a_path_names_a_connection_in_one_way(agent: Agent, name: str) -> None:
    assert agent.ask("GET", f"/v1/tokens/{name}").status == 404
    assert agent.broker.asked == []


def test_with_allow_any_every_connection_is_served(tmp_path: Path) -> None:
    with closing(Agent(tmp_path / "agent.sock", any_connection=True)) as agent:
        assert agent.ask("GET", "/v1/tokens/oauth2/any").json["connection"] == "any"
        assert agent.ask("GET", "/v1/tokens/OAUTH2/any").status == 404


def test_only_this_user_can_open_the_socket(tmp_path: Path) -> None:
    with closing(listen_on_socket(tmp_path / "agent.sock")):
        mode = (tmp_path / "agent.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_the_port_is_open_on_this_machine_only() -> None:
    with closing(listen_on_port(0)) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_a_socket_that_nobody_listens_on_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    listen_on_socket(path).close()
    with closing(listen_on_socket(path)), pytest.raises(Problem, match="Another process listens"):
        listen_on_socket(path)


def test_a_file_is_never_replaced_by_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("content", encoding="utf-8")
    with pytest.raises(Problem, match="is not a socket"):
        listen_on_socket(path)
    assert path.read_text(encoding="utf-8") == "content"


def test_a_password_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "password"
    password = made_password(path)
    assert len(password) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert made_password(path) == password_in(path) == password
    assert made_password(tmp_path / "other") != password


@pytest.mark.parametrize(
    ("content", "mode"),
    [("p" * 40, 0o640), ("p" * 40, 0o604), ("", 0o600), ("short", 0o600), (f"{'p' * 40} p", 0o600), ("é" * 40, 0o600)],
)
def test_a_file_that_others_can_read_or_that_holds_no_password_is_refused(
    tmp_path: Path, content: str, mode: int
) -> None:
    path = tmp_path / "password"
    path.write_text(content, encoding="utf-8")
    path.chmod(mode)
    with pytest.raises(Problem) as raised:
        made_password(path)
    assert content == "" or content not in f"{raised.value} {raised.value.todo}"


def test_a_place_that_cannot_be_used_is_a_problem_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="No such file or directory"):
        listen_on_socket(tmp_path / "missing" / "agent.sock")
    with pytest.raises(Problem, match="too long"):
        listen_on_socket(tmp_path / ("x" * 200))
    with pytest.raises(Problem, match="No such file or directory"):
        made_password(tmp_path / "missing" / "password")
    with pytest.raises(Problem, match="No such file or directory"):
        password_in(tmp_path / "missing")
    with closing(listen_on_port(0)) as listener, pytest.raises(Problem, match="in use"):
        listen_on_port(listener.getsockname()[1])


def received_from(plain: socket.socket) -> str:
    received = b""
    while block := plain.recv(65536):
        received += block
    return received.decode()
