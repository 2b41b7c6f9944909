"""The script of a rehearsal. Each step says what it proves; the steps build on each other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Final

import requests

from local.connections import DEMO_PROVIDERS
from local.process import ROOT
from local.providers import DEFAULT_ACCOUNTS, start_providers
from tests.rehearsal.account import (
    ADMIN,
    CALLER,
    STRANGER,
    Account,
    code,
    stored_token_id,
    token,
    wait_for,
    wait_for_another_token,
)
from tests.rehearsal.adaptations import EVENT_SOURCE, VARIABLES
from tests.rehearsal.consumer import deploy_and_invoke
from tests.rehearsal.deployment import Stack
from tests.rehearsal.emulator import Emulator
from tests.rehearsal.full import rehearse_release_and_restore
from tests.rehearsal.report import Report
from tests.rehearsal.roles import check_roles

EXPIRING: Final = "ucommerce/demo"
EVENTS: Final = {"unidy/demo": "secret_label_updated.json", "unified-services/demo": "secret_changed.json"}
RENEWED: Final = {
    EXPIRING: "The schedule, the queue and the worker have renewed the token before it expired",
    "unidy/demo": "The label of the changed secret has made its token due, and the worker has replaced it",
    "unified-services/demo": "The same from the trail's event of the changed secret",
}
DIRECTORY: Final = ROOT / "build" / "rehearsal"
CALLER_ARN: Final = Account.role_arn(CALLER)
ADMIN_ARN: Final = Account.role_arn(ADMIN)


def rehearse(report: Report, *, full: bool) -> None:
    """Runs the steps on an emulator of its own. Raises what the first failing step raises."""
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    with ExitStack() as endings:
        with report.step("An emulator of AWS and the simulated providers run") as step:
            providers = endings.enter_context(start_providers())
            emulator = endings.enter_context(Emulator(DIRECTORY, dict(VARIABLES)))
            step.detail = f"{emulator.endpoint_url}, log in {emulator.log.relative_to(ROOT)}"
        account, stack = Account(emulator, providers), Stack(emulator, "token-broker-dev")
        deploy(report, stack)
        call_the_broker(report, account, stack)
        before = let_tokens_come_due(report, account, stack)
        with report.step("Every role may do what its function does, and nothing beside it") as step:
            step.detail = check_roles(account, stack)
        with report.step(
            "A function with the client layer, as docs/service-developers.md has it, uses the broker"
        ) as step:
            step.detail = deploy_and_invoke(account, stack)
        expect_renewals(report, account, stack, before)
        stop_a_connection(report, account, stack)
        if full:
            rehearse_release_and_restore(report, account, stack)


def deploy(report: Report, stack: Stack) -> None:
    with report.step("`make deploy` creates the stack through a change set") as step:
        printed = stack.deploy()
        assert "Changeset created successfully" in printed
        assert stack.description["StackStatus"] == "CREATE_COMPLETE"
        step.detail = f"{len(stack.resources)} resources"


def call_the_broker(report: Report, account: Account, stack: Stack) -> None:
    with report.step("The outputs ApiUrl and CallerPolicy let a caller in, as docs/deploy.md says"):
        policy = json.loads(stack.outputs["CallerPolicy"])
        (statement,) = policy["Statement"]
        policy["Statement"] = [
            {**statement, "Resource": statement["Resource"].replace("PROVIDER", provider).replace("CONNECTION", "demo")}
            for provider in DEMO_PROVIDERS
        ]
        account.make_role(CALLER, policy)
        account.make_role(STRANGER, None)
        account.make_role(ADMIN, {**policy, "Statement": [{**statement, "Resource": f"{stack.outputs['ApiArn']}/*"}]})
        health = account.broker(stack, ADMIN).call("GET", "/v1/health")
        assert health.status == 200, health.body

    caller = account.broker(stack, CALLER)
    with report.step("All five providers' tokens come through the deployed API, and the providers accept them") as step:
        account.connect_all(stack, [CALLER_ARN, ADMIN_ARN])
        for provider in DEMO_PROVIDERS:
            found = token(caller, f"{provider}/demo")
            assert found["source"] == "provider", found["source"]
            use(found)
            again = token(caller, f"{provider}/demo")
            assert (again["token_id"], again["source"] in ("memory", "table")) == (found["token_id"], True)
        step.detail = ", ".join(DEMO_PROVIDERS)

    with report.step("IAM refuses who has no CallerPolicy, another path, and an unsigned request"):
        account.connect(stack, "unidy", "other", [CALLER_ARN])
        for role, path in (
            (STRANGER, "/v1/tokens/unidy/demo"),
            (CALLER, "/v1/tokens/unidy/other"),
            (CALLER, "/v1/connections"),
        ):
            assert account.broker(stack, role).call("GET", path).status == 403, (role, path)
        unsigned = requests.get(
            f"{stack.api_url}/v1/tokens/unidy/demo", verify=str(account.emulator.certificate), timeout=30
        )
        assert unsigned.status_code == 403, unsigned.text

    with report.step("The connection refuses a caller that IAM lets in, but allowed_callers does not name"):
        account.connect(stack, "unidy", "closed", [CALLER_ARN])
        assert code(account.broker(stack, ADMIN).call("GET", "/v1/tokens/unidy/closed")) == (403, "caller_not_allowed")


def use(found: dict[str, Any]) -> None:
    """Calls the provider's API with a token. Raises AssertionError if it is not accepted."""
    response = requests.get(f"{found['api_base_url']}/api/resource", headers=found["headers"], timeout=30)
    assert response.status_code == 200, response.text


