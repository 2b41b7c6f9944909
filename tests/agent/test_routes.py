"""What a program gets from the agent."""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from token_broker_cli.agent.door import PASSWORD_HEADER
from token_broker_client.errors import ClientNotConfigured

from .conftest import HEADERS, PASSWORD, TOKENS, Agent, ask

NODE = shutil.which("node")

FIRST = "fake-unidy-eu-main-1"
SECOND = "fake-unidy-eu-main-2"


def token_id(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def test_a_token_is_the_brokers_json_with_the_seconds_that_are_left(agent: Agent) -> None:
    expected = agent.broker._respond("/v1/tokens/unidy/eu-main", {}, timeout_s=1)
    assert agent.ask("GET", TOKENS).json == expected | {
        "source": "memory",
        "expires_at": "2026-01-01T01:00:00Z",
        "renew_at": "2026-01-01T00:45:00Z",
    }
    agent.broker.advance(100)
    assert agent.ask("GET", TOKENS).json["expires_in"] == 3500


def test_headers_are_lines_for_curl(agent: Agent) -> None:
    assert agent.ask("GET", HEADERS).text == f"Authorization: Bearer {FIRST}\n"
    assert agent.ask("GET", "/v1/headers/unicommerce/main").text == "apiKey: fake-unicommerce-main-1\n"


def test_scope_and_min_ttl_reach_the_broker(agent: Agent) -> None:
    agent.ask("GET", f"{TOKENS}?scope=users%3Aread%20users%3Awrite&min_ttl=120")
    (asked,) = agent.broker.asked
    assert (asked.scope, asked.min_ttl, asked.rejected) == ("users:read users:write", 120, None)


@pytest.mark.parametrize(
    "query",
    [
        "scope=",
        "scope=a&scope=b",
        "min_ttl=",
        "min_ttl=-1",
        "min_ttl=3601",
        "min_ttl=1.5",
        "min_ttl=%D9%A1",
        "rejected=0123456789abcdef",
        "unknown=1",
        f"scope={'x' * 1001}",
    ],
)
def test_a_query_that_is_not_well_formed_is_an_error(agent: Agent, query: str) -> None:
    reply = agent.ask("GET", f"{TOKENS}?{query}")
    assert (reply.status, reply.json["code"]) == (400, "invalid_request")
    assert agent.broker.asked == []


def test_requests_for_one_token_make_one_request_to_the_broker(agent: Agent) -> None:
    start = threading.Barrier(20)

    def program() -> str:
        start.wait(10)
        return str(agent.ask("GET", TOKENS).json["token_id"])

    with ThreadPoolExecutor(20) as threads:
        ids = {future.result(20) for future in [threads.submit(program) for _ in range(20)]}
    assert ids == {token_id(FIRST)}
    assert len(agent.broker.asked) == 1


@pytest.mark.parametrize("report", [{"token": FIRST}, {"token_id": token_id(FIRST)}], ids=["token", "token_id"])
def test_a_rejected_token_is_reported_once_and_replaced(agent: Agent, report: dict[str, str]) -> None:
    agent.ask("GET", TOKENS)
    body = str(report).replace("'", '"')
    replies = [agent.ask("POST", f"{TOKENS}/rejected", body) for _ in range(3)]
    assert [reply.json["access_token"] for reply in replies] == [SECOND] * 3
    assert agent.broker.reported == [token_id(FIRST)]
    assert agent.ask("GET", HEADERS).text == f"Authorization: Bearer {SECOND}\n"


def test_if_there_is_no_other_token_the_program_is_told(agent: Agent) -> None:
    agent.ask("GET", TOKENS)
    agent.broker.fail("too_many_rejections", retry_after=60)
    reply = agent.ask("POST", f"{TOKENS}/rejected", f'{{"token": "{FIRST}"}}')
    assert (reply.status, reply.json["code"]) == (409, "no_other_token")
    assert agent.ask("GET", TOKENS).json["access_token"] == FIRST


@pytest.mark.parametrize(
    "body",
    [
        "",
        "token",
        "[]",
        "{}",
        '{"token": ""}',
        '{"token": 1}',
        '{"token_id": "x"}',
        '{"token_id": "0123456789ABCDEF"}',
        '{"token": "t", "token_id": "0123456789abcdef"}',
        "[" * 100_000,
    ],
)
def test_a_report_that_is_not_well_formed_is_an_error(agent: Agent, body: str) -> None:
    reply = agent.ask("POST", f"{TOKENS}/rejected", body)
    assert (reply.status, reply.json["code"]) == (400, "invalid_request")
    assert agent.broker.asked == []


@pytest.mark.parametrize(
    ("code", "status", "retry_after"),
    [
        ("caller_not_allowed", 403, None),
        ("unknown_connection", 404, None),
        ("connection_suspended", 409, None),
        ("provider_refused", 502, None),
        ("provider_rate_limited", 503, 60),
    ],
)
def test_the_brokers_problem_document_is_passed_on(
    agent: Agent, code: str, status: int, retry_after: float | None
) -> None:
    agent.broker.fail(code, retry_after=retry_after)
    reply = agent.ask("GET", TOKENS)
    assert (reply.status, reply.json["code"], reply.json["status"]) == (status, code, status)
    assert reply.json["detail"] == "set by the test"
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.headers["Retry-After"] == (None if retry_after is None else "60")


def test_a_broker_that_does_not_respond_is_a_503(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    agent.broker.fail("unreachable", times=1000)
    for _ in range(3):
        reply = agent.ask("GET", TOKENS)
        assert (reply.status, reply.json["code"]) == (503, "broker_unreachable")
        assert reply.headers["Retry-After"] == "5"
    assert [record.getMessage() for record in caplog.records] == [
        "no token: no response from the broker: set by the test"
    ]


def test_why_the_agent_cannot_sign_is_in_its_log_alone(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    agent.broker._planned.append(ClientNotConfigured("no AWS credentials to sign with"))
    reply = agent.ask("GET", TOKENS)
    assert (reply.status, reply.json["code"]) == (500, "agent_not_configured")
    assert "to sign with" not in reply.text
    assert "no AWS credentials to sign with" in caplog.text


@pytest.mark.skipif(NODE is None, reason="needs node 20 or newer")
def test_fetch_of_node_is_no_browser() -> None:
    code = """
    const [url, password, body] = process.argv.slice(1);
    const response = await fetch(url, { method: "POST", headers: { "X-Agent-Password": password }, body });
    console.log(response.status, await response.text());
    """
    with closing(Agent(None)) as agent:
        agent.ask("GET", TOKENS)
        url = f"http://127.0.0.1:{agent.port}{TOKENS}/rejected"
        command = [str(NODE), "--input-type=module", "-e", code, url, PASSWORD, f'{{"token": "{FIRST}"}}']
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("200 "), done


def test_while_the_broker_fails_a_kept_token_is_served(agent: Agent) -> None:
    agent.ask("GET", TOKENS)
    agent.broker.fail("unreachable", times=1000)
    agent.broker.advance(3000)
    assert agent.ask("GET", TOKENS).json["access_token"] == FIRST


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"headers": {"X-Key": "a\r\nHost: evil.example"}}, "broker_invalid_response"),
        ({"expires_in": "soon"}, "broker_invalid_response"),
    ],
)
def test_a_response_that_is_not_a_token_is_a_502(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], code: str
) -> None:
    body = agent.broker._respond("/v1/tokens/unidy/eu-main", {}, timeout_s=1) | wrong
    monkeypatch.setattr(agent.source, "_get", lambda *_, **__: body)
    reply = agent.ask("GET", HEADERS)
    assert (reply.status, reply.json["code"]) == (502, code)
    assert FIRST not in reply.text


