"""Creates the demo connections, one per provider, as a platform engineer would: a secret by boto3, a signed PUT."""

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
    """A boto3 client of the local endpoint. The shell's AWS configuration does not affect it."""
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
    """One connection per provider, named `demo` and open to `caller`; `settings` adds to a provider's defaults.

    Raises StartFailed if the broker does not accept one.
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
            response = client.call("PUT", f"/v1/connections/{provider}/{NAME}", body=body)
            if response.status != 201:
                raise StartFailed(f"PUT /v1/connections/{provider}/{NAME}: status {response.status}: {response.body}")
