"""Valid and nearly valid token responses, over loopback: each gives a token or one of the failure rules, never more."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from local.ports import listen
from tests.unit.grant_requests import NOW, grant_for
from token_broker.adapters.provider_http import ProviderHttp
from token_broker.core.connections import NetworkOptions
from token_broker.oauth.exchange import HttpRequest, HttpResponse
from token_broker.oauth.grants import GrantFailed, token_flow
from token_broker.oauth.outcomes import RULES
from token_broker.service.provider_client import run_flow

SECONDS: st.SearchStrategy[Any] = st.one_of(
    st.integers(-5, 10**13),
    st.floats(),
    st.booleans(),
    st.sampled_from(["3600", "3600.5", "1e3", "soon", "", None, []]),
)
NAMES = st.sampled_from(
    ["access_token", "token_type", "scope", "error", "errors", "refresh_token", "expires_in", "status"]
)
TEXTS = st.one_of(
    st.sampled_from(["Bearer", "bearer", "mac", "a b", "invalid_client", "a,b", "t\u00e4", "\ud800"]), st.text()
)
VALUES = st.recursive(
    st.one_of(TEXTS, SECONDS), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)
DOCUMENTS = st.builds(
    lambda token, more: {"access_token": token, "token_type": "Bearer", **more},
    st.one_of(st.just("fake-token"), VALUES),
    st.dictionaries(NAMES, VALUES, max_size=4) | st.fixed_dictionaries({"expires_in": SECONDS}),
)
STATUSES = st.sampled_from([200, 200, 200, 201, 204, 101, 302, 400, 401, 403, 404, 408, 429, 500, 503])


def encoded(draw: st.DrawFn) -> tuple[str, bytes]:
    """A document as content type and body."""
    document: Any = draw(DOCUMENTS)
    if draw(st.integers(0, 3)) == 0:
        return "application/x-www-form-urlencoded", urlencode(document, errors="replace").encode()
    if draw(st.integers(0, 3)) == 0:
        document = [document]
    charset = draw(st.sampled_from(["utf-8", "utf-8-sig", "iso-8859-1", "utf-16"]))
    text = json.dumps(document, ensure_ascii=draw(st.booleans()))
    return f"application/json; charset={charset}", text.encode(charset, "replace")


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """A whole response as it is sent: interim responses, headers, compressed or not, in one of three framings."""
    content_type, body = encoded(draw)
    lines = [f"HTTP/1.1 {draw(STATUSES)} Reason", f"Content-Type: {content_type}"]
    lines += [f"X-{number}: v" for number in range(draw(st.sampled_from([0, 0, 1, 120, 240, 260])))]
    lines += draw(
        st.lists(st.sampled_from(["Retry-After: 7", "Retry-After: x", f"X: {'v' * 60_000}", "no header"]), max_size=2)
    )
    packing = draw(st.sampled_from(["", "", "gzip", "deflate", "br"]))
    if packing:
        lines.append(f"Content-Encoding: {packing}")
        body = gzip.compress(body) if packing == "gzip" else zlib.compress(body)
    framing = draw(st.sampled_from(["length", "chunks", "end", "both"]))
    if framing in ("length", "both"):
        lines.append(f"Content-Length: {len(body)}")
    if framing in ("chunks", "both"):
        lines.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * draw(st.integers(0, 3))
    whole = interim + "\r\n".join([*lines, "", ""]).encode() + body
    return whole[: draw(st.integers(0, len(whole)))] if draw(st.integers(0, 9)) == 9 else whole


class ReplayServer:
    """A server that responds to every request with the same bytes, and then hangs up."""

    def __init__(self) -> None:
        self.octets = b""
        self._listener = listen(0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/token"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                try:
                    connection.sendall(self.octets)
                    connection.shutdown(socket.SHUT_WR)
                    # Until the broker hangs up: to close with unread data would reset the connection.
                    connection.recv(1)
                except OSError:
                    continue

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture(scope="module")
def server() -> Iterator[ReplayServer]:
    running = ReplayServer()
    yield running
    running.close()


def outcome(url: str, refresh_token: str | None) -> str:
    """The failure rule of a whole grant over loopback, or `token`."""

    def send(request: HttpRequest, network: NetworkOptions, timeout: timedelta) -> HttpResponse:
        return ProviderHttp(loopback=True)(replace(request, url=url), network, timeout)

    flow = token_flow(grant_for("oauth2", scope="a", refresh_token=refresh_token))
    limit = timedelta(seconds=8)
    try:
        run_flow(flow, NetworkOptions(), send=send, clock=lambda: NOW, exchange_limit=limit, deadline=NOW + limit)
    except GrantFailed as failed:
        return "unsent" if failed.nothing_sent else failed.failure.rule
    return "token"


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(responses(), st.sampled_from([None, "fake-refresh-token"]))
def test_every_response_is_a_token_or_a_failure_rule(
    server: ReplayServer, octets: bytes, refresh_token: str | None
) -> None:
    server.octets = octets
    found = outcome(server.url, refresh_token)
    event(found)
    assert found in {"token", *(rule.name for rule in RULES)}
