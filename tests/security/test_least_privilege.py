"""A function's role grants exactly what the function calls, and what AWS itself calls with that role.

Every integration test also checks that no grant is missing: see tests/integration/conftest.py.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import token_broker.adapters
from local.events import secret_event
from local.resources import STACK_NAME, LocalStack
from tests.integration.handlers.consents import NAME as CONSENTED
from tests.integration.handlers.consents import callback, consents_of
from tests.integration.handlers.world import World
from tests.security.aws_needs import INTERFACES, NEEDS
from tests.security.least_privilege import Call, Roles, recording

GET, RENEW, MANAGE = "GetTokenFunction", "RenewTokenFunction", "ManageConnectionsFunction"
SWEEP, CHANGED = "SweepDueFunction", "SecretChangedFunction"
OVERDUE = {"due_at": -timedelta(minutes=5), "renew_at": -timedelta(minutes=5)}
EXPIRED = {**OVERDUE, "issued_at": -timedelta(hours=1), "expires_at": -timedelta(minutes=1)}


def run_sweep_and_worker(world: World) -> None:
    """Runs the sweep, then the worker on what it queued."""
    world.sweep()
    for message in world.aws.messages():
        world.work(message)


def get_and_renew(world: World) -> None:
    """First token, report, table, overdue, renewal; with a login and a refresh among them."""
    for provider in ("unidy", "ucommerce", "unicommerce", "commerce-layer"):
        name = world.connect(provider)
        first = world.api.token(name)
        world.functions.restart()
        assert world.api.token(name, rejected=first.body["token_id"]).status == 200
        world.aws.change_token_item(name, **OVERDUE)
        world.functions.restart()
        assert world.api.token(name).body["source"] == "table"
        world.aws.change_token_item(name, **OVERDUE)
        run_sweep_and_worker(world)


def sign(world: World) -> None:
    """A KMS key signs for a caller and for the worker."""
    name = world.connect_with_kms("oauth2-jwt-bearer")
    assert world.api.token(name).status == 200
    world.aws.change_token_item(name, **OVERDUE)
    run_sweep_and_worker(world)


def fail(world: World) -> None:
    """Every kind of failure, for callers and the worker, then a changed secret."""
    faults: list[tuple[str, dict[str, Any]]] = [
        ("unicommerce", {"kind": "status", "status": 503}),
        ("unicommerce", {"kind": "status", "status": 401, "body": {"status": "INVALID_CREDENTIALS"}}),
        ("unicommerce", {"kind": "reset", "when": "after"}),
        ("unidy", {"kind": "status", "status": 400, "body": {"error": "invalid_scope"}}),
        ("unidy", {"kind": "malformed"}),
        ("commerce-layer", {"kind": "status", "status": 429}),
    ]
    for number, (provider, fault) in enumerate(faults):
        name = world.connect(provider, name=f"failing-{number}")
        assert world.api.token(name).status == 200
        for past in (OVERDUE, EXPIRED):
            world.aws.change_token_item(name, **past)
            world.simulator(provider).fail(**fault)
            run_sweep_and_worker(world)
            world.functions.restart()
            world.api.token(name)
            world.simulator(provider).clear_faults()
        world.aws.secrets.put_secret_value(SecretId=world.aws.secret_id(name), SecretString="{}")
        send_secret_event(world, name)
        run_sweep_and_worker(world)


def scope_sets(world: World) -> None:
    """Scope sets are counted, for a caller and for the worker."""
    name = world.connect("oauth2", issue_revokes_previous=True)
    assert world.api.token(name).status == 200
    world.aws.change_token_item(name, **EXPIRED)
    run_sweep_and_worker(world)


def leased_key(world: World) -> None:
    """The worker finds a lease and queues the message again."""
    name = world.connect("unidy")
    assert world.api.token(name).status == 200
    world.aws.change_token_item(name, **OVERDUE)
    world.aws.take_lease(name, timedelta(seconds=15))
    (item,) = world.aws.token_items(name)
    assert world.work(world.aws.renewal_message(item)) == {"batchItemFailures": []}


def try_credentials(world: World) -> None:
    name = world.connect("unidy", name="tried")
    world.aws.secrets.put_secret_value(
        SecretId=world.aws.secret_id(name), SecretString="{}", VersionStages=["AWSPENDING"]
    )
    for force in ("false", "true"):
        world.api.call("POST", f"/v1/connections/{name}/trial", {"force": force})
    assert world.api.call("POST", f"/v1/connections/{world.connect('unicommerce', name='tried')}/trial").status == 200


def consent(world: World) -> None:
    """A consent is renewed for a caller, by the sweep, and dropped. A pending version cannot be tried with it."""
    name = world.connect_with_consent()
    assert world.api.token(name).status == 200
    world.aws.change_token_item(name, **OVERDUE)
    run_sweep_and_worker(world)
    world.aws.make_consent_due(name)
    world.aws.lose_tokens()
    run_sweep_and_worker(world)
    assert len(world.aws.token_items(name)) == 1
    assert world.api.call("GET", f"/v1/connections/{name}").body["consent"] is not None
    assert world.api.call("DELETE", f"/v1/connections/{name}/grant").body["refresh_id"] is not None


def purge(world: World) -> None:
    """Tokens are revoked at once and by the worker, with existing and with deleted settings."""
    for deletes in ("tokens", "connections"):
        name = world.connect("unidy", name=f"purged-{deletes}")
        assert world.api.token(name).status == 200
        world.simulator("unidy").fail("status", on="revoke", status=503)
        assert world.api.call("DELETE", f"/v1/{deletes}/{name}").status == 200
        world.aws.make_retired_due(name)
        run_sweep_and_worker(world)
    name = world.connect("unidy", name="purged")
    assert world.api.token(name).status == 200
    assert world.api.call("DELETE", f"/v1/tokens/{name}").body["revoked"]


def obtain_consents(world: World) -> None:
    """A redirect, a device, a refused device, and another account, whose predecessor's tokens are dropped."""
    with consents_of(world) as consents:
        assert consents.call("POST", f"/{consents.approved()}/confirm").status == 200
        assert world.api.token(CONSENTED).status == 200
        consents.vendor.account = "account-2"
        assert consents.call("POST", f"/{consents.approved()}/confirm-new-account").body["dropped"] == 1
        started = consents.start()
        callback(world, CONSENTED, consents.vendor.authorize(started["authorize_url"]))
        assert consents.show(started["consent_id"])["state"] == "code_received"
        device = consents.start(flow="device")["consent_id"]
        for approved in (False, True):
            consents.vendor.approved = approved
            assert world.exchange(device) == {"batchItemFailures": []}
        assert consents.show(device)["state"] == "quarantined"


