"""The broker's HTTP interface as those use it who answer for it; see the README's table of routes."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import quote

from token_broker_client.endpoint import Endpoint
from token_broker_client.errors import BrokerRefused, UnknownConnection

TIMEOUT_S: Final = 30.0
PAGE: Final = 100
AT_ONCE: Final = 8
Json = dict[str, Any]


class AdminApi(Endpoint):
    """Every route of the broker, signed. Raises BrokerRefused, BrokerUnreachable and ClientNotConfigured."""

    def providers(self) -> list[Json]:
        """The catalogue: what a connection of each provider needs."""
        found: list[Json] = self._ask("GET", "/v1/providers")["providers"]
        return found

    def connections(self) -> Iterator[Json]:
        """Every connection's summary."""
        query = {"limit": str(PAGE)}
        while True:
            page = self._ask("GET", "/v1/connections", query)
            yield from page["connections"]
            if page["cursor"] is None:
                return
            query = {"cursor": page["cursor"], "limit": str(PAGE)}

    def connections_in_full(self) -> list[Json]:
        """Every connection with settings, version and each token's state; those deleted meanwhile are left out."""
        names = [(item["provider"], item["connection"]) for item in self.connections()]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            found = threads.map(lambda name: self.find(*name), names)
            return [item for item in found if item is not None]

    def show(self, provider: str, name: str) -> Json:
        """One connection with settings, version and each token's state."""
        return self._ask("GET", _connection(provider, name))

    def find(self, provider: str, name: str) -> Json | None:
        """The same, or None where there is no such connection."""
        try:
            return self.show(provider, name)
        except UnknownConnection:
            return None

    def create(self, provider: str, name: str, settings: Mapping[str, Any]) -> Json:
        """Puts settings where there are none."""
        return self._ask("PUT", _connection(provider, name), body=settings, headers={"If-None-Match": "*"})

    def replace(self, provider: str, name: str, settings: Mapping[str, Any], *, version: str) -> Json:
        """Puts settings in the place of those of `version`, and of no others."""
        return self._ask("PUT", _connection(provider, name), body=settings, headers={"If-Match": f'"{version}"'})

    def delete(self, provider: str, name: str, *, version: str) -> Json:
        """Deletes settings of `version`, and all tokens."""
        return self._ask("DELETE", _connection(provider, name), headers={"If-Match": f'"{version}"'})

    def trial(self, provider: str, name: str, *, force: bool = False) -> Json:
        """Tries the pending credentials, else the current ones."""
        return self._ask("POST", f"{_connection(provider, name)}/trial", {"force": "true"} if force else {})

    def drop_tokens(self, provider: str, name: str, scope: str | None = None) -> Json:
        """Drops the tokens of a scope set, or all, and revokes what can be."""
        path = f"/v1/tokens/{_segment(provider)}/{_segment(name)}"
        return self._ask("DELETE", path, {} if scope is None else {"scope": scope})

    def health(self) -> Json:
        """The answer of /v1/health, also where it says that something fails."""
        try:
            return self._ask("GET", "/v1/health")
        except BrokerRefused as refused:
            if "checks" not in refused.problem:
                raise
            return dict(refused.problem)

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        return self.send(method, path, query or {}, body=body, headers=headers, timeout_s=TIMEOUT_S)


def _connection(provider: str, name: str) -> str:
    return f"/v1/connections/{_segment(provider)}/{_segment(name)}"


def _segment(name: str) -> str:
    return quote(name, safe="")
