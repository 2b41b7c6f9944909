"""Which broker is meant: the stack of `make run`, one in AWS by its stack's name, or one by its URL."""

import argparse
import os
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from token_broker_cli.admin import AdminApi
from token_broker_cli.problems import Exit, Problem
from token_broker_cli.screen import Screen
from token_broker_cli.vault import ConnectionSecret
from token_broker_client.client import URL_VARIABLE

STACK_VARIABLE: Final = "TOKEN_BROKER_STACK"
DEFAULT_STACK: Final = "token-broker"
DEFAULT_PREFIX: Final = "token-broker"
# What `make run` listens on and whom it knows.
LOCAL_URL: Final = "http://127.0.0.1:3000"
LOCAL_AWS: Final = "http://127.0.0.1:4566"
LOCAL_REGION: Final = "eu-west-1"
LOCAL_KEY: Final = "local"
LOCAL_CALLER: Final = "arn:aws:iam::123456789012:role/local"
WHICH: Final = ("stack", "profile", "region", "url", "secret_prefix", "aws_endpoint")
LOCAL_LOG: Final = Path("build/logs/GetTokenFunction.log")
CLIENT_CONFIG: Final = Config(connect_timeout=3, read_timeout=20, retries={"mode": "standard", "max_attempts": 3})


@dataclass(frozen=True)
class Target:
    """The broker that the options name, with all that is looked up only when it is needed."""

    options: argparse.Namespace
    screen: Screen

    @property
    def is_local(self) -> bool:
        return bool(self.options.local)

    def line(self, words: str) -> str:
        """A command to type for this same broker: with the options that name it, as they were given."""
        given = [
            f"--{name.replace('_', '-')} {shlex.quote(value)}"
            for name in WHICH
            if (value := getattr(self.options, name))
        ]
        return " ".join(["token-broker", words, *(["--local"] if self.is_local else []), *given])

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
        return boto3.Session(profile_name=options.profile, region_name=options.region)

    @cached_property
    def api(self) -> AdminApi:
        """The broker's HTTP interface."""
        return AdminApi(self._url(), session=self.session, region=self.options.region)

    def aws(self, service: Any) -> Any:
        """A client of an AWS service."""
        endpoint = self.options.aws_endpoint or (LOCAL_AWS if self.is_local else None)
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
        parameters = self.described.get("Parameters", ())
        found = {item["ParameterKey"]: item["ParameterValue"] for item in parameters}
        return str(found.get("SecretPrefix", DEFAULT_PREFIX))

    @cached_property
    def described(self) -> dict[str, Any]:
        """The stack as CloudFormation describes it. Raises Problem where there is none of that name."""
        try:
            answer = self.aws("cloudformation").describe_stacks(StackName=self.stack)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationError":
                raise
            region = self.session.region_name
            what = f"There is no stack {self.stack} in {region} for this AWS account."
            todo = "Name it with --stack, check --profile and --region, or give the broker's --url. Locally: --local."
            raise Problem(what, todo, exit_code=Exit.UNREACHABLE) from None
        stack: dict[str, Any] = answer["Stacks"][0]
        return stack

    @cached_property
    def resources(self) -> dict[str, str]:
        """What the stack is made of: physical ids by the template's names."""
        pages = self.aws("cloudformation").get_paginator("list_stack_resources").paginate(StackName=self.stack)
        listed = [item for page in pages for item in page["StackResourceSummaries"]]
        # moto lists what it did not make too, without a name.
        return {
            item["LogicalResourceId"]: item["PhysicalResourceId"] for item in listed if item.get("PhysicalResourceId")
        }

    def own_role(self) -> str | None:
        """The IAM role or user that asks now, as allowed_callers names it; None where AWS does not say."""
        if self.is_local:
            return LOCAL_CALLER
        try:
            arn: str = self.aws("sts").get_caller_identity()["Arn"]
        except ClientError:
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
        with self.screen.working(f"Looking for the stack {self.stack}"):
            outputs = {item["OutputKey"]: item["OutputValue"] for item in self.described.get("Outputs", ())}
        if "ApiUrl" not in outputs:
            what = f"The stack {self.stack} has no output ApiUrl: is it a token broker's?"
            raise Problem(what, "Name the right one with --stack, or give --url.", exit_code=Exit.UNREACHABLE)
        return str(outputs["ApiUrl"])
