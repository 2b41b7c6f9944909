"""The broker's HTTP interface for operators. docs/architecture.md has the table of routes."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import quote

from token_broker_client.endpoint import Endpoint
from token_broker_client.errors import AccessDenied, BrokerRefused, UnknownConnection

TIMEOUT_S: Final = 30.0
PAGE_SIZE: Final = 100
THREADS: Final = 8
Json = dict[str, Any]


class RouteDenied(AccessDenied):
    """API Gateway denied a route. `permission`: what the caller lacks, unless the signature is wrong."""

    permission = ""


class AdminApi(Endpoint):
    """Every route of the broker, signed. Raises BrokerRefused, BrokerUnreachable and ClientNotConfigured."""

    def providers(self) -> list[Json]:
        """The catalogue: what a connection of each provider needs."""
        found: list[Json] = self._request("GET", "/v1/providers")["providers"]
        return found

    def connections(self) -> Iterator[Json]:
        """The summary of every connection."""
        query = {"limit": str(PAGE_SIZE)}
        while True:
            page = self._request("GET", "/v1/connections", query)
            yield from page["connections"]
            if page["cursor"] is None:
                return
            query = {"cursor": page["cursor"], "limit": str(PAGE_SIZE)}

    def all_details(self) -> list[Json]:
        """Every connection with settings, version and each token's state. Skips those deleted in the meantime."""
        names = [(item["provider"], item["connection"]) for item in self.connections()]
        with ThreadPoolExecutor(THREADS) as threads:
            found = threads.map(lambda name: self.find(*name), names)
            return [item for item in found if item is not None]

    def show(self, provider: str, name: str) -> Json:
        """One connection with settings, version and each token's state."""
        return self._request("GET", _connection_path(provider, name))

    def find(self, provider: str, name: str) -> Json | None:
        """Like `show`, but None if there is no such connection."""
        try:
            return self.show(provider, name)
        except UnknownConnection:
            return None

    def create(self, provider: str, name: str, settings: Mapping[str, Any]) -> Json:
        """Stores the settings of a new connection. Fails with version_conflict if there is one."""
        return self._request("PUT", _connection_path(provider, name), body=settings, headers={"If-None-Match": "*"})

    def replace(self, provider: str, name: str, settings: Mapping[str, Any], *, version: str) -> Json:
        """Replaces the settings if they still have this version."""
        headers = {"If-Match": f'"{version}"'}
        return self._request("PUT", _connection_path(provider, name), body=settings, headers=headers)

    def delete(self, provider: str, name: str, *, version: str) -> Json:
        """Deletes the settings if they still have this version, and all tokens."""
        return self._request("DELETE", _connection_path(provider, name), headers={"If-Match": f'"{version}"'})

    def trial(self, provider: str, name: str, *, force: bool = False) -> Json:
        """Tries the pending credentials, else the current ones."""
        return self._request("POST", f"{_connection_path(provider, name)}/trial", {"force": "true"} if force else {})

    def purge_tokens(self, provider: str, name: str, scope: str | None = None) -> Json:
        """Purges the tokens of a scope set, or all, and revokes what can be revoked."""
        path = f"/v1/tokens/{_segment(provider)}/{_segment(name)}"
        return self._request("DELETE", path, {} if scope is None else {"scope": scope})

    def health(self) -> Json:
        """The body of /v1/health, even if it reports a failure."""
        try:
            return self._request("GET", "/v1/health")
        except BrokerRefused as error:
            if "checks" not in error.problem:
                raise
            return dict(error.problem)

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        try:
            return self.send(method, path, query or {}, body=body, headers=headers, timeout_s=TIMEOUT_S)
        except AccessDenied as error:
            denied = RouteDenied(error.status, error.problem, error.retry_after)
            denied.permission = f"execute-api:Invoke on {method}{path}"
            raise denied from None


def _connection_path(provider: str, name: str) -> str:
    return f"/v1/connections/{_segment(provider)}/{_segment(name)}"


def _segment(name: str) -> str:
    return quote(name, safe="")
