"""Real servers through the whole broker: each client authentication, reuse, rotation, revocation, refusals."""

from __future__ import annotations

import threading
import time

import pytest

from tests.wild.conftest import LIFETIME_S, RESOURCE, Connections, Row

pytestmark = pytest.mark.wild

TRIED = "{auth}, client {client}"
# Doorkeeper takes id and secret out of Basic as they are. oidc-provider decodes them, as RFC 6749 section 2.3.1 says.
WORKING = [
    ("doorkeeper", "plain", "basic"),
    ("doorkeeper", "odd", "basic-raw"),
    ("doorkeeper", "odd", "form"),
    ("doorkeeper", "odd", "json"),
    ("doorkeeper", "public", "none"),
    ("oidc-provider", "plain", "basic-raw"),
    ("oidc-provider", "odd", "basic"),
    ("oidc-provider", "odd", "form"),
    ("oidc-provider", "public", "none"),
]
REFUSED = [
    ("doorkeeper", "odd", "basic", {}, "The provider refused the credentials."),
    ("doorkeeper", "plain", "basic", {"secret": "wrong"}, "The provider refused the credentials."),
    ("doorkeeper", "plain", "form", {"scope": "admin"}, "The provider refused the scope."),
    ("oidc-provider", "odd", "basic-raw", {}, "The provider refused the credentials."),
    ("oidc-provider", "plain", "form", {"secret": "wrong"}, "The provider refused the credentials."),
    ("oidc-provider", "plain", "json", {}, "The provider does not accept this kind of request."),
    ("oidc-provider", "plain", "basic", {"params": {"resource": "urn:nobody"}}, "The provider refused the scope."),
]


@pytest.mark.parametrize(("server", "client", "auth"), WORKING)
def test_each_client_authentication_gives_a_token_that_a_purge_revokes(
    connections: Connections, row: Row, server: str, client: str, auth: str
) -> None:
    connection = connections.oauth2(server, client, auth)
    before = connection.token_requests()
    response = connection.token()
    row(server, TRIED.format(auth=auth, client=client), response)
    assert response.status == 200, response
    assert LIFETIME_S - 60 < response.body["expires_in"] <= LIFETIME_S
    assert connection.is_accepted(response.body["access_token"])
    assert connection.token().body["token_id"] == response.body["token_id"]
    assert connection.token_requests() == before + 1

    purged = connection.purge()
    row(server, "  purge", purged, note="revoked at the server")
    assert not connection.is_accepted(response.body["access_token"])


@pytest.mark.parametrize(("server", "client", "auth", "settings", "detail"), REFUSED)
def test_a_refusal_is_recognised_and_not_repeated(
    connections: Connections, row: Row, server: str, client: str, auth: str, settings: dict[str, str], detail: str
) -> None:
    connection = connections.oauth2(server, client, auth, **settings)
    before = connection.token_requests()
    refused = [connection.token() for _ in range(2)]
    row(server, ", ".join([TRIED.format(auth=auth, client=client), *settings]), refused[0], note=detail)
    for response in refused:
        assert (response.status, response.body["code"]) == (502, "provider_refused"), response
        assert detail in response.body["detail"]
    assert connection.token_requests() == before + 1


def test_a_jwt_for_a_resource(connections: Connections, row: Row) -> None:
    connection = connections.oauth2("oidc-provider", "plain", "basic", params={"resource": RESOURCE}, scope="read")
    response = connection.token()
    row("oidc-provider", "a JWT by the parameter resource (RFC 8707)", response)
    assert response.status == 200, response
    assert response.body["access_token"].count(".") == 2
    assert (response.body["scope"], response.body["warnings"]) == ("read", [])


def test_a_reported_token_that_the_server_gives_again_keeps_its_expiry(connections: Connections, row: Row) -> None:
    connection = connections.oauth2("doorkeeper with reuse", "plain", "basic")
    first = connection.token()
    again = connection.token(rejected=first.body["token_id"])
    row("doorkeeper with reuse", "a reported token", again, note=", ".join(again.body["warnings"]))
    assert (again.status, again.body["token_id"]) == (200, first.body["token_id"])
    assert again.body["warnings"] == ["same_token_reissued"]
    assert again.body["expires_at"] <= first.body["expires_at"]


def test_a_reused_token_that_expires_is_replaced_without_an_error(connections: Connections, row: Row) -> None:
    """The server gives the same token with 4, 3, 2, 1 and 0 seconds left. Two tokens expire while callers ask."""
    connection = connections.oauth2("doorkeeper with reuse", "brief", "basic")
    ends_at, pause, seen = time.monotonic() + 10, threading.Event(), []
    while time.monotonic() < ends_at:
        seen.append(connection.token())
        pause.wait(0.1)
    failed = [response for response in seen if response.status != 200]
    tokens = len({response.body.get("token_id") for response in seen})
    row("doorkeeper with reuse", f"{len(seen)} callers over 10 s", (failed or seen)[0], note=f"{tokens} tokens")
    assert failed == []
    assert tokens >= 2


def test_a_rotated_refresh_token_is_used_once_and_stored(connections: Connections, row: Row) -> None:
    """An authorization code without a browser. Then each report makes a refresh, with the token of the last one."""
    connection = connections.ucommerce("doorkeeper", "plain")
    tokens = [connection.token()]
    for _ in range(3):
        tokens.append(connection.token(rejected=tokens[-1].body["token_id"]))
    row("doorkeeper", "authorization code, then 3 refreshes with rotation", tokens[-1])
    assert [response.status for response in tokens] == [200] * 4
    assert len({response.body["token_id"] for response in tokens}) == 4
    assert connection.is_accepted(tokens[-1].body["access_token"])
    assert connection.server.requests("GET /api/v1/oauth/connect") == 1
    assert connection.server.requests("POST /api/v1/oauth/token") == 4
