"""Three handlers with the broker's resolver, each with one log line (caller and connection) and one metric.

`nothing` responds at once. `reading` makes the two calls that a token from the table needs. `fetching` is a broker
without a table: it reads the secret and asks the provider each time. The third-party imports are those of a token
request from the table. The variable FLOOR (JSON) says what to read.
"""

from __future__ import annotations

import base64
import json
import os
from functools import lru_cache
from typing import Any

import boto3
from aws_encryption_sdk import EncryptionSDKClient  # noqa: F401  # imported, as the broker imports it, and not used
from aws_encryption_sdk.key_providers.kms import KMSMasterKey  # noqa: F401  # as above
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.metrics import MetricUnit, single_metric
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.config import Config

ROUTE = "/v1/tokens/<provider>/<connection>"
CONFIG = Config(connect_timeout=1, read_timeout=2, retries={"mode": "standard", "total_max_attempts": 3})

logger = Logger(service="floor")
nothing_app, reading_app, fetching_app = APIGatewayRestResolver(), APIGatewayRestResolver(), APIGatewayRestResolver()


@nothing_app.get(ROUTE)
def respond_at_once(provider: str, connection: str) -> Response[str]:
    """An empty object."""
    return _response(nothing_app, provider, connection, {})


@reading_app.get(ROUTE)
def read(provider: str, connection: str) -> Response[str]:
    """One BatchGetItem of settings, token and health, and one Decrypt. Returns item count and key length."""
    wanted = _wanted()
    response = client("dynamodb").batch_get_item(RequestItems=wanted["items"])
    opened = client("kms").decrypt(
        CiphertextBlob=base64.b64decode(wanted["sealed"]), EncryptionContext=wanted["context"], KeyId=wanted["key"]
    )
    found = sum(len(items) for items in response["Responses"].values())
    return _response(reading_app, provider, connection, {"items": found, "key_bytes": len(opened["Plaintext"])})


@fetching_app.get(ROUTE)
def fetch(provider: str, connection: str) -> Response[str]:
    """One GetSecretValue and one token request (Unidy's: client credentials as JSON)."""
    import urllib3

    wanted = _wanted()
    secret = json.loads(client("secretsmanager").get_secret_value(SecretId=wanted["secret"])["SecretString"])
    fields = {"grant_type": "client_credentials", "scope": wanted["scope"], **secret}
    with urllib3.PoolManager(timeout=8, retries=False) as manager:
        response = manager.request("POST", wanted["token_url"], json=fields)
    if response.status != 200:
        raise RuntimeError(f"the provider responded with {response.status}")
    return _response(fetching_app, provider, connection, response.json())


@logger.inject_lambda_context(clear_state=True)
def nothing(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """API Gateway's proxy event in, its proxy response out."""
    return nothing_app.resolve(event, context)


@logger.inject_lambda_context(clear_state=True)
def reading(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """API Gateway's proxy event in, its proxy response out."""
    return reading_app.resolve(event, context)


@logger.inject_lambda_context(clear_state=True)
def fetching(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """API Gateway's proxy event in, its proxy response out."""
    return fetching_app.resolve(event, context)


@lru_cache
def client(service: Any) -> Any:
    """One client of each service, with the broker's time-outs and retries."""
    return boto3.client(service, config=CONFIG)


@lru_cache
def _wanted() -> dict[str, Any]:
    wanted: dict[str, Any] = json.loads(os.environ["FLOOR"])
    return wanted


def _response(app: APIGatewayRestResolver, provider: str, connection: str, body: dict[str, Any]) -> Response[str]:
    request = app.current_event.request_context
    logger.info(
        "answered",
        caller=request.identity.user_arn,
        request_id=request.request_id,
        provider=provider,
        connection=connection,
    )
    with single_metric(name="Answers", unit=MetricUnit.Count, value=1) as metric:
        metric.add_dimension("provider", provider)
        metric.add_dimension("source", "floor")
    return Response(200, "application/json", json.dumps(body))
