"""The steps of `make rehearse ARGS=--full`: releases, restore, tear-down, and broken stacks that must be noticed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.process import ROOT
from tests.rehearsal.account import (
    ADMIN,
    CALLER,
    Account,
    stored_token_id,
    token,
    wait_for,
    wait_for_another_token,
)
from tests.rehearsal.breakages import fail_late, keep_the_alias, lose_the_schedule, take_the_secret_away
from tests.rehearsal.deployment import DeploymentFailed, Stack
from tests.rehearsal.report import Report

CONNECTION = "unidy/demo"
LASTING = "unified-services/demo"  # its token lives for an hour, so nothing but the rehearsal makes it due
A_SWEEP_S = 90.0  # a minute, and the worker


def rehearse_release_and_restore(report: Report, account: Account, stack: Stack) -> None:
    tree = release_a_layer(report, account, stack)
    release_a_parameter(report, account, stack, tree)
    roll_back(report, account, stack, tree)
    notice_what_is_broken(report, account, stack, tree)
    restore_the_settings(report, account, stack)
    beside = deploy_a_second_stack(report, account, stack)
    tear_down(report, account, stack, beside)


def version(account: Account, stack: Stack) -> str:
    """The version that the API reports."""
    found: str = account.broker(stack, ADMIN).call("GET", "/v1/health").body["version"]
    return found


def check_is_live(account: Account, stack: Stack) -> None:
    """The API runs what was deployed last. Raises AssertionError."""
    parameters = {item["ParameterKey"]: item["ParameterValue"] for item in stack.description["Parameters"]}
    reported, deployed = version(account, stack), parameters["CodeDigest"][:12]
    assert reported.endswith(f"+{deployed}"), f"{reported} is live, {deployed} was deployed"


def release_a_layer(report: Report, account: Account, stack: Stack) -> Path:
    """Returns a copy of the repository with one changed line, built."""
    with report.step(
        "Release: one changed line in a layer goes live, and tokens of the version before stay readable"
    ) as step:
        before, kept = version(account, stack), token(account.broker(stack, CALLER), LASTING)
        tree = account.emulator.log.parent / "tree"
        tree.mkdir()
        for name in (".ci", "template.yaml", "samconfig.toml", "functions", "layers"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tree / name)
        module = tree / "layers" / "broker" / "token_broker" / "__init__.py"
        module.write_text(
            module.read_text(encoding="utf-8").replace('__version__ = "', '__version__ = "9.'), encoding="utf-8"
        )
        build = subprocess.run(
            [tree / ".ci" / "build"], env=dict(os.environ), capture_output=True, text=True, check=False
        )
        assert build.returncode == 0, build.stdout[-2000:] + build.stderr[-2000:]
        stack.deploy(tree=tree)
        check_is_live(account, stack)
        after = version(account, stack)
        assert after.startswith("9."), after
        again = token(account.broker(stack, CALLER), LASTING)
        assert (again["token_id"], again["source"]) == (kept["token_id"], "table")
        step.detail = f"{before}, then {after}"
    return tree


def release_a_parameter(report: Report, account: Account, stack: Stack, tree: Path) -> None:
    with report.step("Release: a changed parameter alone goes live"):
        stack.deploy("LogLevel=INFO", tree=tree)
        check_is_live(account, stack)
        assert log_level(account, stack) == "INFO"


def log_level(account: Account, stack: Stack) -> str:
    """The parameter as the version behind get_token's alias has it."""
    function = stack.resources["GetTokenFunction"]
    found = account.emulator.client("lambda").get_function_configuration(FunctionName=function, Qualifier="live")
    level: str = found["Environment"]["Variables"]["POWERTOOLS_LOG_LEVEL"]
    return level


