"""Reads a token request from a vendor's documentation: a curl command, or an HTTP request as text."""

import argparse
import base64
import binascii
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl, unquote_plus

REQUEST_LINE: Final = re.compile(r"(GET|POST)\s+(\S+)(\s+HTTP/[\d.]+)?\s*")
# Documentation writes what differs as <shop>. A provider file writes {shop}.
PLACEHOLDER: Final = re.compile(r"<([A-Za-z_][A-Za-z0-9_-]*)>")


@dataclass(frozen=True)
class SampleRequest:
    """A token request. `url` has no query. `fields`: those of the body. `kind`: form or json; empty without a body.

    `basic`: id and secret of an Authorization header with Basic.
    """

    method: str
    url: str
    query: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    kind: str
    fields: Mapping[str, Any] = field(repr=False)
    basic: tuple[str, str] | None = field(repr=False)


def read_sample(text: str) -> SampleRequest:
    """The request in a text. Raises ValueError that says what is wrong, without a value of the request."""
    text = text.strip()
    return _curl(text) if text.startswith("curl") else _http(text)


class _CurlOptions(argparse.ArgumentParser):
    """The options of curl that say what a request is, and those that say nothing of it."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self.add_argument("address", nargs="?", default="")
        self.add_argument("--url", default="")
        self.add_argument("-X", "--request")
        self.add_argument("-H", "--header", action="append", default=[])
        for option in ("-d", "--data", "--data-raw", "--data-binary", "--data-ascii", "--data-urlencode"):
            self.add_argument(option, dest="data", action="append", default=[])
        self.add_argument("--json")
        self.add_argument("-u", "--user")
        self.add_argument("-G", "--get", action="store_true")
        for option in ("-s", "-S", "-i", "-v", "-L", "-k", "-f"):
            self.add_argument(option, action="store_true")
        for option in ("silent", "show-error", "include", "verbose", "location", "insecure", "fail", "compressed"):
            self.add_argument(f"--{option}", action="store_true")

    def error(self, message: str) -> NoReturn:  # noqa: ARG002  # it can quote a value of the request
        raise ValueError("it is not a curl command that can be read here")


def _curl(text: str) -> SampleRequest:
    found, unknown = _CurlOptions().parse_known_args(shlex.split(text.replace("\\\n", " "))[1:])
    if option := next((word for word in unknown if word.startswith("-")), None):
        raise ValueError(f"the option {option.partition('=')[0]} of curl is not known here; leave it out")
    url = found.url or found.address
    body = "&".join(found.data)
    headers = dict(pair for line in found.header for pair in _header(line))
    if found.user is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(found.user.encode()).decode()}"
    if found.get:
        url = f"{url}{'&' if '?' in url else '?'}{body}"
        body = ""
    body = found.json or body
    return _sample(found.request or ("POST" if body else "GET"), url, headers, body)


def _http(text: str) -> SampleRequest:
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.split("\n")
    request_line = REQUEST_LINE.fullmatch(first)
    if request_line is None:
        raise ValueError("it must begin with curl, or with a line such as POST https://example.com/token")
    headers = dict(pair for line in lines for pair in _header(line))
    url = request_line[2]
    host = next((value for name, value in headers.items() if name.lower() == "host"), "")
    return _sample(request_line[1], f"https://{host}{url}" if url.startswith("/") else url, headers, body)


def _header(line: str) -> Iterator[tuple[str, str]]:
    name, colon, value = line.partition(":")
    if not colon:
        raise ValueError("a header has no colon; an empty line must stand before the body")
    yield name.strip(), value.strip()


def _sample(method: str, url: str, headers: Mapping[str, str], body: str) -> SampleRequest:
    address, _, query = PLACEHOLDER.sub(r"{\1}", url).partition("?")
    if not address.startswith(("https://", "http://", "{")):
        raise ValueError("it has no URL that begins with https://")
    basic = _basic(next((value for name, value in headers.items() if name.lower() == "authorization"), ""))
    own = {
        name: value
        for name, value in headers.items()
        if name.lower() not in ("host", "content-type", "content-length", "accept", "user-agent")
        and not (name.lower() == "authorization" and basic)
    }
    kind, fields = _body(body.strip())
    return SampleRequest(method.upper(), address, dict(parse_qsl(query)), own, kind, fields, basic)


def _body(body: str) -> tuple[str, Mapping[str, Any]]:
    if body.startswith("{"):
        try:
            fields = json.loads(body)
        except ValueError:
            raise ValueError("its body begins with { and is not JSON") from None
        return "json", fields
    # Documentation breaks a form into lines.
    pairs = dict(parse_qsl("".join(line.strip() for line in body.splitlines()), keep_blank_values=True))
    if body and "=" not in body:
        raise ValueError("its body is neither a form nor JSON")
    return ("form", pairs) if pairs else ("", {})


def _basic(authorization: str) -> tuple[str, str] | None:
    """Id and secret. A placeholder that is not base64 stands for both."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return ("client_id", "client_secret")
    return unquote_plus(client_id), unquote_plus(secret)