def let_tokens_come_due(report: Report, account: Account, stack: Stack) -> dict[str, str | None]:
    """Returns the token_ids from before. The next sweep is up to a minute away, and other steps run meanwhile."""
    admin = account.broker(stack, ADMIN)
    before = {connection: stored_token_id(admin, connection) for connection in RENEWED}
    with report.step("A token comes due, and two secrets change: AWS sends an event of its own, or a trail does"):
        account.make_due(stack, EXPIRING)
        for connection, file in EVENTS.items():
            secret = account.secret_name(stack, *connection.split("/"))
            changed = account.emulator.client("secretsmanager").put_secret_value(
                SecretId=secret, SecretString=json.dumps(DEFAULT_ACCOUNTS[connection.split("/")[0]]["secret"])
            )
            send_event(account, file, secret, changed["ARN"], changed["VersionId"])
    return before


def expect_renewals(report: Report, account: Account, stack: Stack, before: Mapping[str, str | None]) -> None:
    admin, caller = account.broker(stack, ADMIN), account.broker(stack, CALLER)
    for connection, title in RENEWED.items():
        with report.step(title):
            wait_for_another_token(admin, connection, before[connection])
            use(token(caller, connection))


def send_event(account: Account, file: str, secret: str, arn: str, version_id: str) -> None:
    """Sends an event as in `events/`, about this secret, from the source that the adapted rules take too."""
    event = json.loads((ROOT / "events" / file).read_text(encoding="utf-8"))
    detail = event["detail"]
    if "eventName" in detail:
        detail["eventTime"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        detail["requestParameters"]["secretId"] = secret
        detail["responseElements"] = {"arn": arn, "versionId": version_id}
    else:
        detail.update(name=secret, versionId=version_id)
    entry = {
        "Source": EVENT_SOURCE,
        "DetailType": event["detail-type"],
        "Detail": json.dumps(detail),
        "Resources": [arn],
    }
    sent = account.emulator.client("events").put_events(Entries=[entry])
    assert sent["FailedEntryCount"] == 0, sent["Entries"]


def stop_a_connection(report: Report, account: Account, stack: Stack) -> None:
    with report.step("The kill switch: a suspended connection gives no token, and its tokens are revoked"):
        admin, caller = account.broker(stack, ADMIN), account.broker(stack, CALLER)
        found = token(caller, "unidy/demo")
        account.put_settings(stack, "unidy", "demo", [CALLER_ARN, ADMIN_ARN], suspended=True)
        purged = admin.call("DELETE", "/v1/tokens/unidy/demo")
        assert (purged.status, purged.body["not_revoked"]) == (200, []), purged.body
        wait_for(
            "a refusal", lambda: code(caller.call("GET", "/v1/tokens/unidy/demo")) == (409, "connection_suspended")
        )
        refused = requests.get(f"{found['api_base_url']}/api/resource", headers=found["headers"], timeout=30)
        assert refused.status_code == 401, refused.status_code
        account.put_settings(stack, "unidy", "demo", [CALLER_ARN, ADMIN_ARN])
        use(token(caller, "unidy/demo"))
