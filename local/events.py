"""Makes events as AWS does: API Gateway REST proxy (payload 1.0), Scheduler, SQS, Secrets Manager via CloudTrail."""

import json
import secrets
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

from local.aws import ACCOUNT_ID, REGION
from local.sigv4 import Caller, ReceivedRequest

API_ID: Final = "local0api0"
SOURCE_IP: Final = "127.0.0.1"
# API Gateway does not pass these on: the signature (under AWS_IAM), and headers of the HTTP connection.
DROPPED_HEADERS: Final = frozenset({"authorization", "connection", "expect", "keep-alive", "te", "transfer-encoding"})
# Fields of requestContext.identity that are null without Cognito and an organisation.
UNUSED_IDENTITY: Final = (
    "cognitoAuthenticationProvider",
    "cognitoAuthenticationType",
    "cognitoIdentityId",
    "cognitoIdentityPoolId",
    "principalOrgId",
)

# Those that are null without a signature.
OF_A_CALLER: Final = ("accessKey", "accountId", "caller", "user", "userArn")

Event = dict[str, Any]


def api_gateway_event(
    request: ReceivedRequest,
    *,
    resource: str,
    path_parameters: Mapping[str, str],
    stage: str,
    caller: Caller | None,
    request_id: str,
    now: datetime,
) -> Event:
    """The Lambda proxy event of one request by `caller`; None on a route without a signature.

    `path_parameters` are not decoded yet.
    """
    multi_headers = _grouped((k, v) for k, v in request.headers.items() if k.lower() not in DROPPED_HEADERS)
    multi_headers |= {"X-Forwarded-For": [SOURCE_IP], "X-Forwarded-Port": ["443"], "X-Forwarded-Proto": ["https"]}
    multi_query = _grouped(request.parameters)
    host = request.headers.get("Host", "")
    return {
        "resource": resource,
        "path": request.path,
        "httpMethod": request.method,
        "headers": _last(multi_headers) or None,
        "multiValueHeaders": multi_headers or None,
        "queryStringParameters": _last(multi_query) or None,
        "multiValueQueryStringParameters": multi_query or None,
        "pathParameters": {name: unquote(value) for name, value in path_parameters.items()} or None,
        "stageVariables": None,
        "requestContext": {
            "resourceId": resource.strip("/").replace("/", "-") or "root",
            "resourcePath": resource,
            "httpMethod": request.method,
            "extendedRequestId": secrets.token_urlsafe(12),
            "requestTime": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "path": f"/{stage}{request.path}",
            "accountId": ACCOUNT_ID,
            "protocol": "HTTP/1.1",
            "stage": stage,
            "domainPrefix": host.partition(".")[0],
            "requestTimeEpoch": int(now.timestamp() * 1000),
            "requestId": request_id,
            "identity": {
                **dict.fromkeys(UNUSED_IDENTITY),
                **(caller.identity if caller is not None else dict.fromkeys(OF_A_CALLER)),
                "sourceIp": SOURCE_IP,
                "userAgent": request.headers.get("User-Agent"),
            },
            "domainName": host,
            "deploymentId": "local",
            "apiId": API_ID,
        },
        "body": request.body.decode("utf-8", "replace") if request.body else None,
        "isBase64Encoded": False,
    }


def schedule_event(template: str, scheduled_at: datetime) -> Event:
    """The event with which EventBridge Scheduler invokes the sweep: the schedule's Input with the scheduled time."""
    event: Event = json.loads(template.replace("<aws.scheduler.scheduled-time>", _timestamp(scheduled_at)))
    return event


def queue_event(message: Mapping[str, Any], queue_arn: str) -> Event:
    """The SQS event of one received message, which has boto3's form and all its attributes."""
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": dict(message.get("Attributes", {})),
                "messageAttributes": {},
                "md5OfBody": message["MD5OfBody"],
                "eventSource": "aws:sqs",
                "eventSourceARN": queue_arn,
                "awsRegion": REGION,
            }
        ]
    }


def secret_event(event_name: str, arn: str, now: datetime, *, version_id: str | None = None) -> Event:
    """The EventBridge event of a Secrets Manager call that CloudTrail recorded. CloudTrail spells the key aRN."""
    response = {"aRN": arn, "name": arn.rpartition(":secret:")[2].rpartition("-")[0]}
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "AWS API Call via CloudTrail",
        "source": "aws.secretsmanager",
        "account": ACCOUNT_ID,
        "time": _timestamp(now),
        "region": REGION,
        "resources": [],
        "detail": {
            "eventVersion": "1.11",
            "userIdentity": {"type": "AssumedRole", "accountId": ACCOUNT_ID},
            "eventTime": _timestamp(now),
            "eventSource": "secretsmanager.amazonaws.com",
            "eventName": event_name,
            "awsRegion": REGION,
            "sourceIPAddress": SOURCE_IP,
            "requestParameters": {"secretId": arn},
            "responseElements": response | ({"versionId": version_id} if version_id else {}),
            "requestID": str(uuid.uuid4()),
            "eventID": str(uuid.uuid4()),
            "readOnly": False,
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": ACCOUNT_ID,
            "eventCategory": "Management",
        },
    }


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, value in pairs:
        grouped.setdefault(name, []).append(value)
    return grouped


def _last(grouped: Mapping[str, list[str]]) -> dict[str, str]:
    return {name: values[-1] for name, values in grouped.items()}


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