def roll_back(report: Report, account: Account, stack: Stack, tree: Path) -> None:
    with report.step("Release: a deployment that fails is rolled back, and the version before still serves"):
        before, kept = version(account, stack), token(account.broker(stack, CALLER), LASTING)
        must_fail(DeploymentFailed, lambda: stack.deploy("LogLevel=ERROR", tree=tree, breakages=(fail_late,)))
        assert stack.description["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE", stack.description["StackStatus"]
        assert (version(account, stack), log_level(account, stack)) == (before, "INFO")
        assert token(account.broker(stack, CALLER), LASTING)["token_id"] == kept["token_id"]


def notice_what_is_broken(report: Report, account: Account, stack: Stack, tree: Path) -> None:
    with report.step("Broken on purpose: a permission, the flow of the alias, and the schedule are taken away"):
        stack.deploy(tree=tree, breakages=(take_the_secret_away, keep_the_alias, lose_the_schedule))
    admin = account.broker(stack, ADMIN)
    with report.step("The rehearsal notices that get_token may not read the secret"):
        admin.call("DELETE", f"/v1/tokens/{CONNECTION}")
        must_fail(AssertionError, lambda: token(account.broker(stack, CALLER), CONNECTION))
    with report.step("The rehearsal notices that nothing calls sweep_due"):
        before = stored_token_id(admin, LASTING)
        account.make_due(stack, LASTING)
        must_fail(AssertionError, lambda: wait_for_another_token(admin, LASTING, before, A_SWEEP_S))
    with report.step("The rehearsal notices that the alias does not move"):
        stack.deploy("LogLevel=WARNING", tree=tree, breakages=(keep_the_alias,))
        must_fail(AssertionError, lambda: check_is_live(account, stack))
    with report.step("The whole template repairs all three"):
        stack.deploy()
        check_is_live(account, stack)
        token(account.broker(stack, CALLER), CONNECTION)
        wait_for_another_token(admin, LASTING, before)


def must_fail(kind: type[Exception], action: Callable[[], Any]) -> None:
    """Raises AssertionError unless the action fails in this way."""
    try:
        action()
    except kind:
        return
    raise AssertionError("nothing failed")


def restore_the_settings(report: Report, account: Account, stack: Stack) -> None:
    with report.step("Restore: the settings of a restored table come back with connections export and apply") as step:
        dynamodb, admin = account.emulator.client("dynamodb"), account.broker(stack, ADMIN)
        restored = "restored-connections"
        kept = [admin.call("GET", f"/v1/connections/{name}").body["settings"] for name in (CONNECTION, LASTING)]
        source = stack.outputs["ConnectionTableName"]
        dynamodb.restore_table_to_point_in_time(
            SourceTableName=source, TargetTableName=restored, UseLatestRestorableTime=True
        )
        wait_for("the table", lambda: dynamodb.describe_table(TableName=restored)["Table"]["TableStatus"] == "ACTIVE")
        assert admin.call("DELETE", f"/v1/connections/{CONNECTION}").status == 200
        account.put_settings(stack, "unified-services", "demo", [Account.role_arn(ADMIN)])
        exported = token_broker(account, stack, "connections", "export", "--table", restored)
        step.detail = token_broker(account, stack, "connections", "apply", "-", stdin=exported).splitlines()[-1]
        again = [admin.call("GET", f"/v1/connections/{name}").body["settings"] for name in (CONNECTION, LASTING)]
        assert again == kept
        token(account.broker(stack, CALLER), CONNECTION)


def token_broker(account: Account, stack: Stack, *arguments: str, stdin: str = "") -> str:
    """The command line, as the emulator's root user. Returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "token_broker_cli", *arguments, "--url", stack.api_url],
        env={
            **account.emulator.environment,
            "SSL_CERT_FILE": str(account.emulator.certificate),
            "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("cli", "layers/client")),
        },
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def deploy_a_second_stack(report: Report, account: Account, stack: Stack) -> Stack:
    with report.step("A second stack beside the first, with its own SecretPrefix, returns tokens of its own"):
        beside = Stack(account.emulator, "token-broker-beside")
        beside.deploy("SecretPrefix=token-broker-beside", "SetApiGatewayAccount=false")
        account.allow(ADMIN, f"{beside.outputs['ApiArn']}/*")
        account.connect(beside, "unidy", "demo", [Account.role_arn(ADMIN)])
        theirs = token(account.broker(beside, ADMIN), CONNECTION)
        ours = token(account.broker(stack, CALLER), CONNECTION)
        assert (theirs["source"], theirs["token_id"] != ours["token_id"]) == ("provider", True)
    return beside


def tear_down(report: Report, account: Account, stack: Stack, beside: Stack) -> None:
    with report.step("delete-stack leaves what docs/deploy.md says, and the other stack still works"):
        emulator = account.emulator
        outputs, resources = stack.outputs, stack.resources
        emulator.client("cloudformation").delete_stack(StackName=stack.name)
        emulator.client("cloudformation").get_waiter("stack_delete_complete").wait(StackName=stack.name)
        dynamodb, kms, logs = (emulator.client(service) for service in ("dynamodb", "kms", "logs"))

        tables = dynamodb.list_tables()["TableNames"]
        kept = {name for name in ("ConnectionTable", "GrantTable", "TokenTable") if outputs[f"{name}Name"] in tables}
        assert kept == {"ConnectionTable", "GrantTable"}, kept
        keys = {
            name: kms.describe_key(KeyId=resources[name])["KeyMetadata"]["KeyState"]
            for name in ("DataKey", "GrantKey", "SealingKey")
        }
        assert keys == {"DataKey": "Enabled", "GrantKey": "Enabled", "SealingKey": "PendingDeletion"}, keys
        groups = {group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]}
        mine = {name for name in groups if name.startswith(f"/{stack.name}/")}
        assert mine == {outputs["AuditLogGroupName"]}, mine
        emulator.client("iam").get_role(RoleName=resources["ApiGatewayLogRole"])
        layer, _, number = outputs["ClientLayerArn"].rpartition(":")
        emulator.client("lambda").get_layer_version(LayerName=layer, VersionNumber=int(number))
        emulator.client("secretsmanager").describe_secret(SecretId=f"{stack.name}/{CONNECTION}")
        names = [function["FunctionName"] for function in emulator.client("lambda").list_functions()["Functions"]]
        assert not [name for name in names if name.startswith(f"{stack.name}-")], names

        token(account.broker(beside, ADMIN), CONNECTION)
