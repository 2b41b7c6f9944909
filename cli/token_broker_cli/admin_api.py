"""The broker's HTTP interface for operators. docs/architecture.md has the table of routes."""

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from token_broker_client.endpoint import Endpoint
from token_broker_client.errors import AccessDenied, BrokerRefused, UnknownConnection

TIMEOUT_S: Final = 30.0
PAGE_SIZE: Final = 100
PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
Json = dict[str, Any]


class RouteDenied(AccessDenied):
    """API Gateway denied a route. `permission`: what the caller lacks, unless the signature is wrong."""

    permission = ""


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


class AdminApi(Endpoint):
    """Every route of the broker, signed. Raises BrokerRefused, BrokerUnreachable and ClientNotConfigured."""

    def __init__(self, url: str, *, sleep: Callable[[float], object] = pause, **more: Any) -> None:
        super().__init__(url, **more)
        self._sleep = sleep

    def providers(self) -> list[Json]:
        """The catalogue: what a connection of each provider needs."""
        found: list[Json] = self._request("GET", "/v1/providers")["providers"]
        return found

    def connections(
        self, *, provider: str | None = None, state: str | None = None, details: bool = False
    ) -> Iterator[Json]:
        """Every connection by name, one request for each page. `details`: each as `show` returns it, else a summary."""
        given = {"provider": provider, "state": state, "details": "true" if details else None}
        query = {"limit": str(PAGE_SIZE), **{name: value for name, value in given.items() if value is not None}}
        while True:
            page = self._request("GET", "/v1/connections", query)
            yield from page["connections"]
            if page["cursor"] is None:
                return
            query["cursor"] = page["cursor"]

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

    def faults(self, provider: str, name: str, settings: Mapping[str, Any]) -> list[Json]:
        """The faults of settings, each with field and reason. Stores nothing."""
        found: list[Json] = self._request("POST", f"{_connection_path(provider, name)}/check", body=settings)["errors"]
        return found

    def history(self, provider: str, name: str) -> list[Json]:
        """The last versions of the settings, the current one first."""
        found: list[Json] = self._request("GET", f"{_connection_path(provider, name)}/history")["versions"]
        return found

    def restore(self, provider: str, name: str, version: str, *, current: str) -> Json:
        """Puts an earlier version of the settings, if the current one still is `current`."""
        path = f"{_connection_path(provider, name)}/restore"
        return self._request("POST", path, {"version": version}, headers={"If-Match": f'"{current}"'})

    def delete(self, provider: str, name: str, *, version: str) -> Json:
        """Deletes the settings if they still have this version, and all tokens."""
        return self._request("DELETE", _connection_path(provider, name), headers={"If-Match": f'"{version}"'})

    def trial(self, provider: str, name: str, *, force: bool = False) -> Json:
        """Tries the pending credentials, else the current ones."""
        return self._request("POST", f"{_connection_path(provider, name)}/trial", {"force": "true"} if force else {})

    def start_consent(self, provider: str, name: str, *, redirect_uri: str | None = None, device: bool = False) -> Json:
        """Begins a consent: where a person gives it. `redirect_uri`: on this machine, instead of the settings' one."""
        given = {"redirect_uri": redirect_uri, "flow": "device" if device else None}
        body = {field: value for field, value in given.items() if value is not None}
        return self._request("POST", _consent_path(provider, name), body=body)

    def show_consent(self, provider: str, name: str, consent_id: str) -> Json:
        """A consent session: its state, the account and the granted scope."""
        return self._request("GET", _consent_path(provider, name, consent_id))

    def finish_consent(self, provider: str, name: str, consent_id: str, redirect_url: str) -> Json:
        """Hands over the redirect that came back. The same one may be handed over again."""
        path = f"{_consent_path(provider, name, consent_id)}/finish"
        return self._request("POST", path, body={"redirect_url": redirect_url})

    def confirm_consent(self, provider: str, name: str, consent_id: str, *, new_account: bool = False) -> Json:
        """Makes a consent live. `new_account`: it may be of another account, whose tokens are then dropped."""
        word = "confirm-new-account" if new_account else "confirm"
        return self._request("POST", f"{_consent_path(provider, name, consent_id)}/{word}")

    def drop_consent(self, provider: str, name: str) -> Json:
        """Ends the connection's consent, at the provider too where it can, and drops its tokens."""
        return self._request("DELETE", f"{_connection_path(provider, name)}/grant")

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
        """Sends a request. One that API Gateway throttles did nothing, so it is sent again after a growing pause."""
        pauses = iter(PAUSES_S)
        while True:
            try:
                return self.send(method, path, query or {}, body=body, headers=headers, timeout_s=TIMEOUT_S)
            except AccessDenied as error:
                denied = RouteDenied(error.status, error.problem, error.retry_after)
                denied.permission = f"execute-api:Invoke on {method}{path}"
                raise denied from None
            except BrokerRefused as error:
                pause_s = next(pauses, None)
                if error.code != "throttled" or pause_s is None:
                    raise
                self._sleep(error.retry_after or pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # spreads requests


def _connection_path(provider: str, name: str) -> str:
    return f"/v1/connections/{_segment(provider)}/{_segment(name)}"


def _consent_path(provider: str, name: str, consent_id: str | None = None) -> str:
    session = "" if consent_id is None else f"/{_segment(consent_id)}"
    return f"{_connection_path(provider, name)}/consent{session}"


def _segment(name: str) -> str:
    return quote(name, safe="")
