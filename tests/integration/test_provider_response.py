"""A provider's response, read from its bytes: what real servers send, and that no bytes break the reader."""

from __future__ import annotations

import gzip
import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from token_broker.adapters.provider_response import MAX_HEAD_BYTES, MAX_HEADERS, read_response
from token_broker.oauth.exchange import MAX_BODY_BYTES, HttpResponse, OutcomeUnknown, UnreadableResponse

BODY = b'{"access_token": "fake"}'
OK = b"HTTP/1.1 200 OK\r\n"
SIZED = f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY


def read(octets: bytes) -> HttpResponse:
    return read_response(io.BytesIO(octets))


def headers(count: int, characters: int = 1) -> bytes:
    return b"".join(f"X-{number}: {'v' * characters}\r\n".encode() for number in range(count))


def chunked(body: bytes, size: int = 7, extension: bytes = b"") -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n\r\n"


def gzipped(body: bytes) -> bytes:
    """gzip without a time, so that the same test has the same name twice."""
    return gzip.compress(body, mtime=0)


def deflated(body: bytes) -> bytes:
    """Deflate without zlib's header, as some servers send it."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


def test_repeated_folded_and_odd_headers_are_read() -> None:
    response = read(
        b"HTTP/1.0 200\nretry-after: 7\r\nX-A: 1\r\nx-a:2\r\nX-Folded: a\r\n  b\r\nno header at all\r\nX-Space : c\r\n"
        b"X-Latin: \xe4\r\nX-Empty:\r\n" + SIZED
    )
    expected = {"retry-after": "7", "x-a": "1, 2", "x-folded": "a b", "x-space": "c", "x-latin": "ä", "x-empty": ""}
    assert {name: response.headers[name] for name in expected} == expected
    assert (response.status, response.body) == (200, BODY)


@pytest.mark.parametrize(
    "octets",
    [
        OK + SIZED,
        OK + SIZED + b"more",
        OK + f"Content-Length: {len(BODY)}\r\n".encode() + SIZED,
        OK + b"\r\n" + BODY,
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY),
        OK + b"Transfer-Encoding: Chunked\r\nContent-Length: 3\r\n\r\n" + chunked(BODY, 100, b" ;name=value"),
        OK + b"Content-Encoding: gzip\r\n\r\n" + gzipped(BODY),
        OK + b"Content-Encoding: deflate\r\n\r\n" + zlib.compress(BODY),
        OK + b"Content-Encoding: deflate\r\n\r\n" + deflated(BODY),
        OK + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(gzipped(BODY)),
        *(b"HTTP/1.1 %d Wait\r\nLink: </x>\r\n\r\n" % status + OK + SIZED for status in (100, 102, 103, 199)),
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20 + OK + SIZED,
        OK + headers(120) + SIZED,
        OK + headers(MAX_HEADERS - 1) + SIZED,
        OK + headers(1, 60_000) + SIZED,
    ],
    ids=lambda octets: str(octets[:60]),
)
def test_what_real_servers_send_is_read(octets: bytes) -> None:
    assert (read(octets).status, read(octets).body) == (200, BODY)


@pytest.mark.parametrize("status", [101, 204, 304])
def test_a_response_without_body_is_complete_after_its_headers(status: int) -> None:
    response = read(b"HTTP/1.1 %d Nothing\r\nContent-Length: 5\r\n\r\n" % status)
    assert (response.status, response.body) == (status, b"")


@pytest.mark.parametrize(
    "octets",
    [
        OK + headers(MAX_HEADERS) + SIZED,
        OK + headers(1, 70_000) + SIZED,
        OK + headers(200, 400) + SIZED,
        b"HTTP/1.1 200 " + b"x" * MAX_HEAD_BYTES,
        b"HTTP/1.1 102 Processing\r\n\r\n" * 4000 + OK + SIZED,
        *(
            line + b"\r\n" + SIZED
            for line in (b"", b"{}", b"HTTP/2 200", b"HTTP/1.1 2000", b"HTTP/1.1 OK", b"ICY 200 OK")
        ),
        *(OK + b"Content-Length: " + value + b"\r\n\r\n{}" for value in (b"-1", b"2, 3", b"two", b"\xb2", b"9" * 19)),
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked(gzipped(BODY)),
        *(OK + b"Transfer-Encoding: chunked\r\n\r\n" + line + b"\r\n" for line in (b"", b"-1", b"0x1", b"1" * 2000)),
        OK + b"Content-Encoding: gzip\r\n\r\n" + BODY,
    ],
    ids=lambda octets: str(octets[:60]),
)
def test_what_is_not_http_or_has_too_many_headers_is_unreadable(octets: bytes) -> None:
    with pytest.raises(UnreadableResponse):
        read(octets)


@pytest.mark.parametrize(
    "octets",
    [
        *(OK[:length] for length in (0, 1, len(OK) - 2, len(OK))),
        OK + b"Content-Length: 2\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        OK + b"Content-Length: 3\r\n\r\n{}",
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY)[:-6],
        OK + b"Transfer-Encoding: chunked\r\n\r\n2",
        OK + b"Content-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),
        OK + b"\r\n" + b"x" * (MAX_BODY_BYTES + 1),
        OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"x" * (MAX_BODY_BYTES + 1), 8192),
        OK + b"Content-Encoding: gzip\r\n\r\n" + gzipped(b"x" * (MAX_BODY_BYTES + 1)),
    ],
    ids=lambda octets: str(octets[:60]),
)
def test_a_response_that_is_cut_off_or_too_long_has_no_known_outcome(octets: bytes) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        read(octets)
    assert not isinstance(caught.value, UnreadableResponse)


LINES = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [
                *(b"HTTP/1.1 200 OK", b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 204 No Content", b"", b" folded", b":"),
                *(b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"5", b"hello", b"0"),
            ]
        ),
    ),
    max_size=12,
)


@given(LINES, st.sampled_from([b"\r\n", b"\n", b"\r"]), st.booleans())
def test_no_bytes_break_the_reader(lines: list[bytes], end: bytes, starts_well: bool) -> None:
    octets = (OK if starts_well else b"") + end.join(lines)
    try:
        response = read(octets)
    except OutcomeUnknown:
        return
    assert 101 <= response.status <= 599
    assert len(response.body) <= MAX_BODY_BYTES
    assert all(name == name.lower() for name in response.headers)


@given(st.binary(max_size=300), st.integers(1, 50), st.integers(0, 3), st.integers(0, 200), st.booleans())
def test_every_framing_gives_the_same_body(body: bytes, size: int, interim: int, extra: int, packed: bool) -> None:
    sent = gzipped(body) if packed else body
    start = b"HTTP/1.1 102 Processing\r\n\r\n" * interim + OK + headers(extra)
    start += b"Content-Encoding: gzip\r\n" if packed else b""
    framings = [
        b"Content-Length: %d\r\n\r\n" % len(sent) + sent,
        b"Transfer-Encoding: chunked\r\n\r\n" + chunked(sent, size),
        b"\r\n" + sent,
    ]
    assert [read(start + framing).body for framing in framings] == [body] * 3
