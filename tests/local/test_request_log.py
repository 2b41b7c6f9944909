"""`make run` prints one line per request. The line holds nothing that could be a secret."""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import requests

from local.client import SignedClient
from local.front import Front, Gateway, Route
from local.ports import listen
from local.sigv4 import LOCAL, SignatureVerifier

PATH = "/v1/tokens/unidy/demo"


class Function:
    """Returns a token."""

    def invoke(self, _event: Any) -> Any:
        return {"statusCode": 200, "body": '{"access_token": "hush-hush"}'}


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def front(lines: list[str]) -> Iterator[Front]:
    routes = [Route("GET", "/v1/tokens/{provider}/{connection}", Function())]
    verifier = SignatureVerifier()
    gateway = Gateway(routes, verifier=verifier, gateway_responses={}, stage="api", unsigned_caller=LOCAL)
    with closing(Front(listen(0), gateway)) as front:
        front.log_requests(lines.append)
        yield front


def test_a_line_has_method_path_status_and_milliseconds(front: Front, lines: list[str]) -> None:
    with closing(SignedClient(front.url)) as client:
        client.call("GET", PATH)
    assert len(lines) == 1
    assert re.fullmatch(rf"GET {PATH} 200 \d+ ms", lines[0])


@pytest.mark.parametrize(
    "send",
    [
        lambda url: requests.get(url + PATH, params={"rejected": "hush-hush"}, timeout=5),
        lambda url: requests.get(url + PATH, params={"X-Amz-Signature": "hush-hush"}, timeout=5),
        lambda url: requests.get(url + PATH, headers={"Authorization": "Bearer hush-hush"}, timeout=5),
        lambda url: requests.post(url + PATH, data="hush-hush", timeout=5),
    ],
    ids=["query", "signature", "header", "body"],
)
def test_a_line_has_no_query_header_or_body(front: Front, lines: list[str], send: Callable[[str], Any]) -> None:
    assert send(front.url).status_code == 403
    assert len(lines) == 1
    assert PATH in lines[0]
    assert "hush-hush" not in lines[0]
    assert "?" not in lines[0]


@pytest.mark.parametrize("request_line", [b"\x1b[31mnonsense", b"GET / HTTP/9", b"GET " + b"/" * 70_000])
def test_an_unreadable_request_has_a_line_without_its_text(front: Front, lines: list[str], request_line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(front.url.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(request_line + b"\r\n\r\n")
        assert connection.recv(100)
    assert len(lines) == 1
    assert lines[0].startswith("unreadable request ")
    assert lines[0].isprintable()


def test_control_characters_of_a_path_are_escaped_and_long_paths_cut(front: Front, lines: list[str]) -> None:
    with socket.create_connection(("127.0.0.1", int(front.url.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(b"GET /\x1b[31m" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(100)
    assert len(lines) == 1
    assert lines[0].isprintable()
    assert len(lines[0]) < 300
