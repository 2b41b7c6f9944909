"""Random responses of providers as bytes, valid and nearly so, and a server on loopback that sends them."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from hypothesis import strategies as st

from token_broker.adapters.provider_http import ProviderHttp
from token_broker.core.connections import NetworkOptions
from token_broker.oauth.exchange import HttpRequest, HttpResponse

TOKEN = "fake-canary-token-of-the-provider"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@dataclass(frozen=True, slots=True)
class WireResponse:
    """What a server sends before it closes. `endless`: sent after that for as long as somebody reads.

    `usual`: nothing about it is odd, so it must give a token.
    """

    sent: bytes
    endless: bytes = b""
    usual: bool = False


def rarely(odd: st.SearchStrategy[Any], usual: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Any]:
    """Mostly the usual value (default: None). So what has one odd value is usually valid otherwise."""
    return st.integers(0, 3).flatmap(lambda drawn: odd if drawn == 3 else usual if usual is not None else st.none())


USUAL_FIELDS = {
    "access_token": TOKEN,
    "accessToken": TOKEN,
    "status": "SUCCESS",
    "token_type": "Bearer",
    "expires_in": 3600,
}
FIELDS = st.sampled_from(
    "access_token accessToken refresh_token expires_in expires expiresIn expires_at refresh_in token_type scope status"
    " error errors data".split()
)
VALUES = JSON | st.sampled_from(
    [
        *(TOKEN, "SUCCESS", "FAILED", "bearer", "BearerToken", "mac", "N_A", "invalid_client", "invalid_scope", "a,b"),
        *(0, -1, 1.5, 1e308, 10**40, 1795869462, 1795869462000, "0", "3599", "3599.5", " 60 ", "1e308", "٣"),
        *("2026-11-28T13:00:00Z", "2026-11-28T13:00:00+25:00", "x" * 20_000, "line\nbreak", "\ud800"),
        *("a.b.c", "e30.eyJleHAiOjF9.x", "e30.eyJleHAiOjFlMzA5fQ.x", "e30.eyJleHAiOiIxIn0.x"),
    ]
)
DOCUMENTS = st.dictionaries(FIELDS | st.text(max_size=6), VALUES | st.just(...), max_size=4).map(
    lambda changes: {name: value for name, value in {**USUAL_FIELDS, **changes}.items() if value is not ...}
)


def form_encoded(document: Any) -> bytes:
    return urlencode({name: str(value) for name, value in dict(document).items()}, errors="replace").encode()


BODIES = st.one_of(
    DOCUMENTS.map(lambda document: json.dumps(document).encode()),
    DOCUMENTS.map(form_encoded),
    st.tuples(DOCUMENTS, st.sampled_from(["utf-8-sig", "utf-16", "utf-32", "latin-1"])).map(
        lambda drawn: json.dumps(drawn[0], ensure_ascii=False).encode(drawn[1], errors="replace")
    ),
    DOCUMENTS.map(lambda document: json.dumps({"data": document}).encode()),
    DOCUMENTS.map(lambda document: json.dumps([document]).encode()),
    st.tuples(DOCUMENTS, st.integers(0, 80)).map(lambda drawn: json.dumps(drawn[0]).encode()[: drawn[1]]),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"<html><body>Bad gateway</body></html>",
            b"access_token=a&access_token=b&expires_in=60",
            b"&&=&%zz=%zz&access_token",
            b'{"access_token":"a","access_token":"b"}',
            b'{"access_token":' + b"[" * 20_000,
            b'{"access_token":"a","expires_in":' + b"9" * 5000 + b"}",
            b"x" * 70_000,
        ]
    ),
)
DATES = st.sampled_from(
    ["Sun, 22 Nov 2026 12:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 +2400", "soon", ""]
)
LINES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["Date", "Expires", "Last-Modified"]), DATES),
        st.tuples(
            st.just("Content-Type"),
            st.sampled_from(
                [
                    "application/json",
                    "application/x-www-form-urlencoded",
                    "text/plain; charset=utf-16",
                    "text/html",
                    ";",
                ]
            ),
        ),
        st.tuples(
            st.sampled_from(["Retry-After", "retry-after-ms", "Age"]),
            st.sampled_from(["30", "2.0", "299.997", "-1", "9" * 5000, "nan", "٣", ""]) | DATES,
        ),
        st.tuples(
            st.just("Location"),
            st.sampled_from(["https://shop.example/callback?code=a%2Bb+c", "https://[::1", "//x?code=1", ""]),
        ),
        st.tuples(st.sampled_from(["Set-Cookie", "X"]), st.text(max_size=20) | st.just("v" * 20_000)),
    ).map(lambda drawn: f"{drawn[0]}: {drawn[1]}".encode("latin-1", "replace")),
    max_size=4,
)
ODD_LINES = st.sampled_from(
    [
        *(b"no colon", b": no name", b" folded", b"Name : space", b"X: \x00", b"X: \xff\xfe", b"X: \r Y: 1"),
        *(b"Content-Encoding: br", b"Content-Encoding: gzip", b"Transfer-Encoding: chunked", b"Connection: keep-alive"),
        *(b"X: " + b"v" * 70_000, b"X: v\r\n" * 120 + b"X: v", b"X: v\r\n" * 300 + b"X: v"),
    ]
)
STATUSES = st.sampled_from([200, 201, 204, 302, 307, 400, 401, 403, 404, 408, 425, 429, 500, 503]) | st.integers(0, 999)
VERSIONS = st.sampled_from([b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2", b"ICY", b""])
INTERIM = st.lists(
    st.sampled_from(
        [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 102\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]
    ),
    max_size=3,
).map(b"".join)
FRAMINGS = st.sampled_from(
    ["close", "chunked", "both", "cut chunk", "wrong chunk", "short", "long", "two lengths", "negative", "words"]
)


def chunked(body: bytes, size: int) -> bytes:
    """A body in chunks (RFC 9112 section 7.1), with an extension and a trailer."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in parts)
    return chunks + b"0\r\nX-Trailer: 1\r\n\r\n"


