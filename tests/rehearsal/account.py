"""The AWS account of a rehearsal: roles that call the broker, connections with their secrets, and the stored tokens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from local.aws import ACCOUNT_ID
from local.client import BrokerResponse, SignedClient
from local.connections import DEMO_PROVIDERS
from local.providers import DEFAULT_ACCOUNTS, ProvidersServer, default_settings
from local.sigv4 import Caller
from tests.rehearsal.deployment import Stack
from tests.rehearsal.emulator import Emulator

PATIENCE_S: Final = 120.0  # a minute for the schedule, and slow machines
CALLER, STRANGER, ADMIN = "caller", "stranger", "admin"


@dataclass(frozen=True)
class Credentials:
    """Temporary credentials of a role."""

    key: str
    secret: str = field(repr=False)
    token: str = field(repr=False)


class Account:
    """What a platform engineer does beside deploying, with the emulator's APIs."""

    def __init__(self, emulator: Emulator, providers: ProvidersServer) -> None:
        self.emulator = emulator
        self.providers = providers

    @staticmethod
    def role_arn(name: str) -> str:
        return f"arn:aws:iam::{ACCOUNT_ID}:role/{name}"

    def make_role(self, name: str, policy: Mapping[str, Any] | None) -> str:
        """A role that the account's users may assume, with one inline policy. Returns its ARN."""
        iam = self.emulator.client("iam")
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT_ID}:root"}}
            ],
        }
        arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        if policy is not None:
            iam.put_role_policy(RoleName=name, PolicyName="rehearsal", PolicyDocument=json.dumps(policy))
        return arn

    def allow(self, role: str, resource: str) -> None:
        """Lets a role call another API, too."""
        statement = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": resource}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.emulator.client("iam").put_role_policy(RoleName=role, PolicyName="beside", PolicyDocument=document)

    def assume(self, role: str) -> Credentials:
        """A role's credentials; a function's role too, because the emulator's root user may assume any."""
        found = self.emulator.client("sts").assume_role(RoleArn=self.role_arn(role), RoleSessionName="rehearsal")[
            "Credentials"
        ]
        return Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])

    def broker(self, stack: Stack, role: str) -> SignedClient:
        """The stack's API, called by a role."""
        credentials = self.assume(role)
        caller = Caller(credentials.key, credentials.secret, self.role_arn(role))
        return SignedClient(stack.api_url, caller, session_token=credentials.token, ca=self.emulator.certificate)

    def secret_name(self, stack: Stack, provider: str, name: str) -> str:
        parameters = {item["ParameterKey"]: item["ParameterValue"] for item in stack.description["Parameters"]}
        return f"{parameters['SecretPrefix']}/{provider}/{name}"

    def connect(self, stack: Stack, provider: str, name: str, callers: Sequence[str], **settings: Any) -> None:
        """A connection to the provider's demo account: its secret, and its settings through the API."""
        secret = self.secret_name(stack, provider, name)
        credentials = json.dumps(DEFAULT_ACCOUNTS[provider]["secret"])
        self.emulator.client("secretsmanager").create_secret(Name=secret, SecretString=credentials)
        self.put_settings(stack, provider, name, callers, **settings)

    def put_settings(self, stack: Stack, provider: str, name: str, callers: Sequence[str], **settings: Any) -> None:
        body = {**default_settings(provider, self.providers.url), "allowed_callers": list(callers), **settings}
        response = self.broker(stack, ADMIN).call("PUT", f"/v1/connections/{provider}/{name}", body=body)
        assert response.status in (200, 201), response.body

    def connect_all(self, stack: Stack, callers: Sequence[str]) -> None:
        for provider in DEMO_PROVIDERS:
            self.connect(stack, provider, "demo", callers)

    def make_due(self, stack: Stack, connection: str) -> None:
        """Moves the moments of a connection's tokens back, as if their lifetimes had nearly passed."""
        dynamodb, table = self.emulator.client("dynamodb"), stack.outputs["TokenTableName"]
        found = dynamodb.query(
            TableName=table,
            KeyConditionExpression="pk = :pk AND begins_with(sk, :sk)",
            ExpressionAttributeValues={":pk": {"S": f"C#{connection}"}, ":sk": {"S": "T#"}},
        )
        now_ms = str(int(datetime.now(UTC).timestamp() * 1000))
        for item in found["Items"]:
            dynamodb.update_item(
                TableName=table,
                Key={"pk": item["pk"], "sk": item["sk"]},
                UpdateExpression="SET due_at = :now, renew_at = :now",
                ExpressionAttributeValues={":now": {"N": now_ms}},
            )

    def is_allowed(self, role: str, service: str, operation: str, **arguments: Any) -> bool:
        """Whether IAM lets the role do it. An error that comes after IAM's decision counts as allowed."""
        credentials = self.assume(role)
        client = self.emulator.client(service, credentials.key, credentials.secret, credentials.token)
        try:
            getattr(client, operation)(**arguments)
        except ClientError as error:
            return error.response["Error"]["Code"] not in ("AccessDenied", "AccessDeniedException")
        return True


def token(client: SignedClient, connection: str) -> dict[str, Any]:
    """The connection's token. Raises AssertionError with the problem if there is none."""
    response = client.call("GET", f"/v1/tokens/{connection}")
    assert response.status == 200, f"{response.status} {response.body}"
    body: dict[str, Any] = response.body
    return body


def stored_token_id(admin: SignedClient, connection: str) -> str | None:
    """The token_id that the broker has stored. Looking does not count as use, so it queues no renewal."""
    response = admin.call("GET", f"/v1/connections/{connection}")
    tokens = response.body["tokens"]
    found: str | None = tokens[0]["token_id"] if tokens else None
    return found


def wait_for(what: str, found: Callable[[], bool], patience_s: float = PATIENCE_S) -> float:
    """Waits until `found()`. Returns the seconds. Raises AssertionError."""
    started, pause = time.monotonic(), threading.Event()
    while not found():
        if time.monotonic() - started > patience_s:
            raise AssertionError(f"{what}: not within {patience_s:.0f} s")
        pause.wait(0.5)
    return time.monotonic() - started


def wait_for_another_token(
    admin: SignedClient, connection: str, before: str | None, patience_s: float = PATIENCE_S
) -> None:
    """Waits until the broker has stored another token, without asking for one. Raises AssertionError."""
    wait_for(f"another token of {connection}", lambda: stored_token_id(admin, connection) != before, patience_s)


def code(response: BrokerResponse) -> tuple[int, str | None]:
    """Status and error code of a response."""
    return response.status, response.body.get("code") if isinstance(response.body, dict) else None
