"""The five simulated connections that are there from the start: made as a platform engineer makes them.

A secret by boto3, settings by a signed PUT through the front.
"""

import json
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

import boto3

from local.aws import REGION
from local.client import SignedClient
from local.process import StartFailed
from local.providers.accounts import DEFAULT_ACCOUNTS, default_settings
from local.sigv4 import Caller

NAME: Final = "demo"
DEMO_PROVIDERS: Final = ("unified-services", "unicommerce", "commerce-layer", "ucommerce", "unidy")


def aws_client(service: Any, endpoint_url: str) -> Any:
    """A boto3 client of the local endpoint that nothing in this shell's AWS configuration changes."""
    return boto3.client(
        service,
        endpoint_url=endpoint_url,
        region_name=REGION,
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


def create_demo_connections(
    *,
    broker_url: str,
    endpoint_url: str,
    providers_url: str,
    secret_prefix: str,
    caller: Caller,
    settings: Mapping[str, Mapping[str, Any]],
) -> None:
    """One connection per provider, named `demo` and open to `caller`; `settings` adds to a provider's default ones.

    Raises StartFailed where the broker does not take one.
    """
    secrets = aws_client("secretsmanager", endpoint_url)
    with closing(SignedClient(broker_url, caller)) as client:
        for provider in DEMO_PROVIDERS:
            secrets.create_secret(
                Name=f"{secret_prefix}/{provider}/{NAME}", SecretString=json.dumps(DEFAULT_ACCOUNTS[provider]["secret"])
            )
            body = {
                "allowed_callers": [caller.arn],
                **default_settings(provider, providers_url),
                **settings.get(provider, {}),
            }
            answer = client.call("PUT", f"/v1/connections/{provider}/{NAME}", body=body)
            if answer.status != 201:
                raise StartFailed(f"PUT /v1/connections/{provider}/{NAME} answered {answer.status}: {answer.body}")
