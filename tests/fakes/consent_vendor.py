"""A vendor whose tokens begin with a person's consent: authorization endpoint, token endpoint and device flow.

In memory it is a `Send` (see ports). `served` puts it on a loopback port.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from token_broker.core.connections import NetworkOptions
from token_broker.oauth.exchange import HttpRequest, HttpResponse

SLUG: Final = "vendor"
REALM: Final = "4620816365"
PROVIDER_FILE: Final = """\
title = "Vendor with consent"
documentation = "https://docs.example.com/oauth"
grant = "refresh_token"
credentials = ["client_id", "client_secret"]

[request]
url = "{base_url}/token"
client_auth = "basic"

[refresh]
after_lost_response = "resend"
idle_life_days = 60

[consent]
authorize_url = "{base_url}/authorize"
device_url = "{base_url}/device"
pkce = true
loopback = true

[consent.query]
access_type = "offline"

[consent.keep]
realmId = "[0-9]{1,20}"

[consent.account]
from = "response"
path = "account"

[revocation]
url = "{base_url}/revoke"
keeps_consent = true

[limits]
requests = 1000
per = "minute"
limit_per = "host"

[[settings]]
name = "base_url"
kind = "base_url"
required = true
help = "Where the vendor is."
"""


def provider_files(folder: Path, provider_file: str = PROVIDER_FILE) -> Path:
    """Writes the vendor's provider file into a folder, and returns the folder."""
    (folder / f"{SLUG}.toml").write_text(provider_file, encoding="utf-8")
    return folder


@dataclass
class ConsentVendor:
    """`account`: who approves next; None: the response does not say. `requests`: those to its token endpoint.

    `approved`: whether the person has approved the device. `refuses`: the error of every token request.
    """

    url: str = "https://vendor.example"
    client: tuple[str, str] = ("the-client", "the-client-secret")
    account: str | None = "account-1"
    scope: str = "orders"
    approved: bool = False
    refuses: str | None = None
    requests: list[dict[str, str]] = field(default_factory=list)
    issued: list[str] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)
    _devices: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __call__(self, request: HttpRequest, _network: NetworkOptions, _timeout: timedelta) -> HttpResponse:
        fields = dict(parse_qsl((request.body or b"").decode()))
        return self.respond(urlsplit(request.url).path, fields, request.headers.get("Authorization", ""))

    def authorize(self, authorize_url: str) -> str:
        """A person approves: where the browser is redirected to."""
        query = dict(parse_qsl(urlsplit(authorize_url).query, strict_parsing=True))
        assert authorize_url.startswith(f"{self.url}/authorize?"), authorize_url
        assert (query["response_type"], query["client_id"]) == ("code", self.client[0])
        assert (query["code_challenge_method"], query["access_type"]) == ("S256", "offline")
        code = f"code-{next(self._numbers)}-of-a-person"
        self._codes[code] = query
        back = {"code": code, "state": query["state"], "realmId": REALM, "iss": self.url}
        return f"{query['redirect_uri']}?{urlencode(back)}"

    def refuse(self, authorize_url: str) -> str:
        """A person refuses."""
        query = dict(parse_qsl(urlsplit(authorize_url).query, strict_parsing=True))
        return f"{query['redirect_uri']}?{urlencode({'error': 'access_denied', 'state': query['state']})}"

    def respond(self, path: str, fields: Mapping[str, str], authorization: str) -> HttpResponse:
        """The response of one of its endpoints."""
        pair = base64.b64encode(":".join(self.client).encode()).decode()
        if authorization != f"Basic {pair}":
            return _json(401, {"error": "invalid_client"})
        if path == "/device":
            return self._device()
        if path == "/revoke":
            return _json(200, {})
        self.requests.append(dict(fields))
        if self.refuses is not None:
            return _json(400, {"error": self.refuses})
        match fields.get("grant_type"):
            case "authorization_code":
                return self._exchange(fields)
            case "refresh_token":
                return self._refresh(fields)
            case "urn:ietf:params:oauth:grant-type:device_code":
                return self._poll(fields)
        return _json(400, {"error": "unsupported_grant_type"})

    def _exchange(self, fields: Mapping[str, str]) -> HttpResponse:
        query = self._codes.pop(fields["code"], None)
        digest = hashlib.sha256(fields.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if query is None or (query["redirect_uri"], query["code_challenge"]) != (fields["redirect_uri"], challenge):
            return _json(400, {"error": "invalid_grant"})
        return self._issue()

    def _refresh(self, fields: Mapping[str, str]) -> HttpResponse:
        if fields["refresh_token"] not in self.issued[-1:]:
            return _json(400, {"error": "invalid_grant"})
        return self._issue()

    def _device(self) -> HttpResponse:
        device_code = f"device-code-{next(self._numbers)}"
        self._devices.add(device_code)
        uri = f"{self.url}/enter"
        return _json(
            200,
            {
                "device_code": device_code,
                "user_code": "WDJB-MJHT",
                "verification_uri": uri,
                "verification_uri_complete": f"{uri}?user_code=WDJB-MJHT",
                "expires_in": 300,
                "interval": 2,
            },
        )

    def _poll(self, fields: Mapping[str, str]) -> HttpResponse:
        if fields["device_code"] not in self._devices:
            return _json(400, {"error": "invalid_grant"})
        if not self.approved:
            return _json(400, {"error": "authorization_pending"})
        self._devices.remove(fields["device_code"])
        return self._issue()

    def _issue(self) -> HttpResponse:
        number = next(self._numbers)
        self.issued.append(f"refresh-token-number-{number}")
        account = {"account": self.account} if self.account is not None else {}
        return _json(
            200,
            {
                "access_token": f"access-token-number-{number}",
                "token_type": "Bearer",
                "expires_in": 3600,
                "refresh_token": self.issued[-1],
                "scope": self.scope,
                **account,
            },
        )


def _json(status: int, body: Mapping[str, Any]) -> HttpResponse:
    return HttpResponse(status, {"content-type": "application/json"}, json.dumps(body).encode())


@contextmanager
def served(vendor: ConsentVendor) -> Iterator[ConsentVendor]:
    """The vendor on a loopback port. Its url is that port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            response = vendor.respond(self.path, dict(parse_qsl(body)), self.headers.get("Authorization", ""))
            self.send_response(response.status)
            for name, value in {**response.headers, "Content-Length": str(len(response.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(response.body)

        def log_message(self, *_: Any) -> None:
            """Nothing: the line would go to standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    vendor.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield vendor
    finally:
        server.shutdown()
        server.server_close()
