"""A function that calls the broker: the sample of docs/service-developers.md, deployed as a stack of its own."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Final

from local.process import ROOT
from tests.rehearsal.account import ADMIN, CALLER, Account
from tests.rehearsal.deployment import Stack, deploy_consumer

PAGE: Final = ROOT / "docs" / "service-developers.md"
FUNCTION: Final = "ListUsersFunction"
STACK: Final = "list-users"
# Lambda's runtime does not bring requests. The function does, as the page says.
BROUGHT: Final = ("requests", "charset_normalizer", "idna", "certifi")
HEAD: Final = """\
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  TokenBrokerClientLayerArn: { Type: String }
  TokenBrokerUrl: { Type: String }
  TokenBrokerApiArn: { Type: String }
Resources:
"""


def deploy_and_invoke(account: Account, stack: Stack) -> str:
    """Deploys the sample with the stack's outputs and invokes it. Returns what it was told by the provider's API."""
    outputs = stack.outputs
    directory = write_sample(account.emulator.log.parent / "consumer")
    deploy_consumer(
        account.emulator,
        directory,
        STACK,
        {
            "TokenBrokerClientLayerArn": outputs["ClientLayerArn"],
            "TokenBrokerUrl": stack.api_url,
            "TokenBrokerApiArn": outputs["ApiArn"],
        },
    )
    resources = Stack(account.emulator, STACK).resources
    arns = [account.role_arn(name) for name in (CALLER, ADMIN, resources[f"{FUNCTION}Role"])]
    account.put_settings(stack, "unidy", "demo", arns)
    invoked = account.emulator.client("lambda").invoke(FunctionName=resources[FUNCTION], Payload=b"{}")
    result = json.loads(invoked["Payload"].read())
    assert "FunctionError" not in invoked, result
    assert result["provider"] == "unidy", result
    return f"token {result['token_id']}"


def write_sample(directory: Path) -> Path:
    """Writes the page's template and code, and what the code needs beside the layer. Returns the directory."""
    page = PAGE.read_text(encoding="utf-8")
    code_directory = directory / "list_users"
    code_directory.mkdir(parents=True)
    (directory / "template.yaml").write_text(HEAD + _block(page, "yaml", FUNCTION), encoding="utf-8")
    (code_directory / "app.py").write_text(_block(page, "python", "def lambda_handler"), encoding="utf-8")
    for package in BROUGHT:
        spec = importlib.util.find_spec(package)
        assert spec, package
        assert spec.origin, package
        shutil.copytree(Path(spec.origin).parent, code_directory / package)
    return directory


def _block(page: str, language: str, content: str) -> str:
    """The page's first code block of this language with this content."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    return next(block for block in blocks if content in block)
