"""The broker that the options name: the stack of `make run`, a stack in AWS, or a URL."""

import argparse
import os
import shlex
import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from token_broker_cli.admin_api import AdminApi
from token_broker_cli.connection_secret import ConnectionSecret
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.screen import Screen
from token_broker_client.client import URL_VARIABLE

STACK_VARIABLE: Final = "TOKEN_BROKER_STACK"
DEFAULT_STACK: Final = "token-broker"
DEFAULT_PREFIX: Final = "token-broker"
# The addresses of `make run`, its key and its caller.
LOCAL_URL: Final = "http://127.0.0.1:3000"
LOCAL_AWS: Final = "http://127.0.0.1:4566"
LOCAL_REGION: Final = "eu-west-1"
LOCAL_KEY: Final = "local"
LOCAL_CALLER: Final = "arn:aws:iam::123456789012:role/local"
TARGET_OPTIONS: Final = ("stack", "profile", "region", "url", "secret_prefix", "aws_endpoint")
LOCAL_LOGS: Final = Path("build/logs")
CLIENT_CONFIG: Final = Config(connect_timeout=3, read_timeout=20, retries={"mode": "standard", "max_attempts": 3})


@dataclass(frozen=True)
class Target:
    """The broker that the options name. Everything is looked up when it is first needed."""

    options: argparse.Namespace
    screen: Screen
    given: argparse.Namespace | None = None  # the options as they were typed, if a file adds to them
    # A session makes one client at a time. The console has several threads.
    _session_lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def as_given(self) -> argparse.Namespace:
        return self.given or self.options

    @property
    def is_local(self) -> bool:
        return bool(self.options.local)

    def command(self, words: str) -> str:
        """A command line for the same broker: `words` with the options that name it, as they were given."""
        given = {name: getattr(self.as_given, name) for name in ("target", *TARGET_OPTIONS)}
        options = [f"--{name.replace('_', '-')} {shlex.quote(value)}" for name, value in given.items() if value]
        if self.as_given.local:
            options.insert(0, "--local")
        return " ".join(["token-broker", words, *options])

    @property
    def stack(self) -> str:
        """The stack's name in CloudFormation."""
        return self.options.stack or os.environ.get(STACK_VARIABLE) or DEFAULT_STACK

    @cached_property
    def session(self) -> boto3.Session:
        """The AWS credentials: those of --profile or of the environment, or the local stack's key."""
        options = self.options
        if self.is_local:
            return boto3.Session(LOCAL_KEY, LOCAL_KEY, region_name=options.region or LOCAL_REGION)
        # boto3 itself does not read AWS_REGION.
        region = options.region or os.environ.get("AWS_REGION")
        return boto3.Session(profile_name=options.profile, region_name=region)

    @cached_property
    def api(self) -> AdminApi:
        """The broker's HTTP interface."""
        return AdminApi(self._url(), session=self.session, region=self.options.region)

    def aws(self, service: Any) -> Any:
        """A client of an AWS service."""
        endpoint = self.options.aws_endpoint or (LOCAL_AWS if self.is_local else None)
        with self._session_lock:
            return self.session.client(service, endpoint_url=endpoint, config=CLIENT_CONFIG)

    def secret(self, provider: str, name: str) -> ConnectionSecret:
        """A connection's secret, whether it exists or not."""
        return ConnectionSecret(self.aws("secretsmanager"), f"{self.secret_prefix}/{provider}/{name}")

    @cached_property
    def secret_prefix(self) -> str:
        """--secret-prefix, else the stack's parameter, else the template's default."""
        if self.options.secret_prefix:
            return str(self.options.secret_prefix)
        if self.is_local or self._given_url:
            return DEFAULT_PREFIX
        parameters = self.stack_description.get("Parameters", ())
        found = {item["ParameterKey"]: item["ParameterValue"] for item in parameters}
        return str(found.get("SecretPrefix", DEFAULT_PREFIX))

    @cached_property
    def stack_description(self) -> dict[str, Any]:
        """CloudFormation's description of the stack. Raises Problem if there is no stack of that name."""
        try:
            response = self.aws("cloudformation").describe_stacks(StackName=self.stack)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            region = self.session.region_name
            what = f"There is no stack {self.stack} in {region} for this AWS account."
            todo = "Use --stack, check --profile and --region, or give the broker's --url. For `make run`: --local."
            raise Problem(what, todo, exit_code=Exit.UNREACHABLE) from None
        stack: dict[str, Any] = response["Stacks"][0]
        return stack

    @cached_property
    def resources(self) -> dict[str, str]:
        """The stack's resources: physical ids by the template's names."""
        pages = self.aws("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.stack)
        listed = [item for page in pages for item in page["StackResourceSummaries"]]
        # moto also lists resources that it did not create. They have no physical id.
        return {
            item["LogicalResourceId"]: item["PhysicalResourceId"] for item in listed if item.get("PhysicalResourceId")
        }

    def own_arn(self) -> str | None:
        """The IAM role or user of the credentials, as allowed_callers names it; None if AWS does not say."""
        if self.is_local:
            return LOCAL_CALLER
        try:
            arn: str = self.aws("sts").get_caller_identity()["Arn"]
        except (ClientError, BotoCoreError):
            return None
        head, _, session = arn.partition(":assumed-role/")
        return f"{head.replace(':sts:', ':iam:')}:role/{session.partition('/')[0]}" if session else arn

    @property
    def _given_url(self) -> str | None:
        return self.options.url or (None if self.is_local else os.environ.get(URL_VARIABLE))

    def _url(self) -> str:
        if self._given_url:
            return self._given_url
        if self.is_local:
            return LOCAL_URL
        with self.screen.progress(f"Looking for the stack {self.stack}"):
            outputs = {item["OutputKey"]: item["OutputValue"] for item in self.stack_description.get("Outputs", ())}
        if "ApiUrl" not in outputs:
            what = f"The stack {self.stack} has no output ApiUrl. Is it a token broker's?"
            raise Problem(what, "Name the right one with --stack, or give --url.", exit_code=Exit.UNREACHABLE)
        return str(outputs["ApiUrl"])
