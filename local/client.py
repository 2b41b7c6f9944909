"""A client that signs its requests as AWS SDKs do. The demo, the stack's set-up and tests call the broker with it."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.aws import REGION
from local.sigv4 import LOCAL, SERVICE, Caller

TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class BrokerResponse:
    """The broker's HTTP response: `body` is the parsed JSON, else text; `elapsed_s` is how long it took."""

    status: int
    headers: Mapping[str, str]
    body: Any
    elapsed_s: float


class SignedClient:
    """Calls an API on loopback with Signature Version 4 as `caller`. One per thread: it keeps its connection open."""

    def __init__(
        self,
        base_url: str,
        caller: Caller = LOCAL,
        *,
        region: str = REGION,
        session_token: str | None = None,
        ca: Path | None = None,
    ) -> None:
        """`session_token`: of temporary credentials. `ca`: the certificate that an https URL is verified with."""
        self._base_url = base_url
        self._signer = SigV4Auth(Credentials(caller.access_key, caller.secret_key, session_token), SERVICE, region)
        self._session = requests.Session()
        self._session.verify = str(ca) if ca else True
        self._session.trust_env = False  # no proxy from the environment for loopback

    def call(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> BrokerResponse:
        """Send one signed request; a body is sent as JSON. Raises requests.RequestException if no response comes."""
        url = self._base_url + path
        if query:
            # %20 for a space: the signature's canonical form has no +.
            url += "?" + urlencode(query, quote_via=quote, safe="-_.~")
        data = b"" if body is None else json.dumps(body).encode()
        request = AWSRequest(method, url, headers=dict(headers or {}), data=data)
        request.headers["Host"] = urlsplit(url).netloc
        if data:
            request.headers["Content-Type"] = "application/json"
        self._signer.add_auth(request)
        started = time.monotonic()
        response = self._session.request(
            method,
            url,
            headers=dict(request.headers.items()),
            data=data or None,
            timeout=TIMEOUT_S,
            allow_redirects=False,
        )
        elapsed_s = time.monotonic() - started
        is_json = "json" in response.headers.get("Content-Type", "")
        return BrokerResponse(
            response.status_code, response.headers, response.json() if is_json else response.text, elapsed_s
        )

    def close(self) -> None:
        self._session.close()