def test_a_bug_is_a_500_without_details(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(FIRST)

    monkeypatch.setattr(agent.source, "obtain", fail)
    reply = agent.ask("GET", TOKENS)
    assert (reply.status, reply.json["code"]) == (500, "internal_error")
    assert FIRST not in reply.text + caplog.text
    assert "RuntimeError" in caplog.text


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("DELETE", TOKENS), ("POST", TOKENS), ("GET", f"{TOKENS}/rejected")]
)
def test_another_route_is_a_404(agent: Agent, method: str, path: str) -> None:
    reply = agent.ask(method, path)
    assert (reply.status, reply.json["code"]) == (404, "unknown_route")


@pytest.mark.parametrize(
    "head",
    [
        "nonsense\r\n",
        "GET / HTTP/9.9\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 999999999\r\n",
        "GET / HTTP/1.1\r\nContent-Length: x\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 5\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
        "GET / HTTP/1.1\r\n" + "X: y\r\n" * 200,
        f"GET /{'x' * 70_000} HTTP/1.1\r\n",
    ],
)
def test_what_is_no_request_is_a_problem_and_ends_the_connection(agent: Agent, head: str) -> None:
    with closing(agent.plain_socket()) as plain:
        plain.sendall(f"{head}\r\n".encode())
        received = b""
        while block := plain.recv(65536):
            received += block
    assert re.match(rb"HTTP/1\.1 [45]\d\d ", received)
    assert b"application/problem+json" in received
    assert b"xxxxx" not in received