def manage(world: World) -> None:
    for suffix, query in (("connections", {"limit": "1"}), ("providers", {}), ("health", {})):
        assert world.api.call("GET", f"/v1/{suffix}", query).status == 200
    name = "oauth2/managed"
    assert world.api.put(name, world.settings("oauth2", keep_warm="always")).status == 201
    assert world.api.put(name, world.settings("oauth2", scope="api.write")).status == 200
    assert world.api.put(name, world.settings("oauth2"), If_Match='"other"').status == 412
    (_, first) = world.api.call("GET", f"/v1/connections/{name}/history").body["versions"]
    assert world.api.call("POST", f"/v1/connections/{name}/restore", {"version": first["version"]}).status == 200
    assert world.api.call("GET", f"/v1/connections/{name}").status == 200
    assert world.api.call("DELETE", f"/v1/connections/{name}").status == 200


def send_secret_event(world: World, name: str) -> None:
    arn = f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:{world.aws.secret_id(name)}-AbCdEf"
    event = secret_event("PutSecretValue", arn, datetime.now(UTC))
    world.functions.invoke(world.stack.secret_changed_function, event)


PATHS: Sequence[Callable[[World], None]] = (
    get_and_renew,
    sign,
    fail,
    scope_sets,
    leased_key,
    try_credentials,
    consent,
    purge,
    manage,
    obtain_consents,
)


@pytest.fixture(scope="module")
def roles() -> Roles:
    return Roles.of_template()


def drive(world: World) -> list[Call]:
    """All calls of the functions on all paths."""
    with recording() as log:
        for path in PATHS:
            world.aws.empty()
            world.functions.restart()
            path(world)
    return log.calls(world.stack)


def test_exactly_what_is_called_is_granted(world: World, roles: Roles) -> None:
    calls = drive(world)
    used: dict[str, set[tuple[str, str]]] = {role: set() for role in roles.by_role}
    for call in calls:
        resource = "secret:${SecretPrefix}/*" if call.resource.startswith("secret:") else call.resource
        used[roles.of_function[call.function]].add((call.action, resource))
    for role, needs in NEEDS.items():
        used[role] |= {(action, need.resource) for need in needs for action in need.actions}
    granted = {
        role: {(grant.action, grant.resource) for grant in grants if not grant.denies}
        for role, grants in roles.by_role.items()
    }
    assert {role: sorted(found) for role, found in used.items()} == {
        role: sorted(found) for role, found in granted.items()
    }
    assert [call for call in calls if not roles.permits(call, world.stack)] == []
    # Lambda needs the interface actions. They are denied to the function's code.
    for function in (GET, RENEW):
        own = {"lambda:SourceFunctionArn": ("arn:aws:lambda:eu-west-1:123456789012:function:any",)}
        assert not [a for a in INTERFACES.actions if roles.permits(Call(function, a, "*", own), world.stack)]
    # If this fails, a new call is on a path that this module does not run.
    assert {call.operation.lower() for call in calls} == calls_in_the_adapters()


def calls_in_the_adapters() -> set[str]:
    """The client methods that the source calls, without underscores. The Encryption SDK calls KMS itself."""
    found = {"decrypt", "generatedatakey"}
    for path in Path(str(token_broker.adapters.__file__)).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
                if name.lstrip("_") == "client":
                    found.add(node.func.attr.replace("_", ""))
    return found


