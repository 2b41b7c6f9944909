"""Reads a request's client authentication (RFC 6749 section 2.3.1), which vendors do in different ways."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from .wire import Refusal, Request


@dataclass(frozen=True, slots=True)
class Presented:
    """A client's id and secret as received, and by which method. Without a secret `client_secret` is None."""

    method: str
    client_id: str
    client_secret: str | None = field(repr=False)


def presented(
    request: Request, fields: Mapping[str, str], accepted: Sequence[str], *, charset: str = "utf-8"
) -> list[Presented]:
    """The possible readings of the request's client authentication. There can be several only for Basic.

    `accepted` holds client_auth names: basic (percent-encoded), basic-raw, form, json, none. Raises `Refusal`
    if there is no authentication, one that is not accepted, or two at once.
    """
    header = request.header("Authorization")
    in_body = "client_id" in fields or "client_secret" in fields
    if header is not None and in_body:
        raise Refusal("invalid_request", "client credentials in both header and body")
    if header is not None:
        readings = _basic(header, accepted, charset)
    elif in_body:
        readings = _body(request, fields, accepted)
    else:
        readings = []
    if not readings:
        raise Refusal("invalid_client", "no client authentication of a supported kind")
    return readings


def _basic(header: str, accepted: Sequence[str], charset: str) -> list[Presented]:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return []
    try:
        text = base64.b64decode(encoded, validate=True).decode(charset)
    except (binascii.Error, UnicodeDecodeError):
        return []
    client_id, colon, secret = text.partition(":")
    if not colon:
        return []
    readings = []
    if "basic-raw" in accepted:
        readings.append(Presented("basic-raw", client_id, secret))
    if "basic" in accepted:
        readings.append(Presented("basic", unquote_plus(client_id), unquote_plus(secret)))
    return readings


def _body(request: Request, fields: Mapping[str, str], accepted: Sequence[str]) -> list[Presented]:
    secret = fields.get("client_secret")
    encoding = "json" if request.media_type == "application/json" else "form"
    method = "none" if secret is None else encoding
    # A client without a secret can exist where others have one (a sales channel): the account decides.
    if method not in accepted and secret is not None:
        return []
    return [Presented(method, fields.get("client_id", ""), secret)]