def test_a_connection_serves_many_requests(agent: Agent) -> None:
    headers = {PASSWORD_HEADER: agent.password or ""}
    with closing(agent.connection()) as connection:
        assert [ask(connection, "GET", TOKENS, None, headers).status for _ in range(3)] == [200] * 3


def test_health_needs_no_broker(agent: Agent) -> None:
    agent.broker.fail("unreachable", times=1000)
    reply = agent.ask("GET", "/health")
    assert (reply.status, reply.json["status"]) == (200, "ok")
    assert agent.broker.asked == []


def test_metrics_count_and_name_no_token(agent: Agent) -> None:
    for path in (TOKENS, TOKENS, HEADERS, "/v1/tokens/unidy/other", "/nothing"):
        agent.ask("GET", path)
    agent.broker.fail("caller_not_allowed")
    agent.ask("GET", "/v1/headers/unicommerce/main")
    text = agent.ask("GET", "/metrics").text
    for line in (
        'token_broker_agent_requests_total{route="tokens",status="200"} 2',
        'token_broker_agent_requests_total{route="headers",status="200"} 1',
        'token_broker_agent_requests_total{route="tokens",status="403"} 1',
        'token_broker_agent_requests_total{route="headers",status="403"} 1',
        'token_broker_agent_requests_total{route="other",status="404"} 1',
        'token_broker_agent_broker_requests_total{result="token"} 1',
        'token_broker_agent_broker_requests_total{result="refused"} 1',
        "token_broker_agent_broker_responded_timestamp_seconds 1767225600",
        "token_broker_agent_tokens 1",
    ):
        assert f"{line}\n" in text
    assert "unidy" not in text
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) \w+ .*|\w+(\{(\w+="\w+",?)+\})? [0-9.e+]+', line), line


def test_requests_under_way_are_answered_before_the_agent_stops(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "agent.sock")
    arrived, go = threading.Event(), threading.Event()
    respond = agent.broker._respond

    def held(*arguments: Any, **more: Any) -> Any:
        arrived.set()
        assert go.wait(10)
        return respond(*arguments, **more)

    agent.source._get = held
    with closing(agent.connection()) as idle, ThreadPoolExecutor(2) as threads:
        assert ask(idle, "GET", "/health", None, {}).status == 200
        asking = threads.submit(agent.ask, "GET", TOKENS)
        assert arrived.wait(10)
        stopping = threads.submit(agent.close)
        assert idle.sock.recv(1) == b"", "an idle connection ends at once"
        go.set()
        reply = asking.result(10)
        stopping.result(10)
    assert (reply.status, reply.headers["Connection"]) == (200, "close")
    with socket.socket(socket.AF_UNIX) as late:
        assert late.connect_ex(str(tmp_path / "agent.sock")) == errno.ECONNREFUSED
