"""Verifies AWS Signature Version 4 as API Gateway does for an AWS_IAM route: in the header or in the query.

The signature is computed again by botocore's own signer from the received request, and compared in constant time.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import Message
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.aws import ACCOUNT_ID, REGION

SERVICE: Final = "execute-api"
ALGORITHM: Final = "AWS4-HMAC-SHA256"
TOLERANCE: Final = timedelta(minutes=5)
LONGEST_PRESIGNED: Final = timedelta(days=7)
TIMESTAMP: Final = "%Y%m%dT%H%M%SZ"
MISSING: Final = "MISSING_AUTHENTICATION_TOKEN"
INVALID: Final = "INVALID_SIGNATURE"
EXPIRED: Final = "EXPIRED_TOKEN"


class AccessDenied(Exception):
    """API Gateway does not admit the request. Holds its response type and message."""

    def __init__(self, response_type: str, message: str) -> None:
        super().__init__(message)
        self.response_type = response_type
        self.message = message


@dataclass(frozen=True)
class Caller:
    """The owner of an access key: an IAM role or user, by ARN."""

    access_key: str
    secret_key: str = field(repr=False)
    arn: str

    @property
    def user_arn(self) -> str:
        """The ARN that API Gateway reports: a role's session without the role's path, or the user."""
        kind, _, name = self.arn.rpartition(":")[2].partition("/")
        if kind != "role":
            return self.arn
        account = self.arn.split(":")[4]
        return f"arn:aws:sts::{account}:assumed-role/{name.rpartition('/')[2]}/session"

    @property
    def identity(self) -> dict[str, str]:
        """The caller's part of requestContext.identity."""
        unique = hashlib.sha256(self.arn.encode()).hexdigest()[:17].upper()
        principal = f"AROA{unique}:session" if ":role/" in self.arn else f"AIDA{unique}"
        return {
            "accessKey": self.access_key,
            "accountId": self.arn.split(":")[4],
            "caller": principal,
            "user": principal,
            "userArn": self.user_arn,
        }


def role(name: str) -> Caller:
    """A caller whose access key and secret are its role's name, in the local account."""
    return Caller(name, name, f"arn:aws:iam::{ACCOUNT_ID}:role/{name}")


LOCAL: Final = role("local")
STRANGER: Final = role("stranger")  # its signature is valid, but no connection allows it


@dataclass(frozen=True)
class ReceivedRequest:
    """A received request, not decoded: `path` and `query` are the two halves of the request target."""

    method: str
    path: str
    query: str
    headers: "Message[str, str]"
    body: bytes = field(repr=False)

    @property
    def parameters(self) -> list[tuple[str, str]]:
        return parse_qsl(self.query, keep_blank_values=True)


@dataclass(frozen=True)
class _Signature:
    access_key: str
    scope: Sequence[str]
    signed_headers: Sequence[str]
    signature: str
    timestamp: str
    valid_for: timedelta
    parameters: Sequence[tuple[str, str]]


class _Recomputed(SigV4Auth):
    """botocore's signer, but it signs the headers that the client signed instead of its own choice."""

    def headers_to_sign(self, request: Any) -> Any:
        headers: Message[str, str] = Message()
        for name, value in request.headers.items():
            headers[name.lower()] = value
        return headers


