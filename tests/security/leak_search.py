"""Searches texts for secrets in every form in which they could be written."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus

# Shorter texts can be in a log by chance. Tests of leaks do not use such secrets.
SHORTEST: Final = 12


@lru_cache(maxsize=256)
def forms(secret: str) -> frozenset[bytes]:
    """The forms of a secret: plain, quoted for URL, form, JSON or repr, in hex, in base64 at any offset.

    The last finds Basic authentication too, where the secret follows a name.
    """
    found: set[bytes] = set()
    for charset in ("utf-8", "iso-8859-1"):
        raw = secret.encode(charset, "ignore")
        quoted = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
        twice = {quote(text, safe=safe) for text in quoted for safe in ("", "/")}
        found |= {raw.hex().encode()} | {text.encode() for text in twice | {text.lower() for text in quoted | twice}}
        # RFC 6749 section 2.3.1: quoted, then encoded.
        for plain in (raw, *(text.encode() for text in quoted)):
            found.add(plain)
            for offset in range(3):
                # The first and last characters of base64 depend on the bytes beside the secret.
                encoded = base64.b64encode(b"\0" * offset + plain)[(0, 2, 3)[offset] : -4]
                found |= {encoded, encoded.replace(b"+", b"-").replace(b"/", b"_")}
    for text in (json.dumps(secret)[1:-1], repr(secret)[1:-1], json.dumps(json.dumps(secret))[3:-3]):
        found.add(text.encode())
    assert min(map(len, found)) >= 8
    return frozenset(found)


def leaks(secrets: Iterable[str], places: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Each leaked secret (its first characters) and the place where it was found."""
    return sorted(
        (secret[:6], place)
        for secret in secrets
        for place, content in places.items()
        if any(form in content for form in forms(secret))
    )
