"""A person's consent at a real authorization server, given and withdrawn in a real browser."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Page, expect

from local.client import BrokerResponse
from local.connections import aws_client
from local.stack import Stack
from local.triggers import QueuePump
from tests.chromium import chromium_tab, has_chromium
from tests.cli.terminal import Terminal
from tests.wild.conftest import Connection, Connections, Row

pytestmark = [
    pytest.mark.wild,
    pytest.mark.skipif(not has_chromium(), reason="Chromium is not on PATH: apt-get install chromium"),
]
SERVER = "oidc-provider"
PERSON = "a-shop-owner"
RENEWALS = 20
AUTHORIZE_URL = re.compile(r"^http://\S+/auth\?\S+$", re.MULTILINE)


@pytest.fixture
def consent_queue(stack: Stack) -> Iterator[None]:
    """Delivers the messages of consents."""
    resources = stack.resources
    sqs = aws_client("sqs", stack.endpoint_url)
    pump = QueuePump(sqs, resources.consent_queue_url, stack.pools[resources.exchange_function], name="consents")
    pump.start()
    with closing(pump):
        yield


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium_tab(width=900, height=900) as tab:
        yield tab


def connect(stack: Stack, connection: Connection, page: Page) -> str:
    """`connections connect`, while the person signs in and consents. Returns what the command printed."""
    options = ["--no-browser", "--local", "--url", stack.url, "--aws-endpoint", stack.endpoint_url]
    arguments = ["connections", "connect", *connection.path.split("/"), *options]
    with Terminal(arguments, {"PATH": os.environ["PATH"]}) as terminal:
        terminal.until("Waiting for the approval")
        (url,) = AUTHORIZE_URL.findall(terminal.output)
        page.goto(url)
        page.get_by_placeholder("Enter any login").fill(PERSON)
        page.get_by_placeholder("and password").fill("of no importance")
        page.get_by_role("button", name="Sign-in").click()
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("You can close this page.")).to_be_visible()
        terminal.until("confirm (yes or no): ")
        terminal.type("yes")
        assert terminal.end() == 0, terminal.output
    return terminal.output


def withdraw(connection: Connection, page: Page) -> None:
    page.goto(f"{connection.server.url}/account/consent")
    page.get_by_role("button", name="Withdraw consent").click()
    expect(page.get_by_text("Withdrawn")).to_be_visible()


class Callers:
    """Ask for a token all the time, in the background."""

    def __init__(self, connection: Connection) -> None:
        self.responses: list[BrokerResponse] = []
        self._connection = connection
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        while not self._stop.wait(0.1):
            self.responses.append(self._connection.token())

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.usefixtures("consent_queue")
def test_a_consent_from_the_browser_through_its_withdrawal_to_the_next_one(
    stack: Stack, connections: Connections, row: Row, page: Page
) -> None:
    connection = connections.of_a_person()
    row(SERVER, "a person's consent: before it", before := connection.token())
    assert (before.status, before.body["code"]) == (409, "consent_required")

    printed = connect(stack, connection, page)
    assert f"Account: {PERSON}" in printed
    assert "Granted scope: offline_access openid" in printed
    requests_before = connection.token_requests()
    tokens, refresh_ids = [connection.token()], [connection.show()["consent"]["refresh_id"]]
    for _ in range(RENEWALS):
        connection.purge()
        tokens.append(connection.token())
        refresh_ids.append(connection.show()["consent"]["refresh_id"])
    row(SERVER, f"  {RENEWALS} renewals, each with a new refresh token", tokens[-1])
    assert [response.status for response in tokens] == [200] * (RENEWALS + 1)
    assert len(set(refresh_ids)) == RENEWALS + 1
    assert connection.token_requests() == requests_before + RENEWALS + 1, "no refresh token was sent twice"

    withdraw(connection, page)
    live = tokens[-1].body["token_id"]
    reported = connection.token(rejected=live)
    row(SERVER, "  withdrawn by the person, and a caller reports the token", reported)
    assert (reported.status, reported.body["code"]) == (409, "consent_required")
    assert connection.show()["state"] == "consent_required"
    refused_after = connection.token_requests()

    with closing(Callers(connection)) as callers:
        connect(stack, connection, page)
        fresh = connection.token(rejected=live)
    row(SERVER, f"  connected again, while {len(callers.responses)} callers asked", fresh)
    assert {response.status for response in callers.responses} == {200}
    assert fresh.status == 200
    assert fresh.body["token_id"] != live
    assert connection.is_accepted(fresh.body["access_token"])
    assert connection.token_requests() >= refused_after + 2, "a code, and a refresh token"
    assert connection.show()["state"] == "ok"
