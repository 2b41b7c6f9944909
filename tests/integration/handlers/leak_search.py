"""Looks for secrets in everything that a function leaves behind, in each form in which one could stand there."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

# The AWS of the tests runs in this process and is no part of what is tested.
NOT_OURS = ("moto", "werkzeug", "responses", "samtranslator")


class Lines(logging.Handler):
    """All log records, whatever their level, with every field and the text of every exception."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []
        self._formatter = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith(NOT_OURS):
            return
        parts = [record.getMessage(), repr(vars(record))]
        if record.exc_info:
            parts.append(self._formatter.formatException(record.exc_info))
        self.lines.append(" ".join(parts))


def forms(secret: str) -> set[bytes]:
    """The texts that give a secret away: plain, quoted for URL, form, JSON or repr, in hex, in base64 at any offset."""
    found: set[bytes] = set()
    for charset in ("utf-8", "iso-8859-1"):
        raw = secret.encode(charset, "ignore")
        quoted = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
        quoted |= {quote(text, safe="") for text in quoted}
        found |= {raw, raw.hex().encode()} | {text.encode() for text in quoted | {text.lower() for text in quoted}}
        for offset in range(3):
            # The first and last characters of base64 depend on what stands beside the secret.
            encoded = base64.b64encode(b"\0" * offset + raw)
            found.add(encoded[(0, 2, 3)[offset] : len(encoded) - 4])
            found.add(found_url := encoded.replace(b"+", b"-").replace(b"/", b"_")[(0, 2, 3)[offset] : -4])
            assert len(found_url) >= 8
    for text in (json.dumps(secret)[1:-1], repr(secret)[1:-1], json.dumps(json.dumps(secret))[3:-3]):
        found.add(text.encode())
    return found


def leaks(secrets: Iterable[str], places: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Which secret (its first characters) stands in which place."""
    return [
        (secret[:6], place)
        for secret in secrets
        for form in forms(secret)
        for place, content in places.items()
        if form in content
    ]


def bytes_of(value: Any) -> Iterator[bytes]:
    """All that a DynamoDB attribute or a JSON document holds, names too, with binary values as they are."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield str(name).encode()
            yield from bytes_of(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from bytes_of(item)
    elif isinstance(value, bytes | bytearray):
        yield bytes(value)
    else:
        yield str(value).encode()


def redirected(handler: logging.Handler) -> io.StringIO:
    """What a stream handler writes from now on."""
    assert isinstance(handler, logging.StreamHandler)
    stream = io.StringIO()
    handler.setStream(stream)
    return stream