def test_manage_connections_can_neither_read_a_secret_nor_open_a_token(roles: Roles, stack: LocalStack) -> None:
    context = {"kms:EncryptionContext:table": (stack.token_table,)}
    for action, resource in (
        ("secretsmanager:GetSecretValue", f"secret:{stack.secret_prefix}/unidy/demo"),
        ("kms:Decrypt", "SealingKey"),
        ("kms:GenerateDataKey", "SealingKey"),
    ):
        assert not roles.permits(Call(MANAGE, action, resource, context), stack)
    services = {grant.action.partition(":")[0] for grant in roles.by_role["ManageConnectionsRole"]}
    assert not services & {"kms", "secretsmanager", "iam", "sts", "lambda", "ssm"}


def test_no_action_has_a_wildcard_and_only_actions_without_resources_have_none(roles: Roles) -> None:
    grants = [grant for grants in roles.by_role.values() for grant in grants]
    assert len(grants) > 30
    assert [grant for grant in grants if "*" in grant.action] == []
    needed = {(action, need.resource) for needs in NEEDS.values() for need in needs for action in need.actions}
    unbounded = {(grant.action, grant.resource) for grant in grants if "*" in grant.resource}
    assert unbounded - needed == {
        ("secretsmanager:GetSecretValue", "secret:${SecretPrefix}/*"),
        ("kms:Sign", "kms:key/*"),
    }


@pytest.mark.parametrize("function", [GET, RENEW])
@pytest.mark.parametrize("action", ["kms:Decrypt", "kms:GenerateDataKey"])
def test_the_sealing_key_opens_only_values_of_token_keys(
    roles: Roles, stack: LocalStack, function: str, action: str
) -> None:
    """The key's policy has a condition for every pair of the encryption context."""
    good = {"table": stack.token_table, "key": "unidy/demo " + "0" * 64, "purpose": "access_token"}

    def permitted(**changes: str | None) -> bool:
        context = {name: value for name, value in {**good, **changes}.items() if value is not None}
        pairs = {f"kms:EncryptionContext:{name}": (value,) for name, value in context.items()}
        facts = {**pairs, "kms:EncryptionContextKeys": tuple(context)}
        return roles.permits(Call(function, action, "SealingKey", facts), stack)

    assert permitted()
    assert permitted(purpose="refresh_token")
    wrong: dict[str, str] = {"table": "another-table", "key": "host", "purpose": "anything"}
    for name, value in wrong.items():
        assert not permitted(**{name: value}), name
        assert not permitted(**{name: None}), name


def test_only_keys_under_the_stack_s_aliases_sign(roles: Roles, stack: LocalStack) -> None:
    good = {"kms:RequestAlias": f"alias/{STACK_NAME}/oauth2-jwt-bearer/demo", "kms:SigningAlgorithm": "ECDSA_SHA_256"}

    def permitted(function: str, **changes: str | None) -> bool:
        facts = {**good, **{name.replace("_", ":"): value for name, value in changes.items()}}
        given = {name: (value,) for name, value in facts.items() if value is not None}
        return roles.permits(Call(function, "kms:Sign", "kms:key/*", given), stack)

    assert [function for function in roles.of_function if permitted(function)] == [GET, RENEW]
    for function in (GET, RENEW):
        for alias in (f"alias/{STACK_NAME}-other/a/b", f"alias/{STACK_NAME}", "alias/other/a/b", None):
            assert not permitted(function, kms_RequestAlias=alias), alias
        for algorithm in ("RSASSA_PSS_SHA_512", None):
            assert not permitted(function, kms_SigningAlgorithm=algorithm), algorithm


@pytest.mark.parametrize(("function", "stages"), [(GET, {"AWSCURRENT", "AWSPENDING"}), (RENEW, {"AWSCURRENT"})])
def test_only_the_used_stages_of_a_secret_can_be_read(
    roles: Roles, stack: LocalStack, function: str, stages: set[str]
) -> None:
    readable = {
        stage
        for stage in ("AWSCURRENT", "AWSPENDING", "AWSPREVIOUS")
        if roles.permits(
            Call(
                function,
                "secretsmanager:GetSecretValue",
                f"secret:{stack.secret_prefix}/unidy/demo",
                {"secretsmanager:VersionStage": (stage,)},
            ),
            stack,
        )
    }
    assert readable == stages


@pytest.mark.parametrize("function", [GET, RENEW])
def test_secrets_outside_the_prefix_cannot_be_read(roles: Roles, stack: LocalStack, function: str) -> None:
    for name in ("other/unidy/demo", f"{stack.secret_prefix}-other/unidy/demo", stack.secret_prefix, "unidy/demo"):
        facts = {"secretsmanager:VersionStage": ("AWSCURRENT",)}
        assert not roles.permits(Call(function, "secretsmanager:GetSecretValue", f"secret:{name}", facts), stack)
