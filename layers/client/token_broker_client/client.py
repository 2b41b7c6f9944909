"""One class, one call: a SigV4-signed GET, and the broker's problem as an exception."""

import json
from typing import Any, Final
from urllib.parse import quote, urlencode

import boto3
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

# The broker answers within API Gateway's 29 s; a caller that gives up earlier would ask again for nothing.
TIMEOUT: Final = urllib3.Timeout(connect=5, read=30)


class BrokerRefused(Exception):
    """The broker gave no token. `code` is stable, `retry_after` in seconds where trying again can help."""

    def __init__(self, status: int, problem: dict[str, Any], retry_after: float | None) -> None:
        self.status = status
        self.code: str = problem.get("code", "unknown")
        self.detail: str = problem.get("detail", "")
        self.problem = problem
        self.retry_after = retry_after
        super().__init__(f"{status} {self.code}: {self.detail}")


class TokenBroker:
    """The broker at `url` (the stack's output ApiUrl), asked with `session`'s credentials in its region or `region`."""

    def __init__(self, url: str, *, session: boto3.Session | None = None, region: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._session = session or boto3.Session()
        self._region = region or self._session.region_name
        if self._region is None:
            raise ValueError("no region: give one, or set AWS_REGION")
        self._http = urllib3.PoolManager(timeout=TIMEOUT, retries=False)

    def token(
        self,
        provider: str,
        connection: str,
        *,
        scope: str | None = None,
        min_ttl: int | None = None,
        rejected: str | None = None,
    ) -> dict[str, Any]:
        """A token as the broker describes it; send its `headers` to the provider.

        `scope`: items separated by single spaces. `min_ttl`: seconds that it has to last. `rejected`: the token_id of a
        token that the provider's API refused. Raises BrokerRefused, and urllib3's HTTPError where nobody answered.
        """
        asked = {"scope": scope, "min_ttl": min_ttl, "rejected": rejected}
        query = urlencode({name: value for name, value in asked.items() if value is not None}, quote_via=quote)
        url = f"{self._url}/v1/tokens/{quote(provider, safe='')}/{quote(connection, safe='')}"
        return self._get(f"{url}?{query}" if query else url)

    def _get(self, url: str) -> dict[str, Any]:
        credentials = self._session.get_credentials()
        if credentials is None:
            raise ValueError("no AWS credentials to sign with")
        request = AWSRequest(method="GET", url=url, headers={"Accept": "application/json"})
        SigV4Auth(credentials.get_frozen_credentials(), "execute-api", self._region).add_auth(request)
        response = self._http.request("GET", url, headers=dict(request.headers.items()), redirect=False)
        body = _json_object(response.data)
        if response.status != 200:
            raise BrokerRefused(response.status, body, _seconds(response.headers.get("Retry-After")))
        return body


def _json_object(data: bytes) -> dict[str, Any]:
    """The answer's JSON object, or an empty one where something in between answered otherwise."""
    try:
        body = json.loads(data)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
