"""Reads one HTTP/1.1 response (RFC 9112) from a provider, limited in size. The connection is closed after it."""

from __future__ import annotations

import re
import zlib
from typing import Protocol

from token_broker.oauth.exchange import MAX_BODY_BYTES, HttpResponse, OutcomeUnknown, UnreadableResponse

MAX_HEADERS = 256
MAX_HEAD_BYTES = 64 * 1024
MAX_CHUNK_LINE = 1024
_STATUS_LINE = re.compile(r"HTTP/1\.[0-9] +([1-5][0-9][0-9])(?: .*)?")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
# zlib's window bits: gzip, and zlib's own format.
_GZIP = 31
_ZLIB = 15


class Stream(Protocol):
    """A buffered reader of bytes."""

    def readline(self, size: int, /) -> bytes: ...
    def read(self, size: int, /) -> bytes: ...


def read_response(stream: Stream) -> HttpResponse:
    """The final response; interim ones (RFC 9110 section 15.2) are skipped.

    Raises OutcomeUnknown if the response is cut off or its body too long, UnreadableResponse if it is not HTTP/1.1 or
    has more than 256 headers or 64 KiB of status lines and headers.
    """
    head = _Head(stream)
    status, headers = head.read()
    while status in range(100, 200) and status != 101:
        status, headers = head.read()
    body = b"" if status in (101, 204, 304) else _decoded(_body(stream, headers), headers)
    return HttpResponse(status, headers, body)


class _Head:
    """Status line and headers, up to `MAX_HEAD_BYTES` for all heads of an exchange."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._left = MAX_HEAD_BYTES

    def read(self) -> tuple[int, dict[str, str]]:
        """Status, and headers by lower-case name. Repeated ones are joined with a comma (RFC 9110 section 5.3).

        A line that is not a header is skipped. A folded line (RFC 9112 section 5.2) continues the one before.
        """
        status_line = _STATUS_LINE.fullmatch(self._line())
        if status_line is None:
            raise UnreadableResponse("the response is not HTTP/1.1")
        fields: list[tuple[str, str]] = []
        while line := self._line():
            name, colon, value = line.partition(":")
            if line[0] in " \t":
                if fields:
                    fields[-1] = (fields[-1][0], f"{fields[-1][1]} {line.strip()}".strip())
            elif colon:
                fields.append((name.strip().lower(), value.strip(" \t")))
            if len(fields) > MAX_HEADERS:
                raise UnreadableResponse("the response has too many headers")
        headers: dict[str, str] = {}
        for name, value in fields:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return int(status_line[1]), headers

    def _line(self) -> str:
        """One line without its end. A bare LF ends it too (RFC 9112 section 2.2)."""
        line = self._stream.readline(self._left + 1)
        self._left -= len(line)
        if self._left < 0:
            raise UnreadableResponse("the headers of the response are too long")
        if not line.endswith(b"\n"):
            raise OutcomeUnknown("the response is cut off")
        return line.rstrip(b"\r\n").decode("iso-8859-1")


def _body(stream: Stream, headers: dict[str, str]) -> bytes:
    """The body as it was sent (RFC 9112 section 6.3): in chunks, of a given length, or up to the end."""
    encoding = headers.get("transfer-encoding", "").lower()
    if encoding == "chunked":
        return _chunked(stream)
    if encoding not in ("", "identity"):
        raise UnreadableResponse("the transfer encoding is not known")
    lengths = {length.strip() for length in headers.get("content-length", "").split(",")}
    if lengths == {""}:
        return _until_the_end(stream)
    length = lengths.pop()
    if lengths or not re.fullmatch("[0-9]{1,18}", length):
        raise UnreadableResponse("the length of the body is not a number")
    return _exactly(stream, int(length), 0)


def _chunked(stream: Stream) -> bytes:
    """Chunks (RFC 9112 section 7.1). What follows the last one does not matter here."""
    body = b""
    while True:
        line = stream.readline(MAX_CHUNK_LINE)
        size = line.partition(b";")[0].strip()
        if len(line) < MAX_CHUNK_LINE and not line.endswith(b"\n"):
            raise OutcomeUnknown("the body is cut off")
        if not _CHUNK_SIZE.fullmatch(size):
            raise UnreadableResponse("the size of a chunk is not a number")
        length = int(size, 16)
        if length == 0:
            return body
        body += _exactly(stream, length, len(body))
        stream.readline(MAX_CHUNK_LINE)


def _exactly(stream: Stream, length: int, already: int) -> bytes:
    if already + length > MAX_BODY_BYTES:
        raise OutcomeUnknown("the body is too long")
    part = stream.read(length)
    if len(part) < length:
        raise OutcomeUnknown("the body is cut off")
    return part


def _until_the_end(stream: Stream) -> bytes:
    body = stream.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise OutcomeUnknown("the body is too long")
    return body


def _decoded(body: bytes, headers: dict[str, str]) -> bytes:
    """The body without gzip or deflate. The broker asks for neither, but some servers always compress."""
    encoding = headers.get("content-encoding", "").lower()
    if not body or encoding not in ("gzip", "x-gzip", "deflate"):
        return body
    # Servers send deflate with and without zlib's header (RFC 9110 section 8.4.1.2).
    for window in (_ZLIB, -_ZLIB) if encoding == "deflate" else (_GZIP,):
        try:
            plain = zlib.decompressobj(window).decompress(body, MAX_BODY_BYTES + 1)
        except zlib.error:
            continue
        if len(plain) > MAX_BODY_BYTES:
            raise OutcomeUnknown("the body is too long")
        return plain
    raise UnreadableResponse("the body is not compressed as its header says")
