"""Looks for secrets in what was written, in each form in which one could stand there."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus

# Below this a text stands in any log by chance: tests do not use such secrets where a leak is looked for.
SHORTEST: Final = 12


@lru_cache(maxsize=256)
def forms(secret: str) -> frozenset[bytes]:
    """The texts that give a secret away: plain, quoted for URL, form, JSON or repr, in hex, in base64 at any offset.

    The last stands for Basic authentication too, where the secret follows a name.
    """
    found: set[bytes] = set()
    for charset in ("utf-8", "iso-8859-1"):
        raw = secret.encode(charset, "ignore")
        quoted = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
        twice = {quote(text, safe=safe) for text in quoted for safe in ("", "/")}
        found |= {raw.hex().encode()} | {text.encode() for text in twice | {text.lower() for text in quoted | twice}}
        # RFC 6749 section 2.3.1 quotes before it encodes.
        for plain in (raw, *(text.encode() for text in quoted)):
            found.add(plain)
            for offset in range(3):
                # The first and last characters of base64 depend on what stands beside the secret.
                encoded = base64.b64encode(b"\0" * offset + plain)[(0, 2, 3)[offset] : -4]
                found |= {encoded, encoded.replace(b"+", b"-").replace(b"/", b"_")}
    for text in (json.dumps(secret)[1:-1], repr(secret)[1:-1], json.dumps(json.dumps(secret))[3:-3]):
        found.add(text.encode())
    assert min(map(len, found)) >= 8
    return frozenset(found)


def leaks(secrets: Iterable[str], places: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Which secret (its first characters) stands in which place."""
    return sorted(
        (secret[:6], place)
        for secret in secrets
        for place, content in places.items()
        if any(form in content for form in forms(secret))
    )