def framed(body: bytes, framing: str, size: int) -> tuple[list[bytes], bytes]:
    """The headers that say where the body ends, and what is sent of it."""
    if framing.endswith(("chunked", "chunk")):
        whole = chunked(body, size)
        sent = {"chunked": whole, "cut chunk": whole[: len(whole) // 2], "wrong chunk": b"zz\r\n" + whole}[framing]
        return [b"Transfer-Encoding: chunked"], sent
    length = b"Content-Length: %d" % len(body)
    if framing == "both":
        return [length, b"Transfer-Encoding: chunked"], chunked(body, size)
    headers = {
        "right": [length],
        "close": [],
        "short": [b"Content-Length: %d" % (len(body) + 10)],
        "long": [b"Content-Length: %d" % (len(body) // 2)],
        "two lengths": [length, b"Content-Length: %d" % (len(body) + 1)],
        "negative": [b"Content-Length: -1"],
        "words": [b"Content-Length: many"],
    }
    return headers[framing], body


@st.composite
def wire_responses(draw: st.DrawFn) -> WireResponse:
    """A response that is usual in most of its parts."""
    usual_body = json.dumps(USUAL_FIELDS).encode()
    body = draw(rarely(BODIES, st.just(usual_body)))
    compressed = draw(rarely(st.sampled_from(["gzip", "deflate"])))
    if compressed:
        compressor = zlib.compressobj(wbits=31 if compressed == "gzip" else 15)
        body = compressor.compress(body) + compressor.flush()
    framing = draw(rarely(FRAMINGS, st.just("right")))
    lengths, sent = framed(body, framing, draw(st.integers(1, 200)))
    interim = draw(rarely(INTERIM, st.just(b"")))
    status = draw(rarely(STATUSES, st.just(200)))
    version = draw(rarely(VERSIONS, st.just(b"HTTP/1.1")))
    lines = draw(rarely(LINES, st.just([b"Content-Type: application/json"])))
    odd = draw(rarely(ODD_LINES))
    head = [b"%s %d" % (version, status), *lines, *lengths]
    if compressed:
        head.append(b"Content-Encoding: " + compressed.encode())
    if odd:
        head.append(odd)
    end = draw(rarely(st.sampled_from([b"\n"]), st.just(b"\r\n")))
    response = interim + end.join([*head, b"", b""]) + sent
    is_usual = body == usual_body and framing in ("right", "close", "chunked") and odd is None
    return WireResponse(response, usual=is_usual and (status, version) == (200, b"HTTP/1.1") and len(lines) <= 1)


ENDLESS = {
    "interim responses": WireResponse(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100),
    "headers": WireResponse(b"HTTP/1.1 200 OK\r\n", b"X: v\r\n" * 100),
    "one header": WireResponse(b"HTTP/1.1 200 OK\r\nX: ", b"v" * 8192),
    "body": WireResponse(b"HTTP/1.1 200 OK\r\n\r\n", b"{" * 8192),
    "chunks": WireResponse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n" * 1000),
    "chunk extension": WireResponse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"v" * 8192),
    "status line": WireResponse(b"HTTP/1.1 200 ", b"OK" * 4096),
}


class WireServer:
    """Sends the response of the moment to whoever connects, once it has read the request."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._response = WireResponse(b"")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def send(self, wire: WireResponse, request: HttpRequest, timeout: timedelta) -> HttpResponse:
        """The response to a request as the broker's own sender reads it. The request goes to this server."""
        self._response = wire
        # The redirect's address or the path that the provider has is of no use here.
        local = replace(request, url=self.url)
        return ProviderHttp(loopback=True)(local, NetworkOptions(), timeout)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                self._read_request(connection)
                connection.sendall(self._response.sent)
                while self._response.endless:
                    connection.sendall(self._response.endless)

    def _read_request(self, connection: socket.socket) -> None:
        """A request that is not read makes the connection a reset instead of an end."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65_536) or b"\r\n\r\n"
        head, _, body = received.partition(b"\r\n\r\n")
        lines = [line.lower() for line in head.split(b"\r\n")]
        length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
        while len(body) < length:
            body += connection.recv(65_536) or bytes(length)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(15)


@contextmanager
def wire_server() -> Iterator[WireServer]:
    with contextlib.closing(WireServer()) as server:
        yield server
