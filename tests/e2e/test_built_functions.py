"""The built functions work: over HTTP, by schedule and queue, and after a changed secret."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from local.client import SignedClient
from local.demo_run import CACHED, DemoRun
from local.providers import DEFAULT_ACCOUNTS
from local.stack import Stack
from tests.e2e.built import digest
from tests.e2e.connections import connect, put
from tests.e2e.demo_runs import PATIENCE_S, run_all, secrets_of, summary, token_after
from tests.integration.handlers.world import Aws
from tests.security.leak_search import leaks
from token_broker.catalogue import load_catalogue

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="session")
def runs(stack: Stack) -> list[DemoRun]:
    """The run of each provider's demo connection. Later tests use these connections too."""
    return run_all(stack)


def test_each_providers_token_is_acquired_returned_again_used_and_renewed(
    runs: list[DemoRun], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        sys.stdout.write("\n".join(["", "Tokens of the built functions, by their token_id:", *summary(runs), ""]))
    assert {run.provider: run.faults for run in runs if run.faults} == {}
    assert all(run.renewed for run in runs)


def test_the_audit_names_caller_and_token_id_and_holds_no_token(stack: Stack, runs: list[DemoRun]) -> None:
    logs = {path.name: path.read_bytes() for path in stack.options.log_dir.glob("*.log")}
    returned = [line for line in logs["GetTokenFunction.log"].decode().splitlines() if '"token_returned"' in line]
    for run in runs:
        for response in (run.first, run.renewed):
            assert response
            named = (response.body["token_id"], stack.options.caller.user_arn, run.provider)
            assert any(all(f'"{value}"' in line for value in named) for line in returned), named
    assert leaks(secrets_of(stack), logs) == []


def test_a_changed_secret_brings_a_new_token_before_a_caller_asks(
    stack: Stack, runs: list[DemoRun], client: SignedClient
) -> None:
    (run,) = [run for run in runs if run.provider == "unidy"]
    assert run.renewed
    before = run.renewed.body
    assert datetime.fromisoformat(before["renew_at"]) - datetime.now(UTC) > timedelta(seconds=2 * PATIENCE_S)

    changed = {**DEFAULT_ACCOUNTS["unidy"]["secret"], "client_secret": "fake-rotated-secret-not-real"}
    run.simulator.rotate_secret(changed)
    aws = Aws(stack.endpoint_url, stack.resources)
    aws.secrets.put_secret_value(SecretId=aws.secret_id("unidy/demo"), SecretString=json.dumps(changed))

    assert token_after(client, "unidy/demo", before["token_id"]).body["source"] in CACHED
    assert run.simulator.report()["token_requests"] == run.requests_made + 1


def test_a_connection_is_made_shown_used_and_deleted(stack: Stack, client: SignedClient) -> None:
    settings, token = "/v1/connections/oauth2/made", connect(stack, client, "oauth2", "made")
    assert put(stack, client, "oauth2", "made", If_None_Match="*").body["code"] == "version_conflict"
    faulty = client.call("PUT", settings, body={"allowed_callers": "*", "token_url": "not a url"})
    assert faulty.status == 400
    assert {error["field"] for error in faulty.body["errors"]} >= {"allowed_callers", "token_url"}

    returned = client.call("GET", token).body
    shown = client.call("GET", settings).body
    assert [kept["token_id"] for kept in shown["tokens"]] == [returned["token_id"]]
    assert client.call("DELETE", settings).status == 200
    assert client.call("GET", token).body["code"] == "unknown_connection"


def test_the_api_shows_its_catalogue_and_its_health(client: SignedClient) -> None:
    catalogue = client.call("GET", "/v1/providers").body["providers"]
    assert {provider["slug"] for provider in catalogue} == set(load_catalogue())
    health = client.call("GET", "/v1/health")
    assert (health.status, health.body["status"]) == (200, "ok")


@pytest.mark.usefixtures("runs")
def test_what_was_built_is_unchanged_by_running_it(built_digest: str) -> None:
    """In Lambda these files are read-only."""
    assert digest() == built_digest
