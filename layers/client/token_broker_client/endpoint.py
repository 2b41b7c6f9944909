"""The broker's HTTP endpoint: requests signed with the caller's AWS credentials, over connections that stay open."""

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

from token_broker_client.errors import BrokerRefused, BrokerUnreachable, ClientNotConfigured, error_for_problem

CONNECT_S: Final = 1.5  # for each of the host's addresses
USER_AGENT: Final = "token-broker-client/0.1.0"
# API Gateway's host names contain the region to sign for. The caller may run in another one.
REGION_IN_HOST: Final = re.compile(r"\.execute-api\.([a-z0-9-]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?$")


class BrokerGet(Protocol):
    """Sends a GET to the broker. `Endpoint` does; tests pass their own."""

    def __call__(self, path: str, query: Mapping[str, str], /, *, timeout_s: float) -> dict[str, Any]:
        """Returns the JSON object of the response. Raises TokenBrokerError."""


class Endpoint:
    """The broker at `url`. Thread-safe. Credentials and region are looked up at the first request."""

    def __init__(
        self,
        url: str,
        *,
        session: boto3.Session | None = None,
        region: str | None = None,
        http: urllib3.PoolManager | None = None,
    ) -> None:
        """Raises ClientNotConfigured unless the URL is https or on this machine: responses carry tokens.

        Without a URL (""), the first request raises it.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        more = parts.query or parts.fragment or parts.username is not None
        if url and (not host or more or (parts.scheme != "https" and not _is_this_machine(host))):
            raise ClientNotConfigured("the broker's URL must be https://host/stage, like the stack's output ApiUrl")
        self._url = url.rstrip("/")
        in_host = REGION_IN_HOST.search(host)
        self._region = region or (in_host.group(1) if in_host else None)
        self._session = session
        self._given_http = http
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Drops open connections: two processes on one connection would read each other's tokens."""
        self._lock = threading.Lock()
        self._http = self._given_http or urllib3.PoolManager(maxsize=10)
        self._http.clear()

    def __call__(self, path: str, query: Mapping[str, str], *, timeout_s: float) -> dict[str, Any]:
        """See `BrokerGet`."""
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
        """Sends one signed request with `body` as JSON. Returns the JSON object of the response.

        `timeout_s` limits connecting, and each wait for data. Raises TokenBrokerError.
        """
        if not self._url:
            raise ClientNotConfigured("no URL of the broker: pass one, or set TOKEN_BROKER_URL")
        url = self._url + path + ("?" + urlencode(query, quote_via=quote) if query else "")
        data = b"" if body is None else json.dumps(body).encode()
        signed = self._signed(method, url, dict(headers or {}), data)
        timeout = urllib3.Timeout(connect=min(CONNECT_S, timeout_s), read=timeout_s)
        try:
            response = self._http.request(
                method, url, headers=signed, body=data or None, timeout=timeout, retries=False, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise BrokerUnreachable(f"no response from the broker at {self._url}: {type(error).__name__}") from error
        received = _json_object(response.data)
        if response.status not in (200, 201, 202):
            raise error_for_problem(response.status, received, _seconds(response.headers.get("Retry-After")))
        if not received:
            detail = "the response is not a JSON object: is this the broker's URL?"
            raise BrokerRefused(response.status, {"detail": detail})
        return received

    def close(self) -> None:
        """Closes open connections."""
        self._http.clear()

    def _signed(self, method: str, url: str, headers: dict[str, str], data: bytes) -> dict[str, str]:
        try:
            signer = self._signer()
        except ClientNotConfigured:
            raise
        except Exception as error:  # botocore also raises RuntimeError, KeyError and others
            raise ClientNotConfigured(f"no AWS credentials to sign with: {type(error).__name__}: {error}") from error
        headers = {"Accept": "application/json", "User-Agent": USER_AGENT, **headers}
        if data:
            headers["Content-Type"] = "application/json"
        request = AWSRequest(method, url, headers=headers, data=data)
        signer.add_auth(request)
        signed = dict(request.headers.items())
        if not all(value.isascii() and value.isprintable() for value in signed.values()):
            # http.client's own error would repeat the session token.
            raise ClientNotConfigured("the AWS credentials hold a character that a header cannot have")
        return signed

    def _signer(self) -> SigV4Auth:
        with self._lock:
            if self._session is None:
                self._session = boto3.Session()
            session = self._session
            # Called for each request, because it renews a role's credentials.
            credentials = session.get_credentials()
            # ECS and Lambda set AWS_REGION, which boto3 does not read.
            region = self._region or session.region_name or os.environ.get("AWS_REGION")
        if credentials is None:
            raise ClientNotConfigured("no AWS credentials to sign with")
        if region is None:
            raise ClientNotConfigured("no region to sign for: pass one, or set AWS_REGION")
        return SigV4Auth(credentials.get_frozen_credentials(), "execute-api", region)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _json_object(data: bytes) -> dict[str, Any]:
    """The JSON object of a response; an empty one if the response is something else."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
