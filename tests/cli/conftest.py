"""One local stack for all tests of the command line. Each test leaves it as it was."""

from __future__ import annotations

import io
import json
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from local.aws import REGION
from local.client import BrokerResponse, SignedClient
from local.connections import NAME, aws_client
from local.providers import DEFAULT_ACCOUNTS, default_settings
from local.resources import STACK_NAME
from local.sigv4 import LOCAL
from local.stack import Options, Stack
from token_broker_cli.app import main

from .terminal import Terminal


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Cli:
    """The command line, for the test's stack as for `make run`."""

    running: Stack
    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch

    @property
    def options(self) -> list[str]:
        return ["--local", "--url", self.running.url, "--aws-endpoint", self.running.endpoint_url]

    def __call__(self, *arguments: str, stdin: str = "") -> Result:
        """Runs a command without a terminal."""
        return self.plain(*arguments, *self.options, stdin=stdin)

    def plain(self, *arguments: str, stdin: str = "") -> Result:
        """Runs a command without options that name a broker."""
        self.capture.readouterr()
        with self.patch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            code = main(list(arguments))
        out, err = self.capture.readouterr()
        return Result(code, out, err)

    def terminal(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Terminal:
        """Runs a command on a terminal."""
        return Terminal([*arguments, *self.options], environment or {"PATH": os.environ["PATH"]})

    # Below: the broker and Secrets Manager without the command line.

    def request(self, method: str, path: str, body: Any = None) -> BrokerResponse:
        with closing(SignedClient(self.running.url)) as client:
            return client.call(method, path, body=body)

    def token(self, provider: str, name: str) -> BrokerResponse:
        return self.request("GET", f"/v1/tokens/{provider}/{name}")

    def settings(self, provider: str, name: str) -> Any:
        """The stored settings; None if there is no such connection."""
        return self.request("GET", f"/v1/connections/{provider}/{name}").body.get("settings")

    @property
    def secrets(self) -> Any:
        return aws_client("secretsmanager", self.running.endpoint_url)

    def secret_id(self, provider: str, name: str) -> str:
        return f"{self.running.resources.secret_prefix}/{provider}/{name}"

    def stages(self, provider: str, name: str) -> dict[str, str] | None:
        """A secret's versions by stage; None if there is no secret."""
        wanted = self.secret_id(provider, name)
        for secret in _all_secrets(self.secrets):
            if secret["Name"] == wanted:
                versions: Mapping[str, list[str]] = secret["SecretVersionsToStages"]
                return {stage: version for version, stages in versions.items() for stage in stages}
        return None

    def value(self, provider: str, name: str) -> Any:
        """The current credentials."""
        # Without a stage, moto returns the first version.
        response = self.secrets.get_secret_value(SecretId=self.secret_id(provider, name), VersionStage="AWSCURRENT")
        return json.loads(response["SecretString"])

    def connect(self, provider: str = "unidy", credentials: Mapping[str, str] | None = None, **settings: Any) -> str:
        """Makes a connection without the command line. Returns its name."""
        name = new_name()
        secret = DEFAULT_ACCOUNTS[provider]["secret"] if credentials is None else credentials
        self.secrets.create_secret(Name=self.secret_id(provider, name), SecretString=json.dumps(secret))
        body = {**self.plain_settings(provider), **settings}
        assert self.request("PUT", f"/v1/connections/{provider}/{name}", body).status == 201
        return name

    def plain_settings(self, provider: str) -> dict[str, Any]:
        return {"allowed_callers": [LOCAL.arn], **default_settings(provider, self.running.providers_url)}


def new_name() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The local stack without schedule and queue, so that only the tests change it."""
    logs = tmp_path_factory.mktemp("logs")
    with Stack(Options(api_environments=2, worker_environments=1, ticks=False, log_dir=logs)) as stack:
        yield stack


def physical(running: Stack, logical: str) -> str:
    """The id of one of the stack's resources."""
    cloudformation = aws_client("cloudformation", running.endpoint_url)
    response = cloudformation.describe_stack_resources(StackName=STACK_NAME)
    (found,) = (item for item in response["StackResources"] if item.get("LogicalResourceId") == logical)
    return str(found["PhysicalResourceId"])


@pytest.fixture
def cli(running: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """The command line. What a test adds is removed after it."""
    for name in ("TOKEN_BROKER_URL", "TOKEN_BROKER_STACK", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    cli = Cli(running, capsys, monkeypatch)
    yield cli
    for item in cli.request("GET", "/v1/connections").body["connections"]:
        if item["connection"] != NAME:
            cli.request("DELETE", f"/v1/connections/{item['provider']}/{item['connection']}")
    for secret in _all_secrets(cli.secrets):
        if not secret["Name"].endswith(f"/{NAME}"):
            cli.secrets.delete_secret(SecretId=secret["Name"], ForceDeleteWithoutRecovery=True)
    for slug in DEFAULT_ACCOUNTS:
        running.providers.simulator(slug).reset()


@pytest.fixture
def in_aws(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options and environment that name the broker as one in AWS: credentials, region, stack and URL."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", LOCAL.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", LOCAL.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", cli.running.endpoint_url)
    return ["--region", REGION, "--stack", STACK_NAME, "--url", cli.running.url]


def _all_secrets(client: Any) -> list[Any]:
    return [secret for page in client.get_paginator("list_secrets").paginate() for secret in page["SecretList"]]