class SignatureVerifier:
    """Verifies requests against a fixed set of access keys."""

    def __init__(self, callers: Sequence[Caller] = (LOCAL, STRANGER), *, region: str = REGION) -> None:
        self._callers: Mapping[str, Caller] = {caller.access_key: caller for caller in callers}
        self._region = region

    def verify(self, request: ReceivedRequest, now: datetime) -> Caller:
        """The caller that signed the request. Raises AccessDenied.

        A session token is not checked: the local keys are long-lived.
        """
        signature = _from_query(request) if "X-Amz-Signature=" in request.query else _from_header(request)
        self._check_scope(signature)
        _check_time(signature, now)
        caller = self._callers.get(signature.access_key)
        if caller is None:
            raise AccessDenied(INVALID, "The security token included in the request is invalid.")
        if not hmac.compare_digest(self._recompute(request, signature, caller), signature.signature):
            raise AccessDenied(
                INVALID,
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method.",
            )
        return caller

    def _check_scope(self, signature: _Signature) -> None:
        expected = [signature.timestamp[:8], self._region, SERVICE, "aws4_request"]
        if list(signature.scope) != expected:
            raise AccessDenied(INVALID, f"Credential should be scoped to '{'/'.join(expected)}'.")
        if "host" not in signature.signed_headers:
            raise AccessDenied(INVALID, "'Host' must be a 'SignedHeader' in the AWS Signature.")

    def _recompute(self, request: ReceivedRequest, signature: _Signature, caller: Caller) -> str:
        # As the service does, decode the parameters and encode them again in the canonical way.
        query = urlencode(signature.parameters, quote_via=quote, safe="-_.~")
        again = AWSRequest(request.method, f"http://local{request.path}?{query}", data=request.body)
        for name in signature.signed_headers:
            for value in request.headers.get_all(name, []):
                again.headers.add_header(name, value)
        claimed = again.headers.get("X-Amz-Content-SHA256")
        if claimed is not None and claimed != hashlib.sha256(request.body).hexdigest():
            raise AccessDenied(INVALID, "The provided 'x-amz-content-sha256' does not match what was computed.")
        again.context["timestamp"] = signature.timestamp
        signer = _Recomputed(Credentials(caller.access_key, caller.secret_key), SERVICE, self._region)
        recomputed: str = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
        return recomputed


def _from_header(request: ReceivedRequest) -> _Signature:
    header = request.headers.get("Authorization")
    if not header:
        raise AccessDenied(MISSING, "Missing Authentication Token")
    algorithm, _, rest = header.partition(" ")
    parts = dict(re.findall(r"(\w+)=([^,\s]+)", rest))
    timestamp = request.headers.get("X-Amz-Date")
    if algorithm != ALGORITHM or not {"Credential", "SignedHeaders", "Signature"} <= parts.keys() or not timestamp:
        raise AccessDenied(
            INVALID, "Authorization header is no complete AWS Signature Version 4, or X-Amz-Date is missing."
        )
    return _signature(parts, timestamp, TOLERANCE, request.parameters)


def _from_query(request: ReceivedRequest) -> _Signature:
    parts = {name.removeprefix("X-Amz-"): value for name, value in request.parameters if name.startswith("X-Amz-")}
    complete = {"Algorithm", "Credential", "SignedHeaders", "Signature", "Date", "Expires"} <= parts.keys()
    if not complete or parts["Algorithm"] != ALGORITHM or not parts["Expires"].isdecimal():
        raise AccessDenied(INVALID, "The query string is not a complete AWS Signature Version 4.")
    valid_for = min(timedelta(seconds=int(parts["Expires"][:9])), LONGEST_PRESIGNED)
    unsigned = [(name, value) for name, value in request.parameters if name != "X-Amz-Signature"]
    return _signature(parts, parts["Date"], valid_for, unsigned)


def _signature(
    parts: Mapping[str, str], timestamp: str, valid_for: timedelta, parameters: Sequence[tuple[str, str]]
) -> _Signature:
    access_key, *scope = parts["Credential"].split("/")
    signed_headers = parts["SignedHeaders"].lower().split(";")
    return _Signature(access_key, scope, signed_headers, parts["Signature"], timestamp, valid_for, parameters)


def _check_time(signature: _Signature, now: datetime) -> None:
    try:
        signed_at = datetime.strptime(signature.timestamp, TIMESTAMP).replace(tzinfo=UTC)
    except ValueError:
        raise AccessDenied(INVALID, "Date must be in ISO-8601 'basic format'.") from None
    if signed_at > now + TOLERANCE:
        raise AccessDenied(INVALID, f"Signature not yet current: {signature.timestamp} is in the future.")
    if now > signed_at + signature.valid_for:
        raise AccessDenied(EXPIRED, f"Signature expired: {signature.timestamp} is too long ago.")
