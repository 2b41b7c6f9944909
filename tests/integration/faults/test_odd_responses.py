"""Unusual responses that hold a good token, tokens that live one second, and the same token twice."""

from __future__ import annotations

import contextlib
import socket
import threading
from datetime import timedelta

import pytest

from tests.integration.faults.odd_table import ACCEPTED, OddResponse
from tests.integration.faults.stage import Stage, moment
from tests.integration.handlers.world import PROVIDERS

ENDLESS = 64 * 1024 * 1024


@pytest.mark.parametrize("slug", PROVIDERS)
@pytest.mark.parametrize("odd", ACCEPTED, ids=lambda odd: odd.text)
def test_an_unusual_response_gives_a_good_token(stage: Stage, odd: OddResponse, slug: str) -> None:
    stage.simulator(slug).configure(**odd.options)
    odd.fault(stage, slug)
    name = stage.connect(slug)
    response = stage.token(name)
    assert response.status == 200, response
    assert moment(response.body["expires_at"]) == stage.clock() + timedelta(seconds=odd.lifetimes_s[slug])
    assert response.body["expires_in"] == odd.lifetimes_s[slug]
    assert response.body["expires_assumed"] is (slug in odd.assumed)
    assert response.body["warnings"] == odd.expected_warnings(slug)
    # The next caller, at another instance, gets the same token without a request to the provider.
    again = stage.token(name)
    assert (again.body["token_id"], again.body["warnings"]) == (response.body["token_id"], response.body["warnings"])
    assert stage.requests(slug).token == 1
    assert stage.state(name).body["state"] == "ok"


class Endless:
    """A server whose redirect has an endless body. `sent`: how many bytes it could send."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: https://elsewhere.example/\r\n\r\n")
            while self.sent < ENDLESS:
                connection.sendall(b"x" * 65_536)
                self.sent += 65_536

    def close(self) -> None:
        self._thread.join(5)
        self._listener.close()


def test_the_body_of_a_redirect_has_the_same_size_limit(stage: Stage) -> None:
    """64 KiB, plus what the sockets buffer. Without a limit the server could send far more in time."""
    with contextlib.closing(Endless()) as server:
        response = stage.token(stage.connect("unidy", base_url=server.url))
    assert (response.status, response.code) in {(503, "provider_unavailable"), (502, "provider_invalid_response")}
    assert server.sent < ENDLESS // 2
