"""The broker's endpoint: a GET signed with the caller's AWS credentials, over connections that are kept open."""

import ipaddress
import json
import os
import re
import threading
from collections.abc import Mapping
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

import boto3
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError

from token_broker_client.errors import BrokerRefused, BrokerUnreachable, ClientNotConfigured, refusal

CONNECT_S: Final = 3.0
USER_AGENT: Final = "token-broker-client/0.1.0"
# API Gateway's own host names say which region signs for them, whatever region the caller runs in.
REGION_IN_HOST: Final = re.compile(r"\.execute-api\.([a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?$")


class Ask(Protocol):
    """How the broker is asked; tests give their own."""

    def __call__(self, path: str, query: Mapping[str, str], /, *, timeout_s: float) -> dict[str, Any]:
        """The JSON object that answers GET `path`. Raises TokenBrokerError."""


class Endpoint:
    """The broker at `url`. Thread-safe; credentials and region are looked up at the first request."""

    def __init__(
        self,
        url: str,
        *,
        session: boto3.Session | None = None,
        region: str | None = None,
        http: urllib3.PoolManager | None = None,
    ) -> None:
        """Raises ClientNotConfigured for a URL that is neither https nor this machine: the answers carry tokens."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if not host or parts.query or parts.fragment or (parts.scheme != "https" and not _is_this_machine(host)):
            raise ClientNotConfigured("the broker's URL has to be https://host/stage, as the stack's output ApiUrl")
        self._url = url.rstrip("/")
        in_host = REGION_IN_HOST.search(host)
        self._region = region or (in_host.group(1) if in_host else None)
        self._session = session
        self._given_http = http
        self.start_afresh()

    def start_afresh(self) -> None:
        """After a fork: two processes on one connection would read each other's tokens."""
        self._lock = threading.Lock()
        self._http = self._given_http or urllib3.PoolManager(maxsize=10)
        self._http.clear()

    def __call__(self, path: str, query: Mapping[str, str], *, timeout_s: float) -> dict[str, Any]:
        """See `Ask`."""
        return self.send("GET", path, query, timeout_s=timeout_s)

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        timeout_s: float,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """One signed request, its `body` as JSON; the JSON object of the answer. Raises TokenBrokerError.

        `timeout_s` bounds the connection and each wait for bytes.
        """
        url = self._url + path + ("?" + urlencode(query, quote_via=quote) if query else "")
        data = b"" if body is None else json.dumps(body).encode()
        signed = self._signed(method, url, dict(headers or {}), data)
        timeout = urllib3.Timeout(connect=min(CONNECT_S, timeout_s), read=timeout_s)
        try:
            response = self._http.request(
                method, url, headers=signed, body=data or None, timeout=timeout, retries=False, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise BrokerUnreachable(f"no answer from the broker: {type(error).__name__}") from error
        answer = _json_object(response.data)
        if response.status not in (200, 201):
            raise refusal(response.status, answer, _seconds(response.headers.get("Retry-After")))
        if not answer:
            raise BrokerRefused(response.status, {"detail": "the answer is no JSON object: is this the broker's URL?"})
        return answer

    def close(self) -> None:
        """Closes the connections that are open."""
        self._http.clear()

    def _signed(self, method: str, url: str, headers: dict[str, str], data: bytes) -> dict[str, str]:
        try:
            signer = self._signer()
        except BotoCoreError as error:
            raise ClientNotConfigured(f"no AWS credentials to sign with: {error}") from error
        headers = {"Accept": "application/json", "User-Agent": USER_AGENT, **headers}
        if data:
            headers["Content-Type"] = "application/json"
        request = AWSRequest(method, url, headers=headers, data=data)
        signer.add_auth(request)
        return dict(request.headers.items())

    def _signer(self) -> SigV4Auth:
        with self._lock:
            if self._session is None:
                self._session = boto3.Session()
            session = self._session
            # Asked for each time: credentials of a role are renewed in here.
            credentials = session.get_credentials()
            # ECS and Lambda set AWS_REGION, which boto3 does not read.
            region = self._region or session.region_name or os.environ.get("AWS_REGION")
        if credentials is None:
            raise ClientNotConfigured("no AWS credentials to sign with")
        if region is None:
            raise ClientNotConfigured("no region to sign for: give one, or set AWS_REGION")
        return SigV4Auth(credentials.get_frozen_credentials(), "execute-api", region)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _json_object(data: bytes) -> dict[str, Any]:
    """The answer's JSON object, or an empty one where something in between answered otherwise."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
