"""Makes tokens in the form of a JWT (RFC 7519), for readers of `exp`. Nobody can verify their signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping

_KEY = secrets.token_bytes(64)


def jwt(claims: Mapping[str, object]) -> str:
    """`header.payload.signature` over `claims`, with a `jti` of its own, so that no two are equal."""
    header = {"alg": "HS512", "typ": "JWT"}
    payload = {**claims, "jti": secrets.token_hex(8)}
    signed = f"{_part(header)}.{_part(payload)}"
    return f"{signed}.{_base64url(hmac.new(_KEY, signed.encode(), hashlib.sha512).digest())}"


def _part(document: Mapping[str, object]) -> str:
    return _base64url(json.dumps(document, separators=(",", ":")).encode())


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
