"""AWS Signature Version 4 as API Gateway checks it before an AWS_IAM route: in the header or in the query.

The signature is made again with botocore's own signer from what was received, and compared in constant time.
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


class SignatureRefused(Exception):
    """The request is not from who it says; carries API Gateway's response type and message."""

    def __init__(self, response_type: str, message: str) -> None:
        super().__init__(message)
        self.response_type = response_type
        self.message = message


@dataclass(frozen=True)
class Caller:
    """Who owns an access key: an IAM role or user, by ARN."""

    access_key: str
    secret_key: str = field(repr=False)
    arn: str

    @property
    def user_arn(self) -> str:
        """The ARN that API Gateway reports: a role's session (without the role's path), a user as it is."""
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
STRANGER: Final = role("stranger")  # signs well, but stands on no allow-list


@dataclass(frozen=True)
class ReceivedRequest:
    """What came over the wire, undecoded: `path` and `query` are the request target's two halves."""

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
    """botocore's signer, that signs the headers the client says it signed instead of those botocore would choose."""

    def headers_to_sign(self, request: Any) -> Any:
        headers: Message[str, str] = Message()
        for name, value in request.headers.items():
            headers[name.lower()] = value
        return headers


class SignatureVerifier:
    """Knows the access keys, and tells whose a request is."""

    def __init__(self, callers: Sequence[Caller] = (LOCAL, STRANGER), *, region: str = REGION) -> None:
        self._callers: Mapping[str, Caller] = {caller.access_key: caller for caller in callers}
        self._region = region

    def verify(self, request: ReceivedRequest, now: datetime) -> Caller:
        """The caller that signed the request. Raises SignatureRefused.

        A session token is taken as it comes: the local keys are long-lived ones.
        """
        signature = _from_query(request) if "X-Amz-Signature=" in request.query else _from_header(request)
        self._check_scope(signature)
        _check_time(signature, now)
        caller = self._callers.get(signature.access_key)
        if caller is None:
            raise SignatureRefused(INVALID, "The security token included in the request is invalid.")
        if not hmac.compare_digest(self._recompute(request, signature, caller), signature.signature):
            raise SignatureRefused(
                INVALID,
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method.",
            )
        return caller

    def _check_scope(self, signature: _Signature) -> None:
        expected = [signature.timestamp[:8], self._region, SERVICE, "aws4_request"]
        if list(signature.scope) != expected:
            raise SignatureRefused(INVALID, f"Credential should be scoped to '{'/'.join(expected)}'.")
        if "host" not in signature.signed_headers:
            raise SignatureRefused(INVALID, "'Host' must be a 'SignedHeader' in the AWS Signature.")

    def _recompute(self, request: ReceivedRequest, signature: _Signature, caller: Caller) -> str:
        # Parameters are decoded and encoded again the one canonical way, as the service does, and not taken as sent.
        query = urlencode(signature.parameters, quote_via=quote, safe="-_.~")
        again = AWSRequest(request.method, f"http://local{request.path}?{query}", data=request.body)
        for name in signature.signed_headers:
            for value in request.headers.get_all(name, []):
                again.headers.add_header(name, value)
        claimed = again.headers.get("X-Amz-Content-SHA256")
        if claimed is not None and claimed != hashlib.sha256(request.body).hexdigest():
            raise SignatureRefused(INVALID, "The provided 'x-amz-content-sha256' does not match what was computed.")
        again.context["timestamp"] = signature.timestamp
        signer = _Recomputed(Credentials(caller.access_key, caller.secret_key), SERVICE, self._region)
        recomputed: str = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
        return recomputed


def _from_header(request: ReceivedRequest) -> _Signature:
    header = request.headers.get("Authorization")
    if not header:
        raise SignatureRefused(MISSING, "Missing Authentication Token")
    algorithm, _, rest = header.partition(" ")
    parts = dict(re.findall(r"(\w+)=([^,\s]+)", rest))
    timestamp = request.headers.get("X-Amz-Date")
    if algorithm != ALGORITHM or not {"Credential", "SignedHeaders", "Signature"} <= parts.keys() or not timestamp:
        raise SignatureRefused(
            INVALID, "Authorization header is no complete AWS Signature Version 4, or X-Amz-Date is missing."
        )
    return _signature(parts, timestamp, TOLERANCE, request.parameters)


def _from_query(request: ReceivedRequest) -> _Signature:
    parts = {name.removeprefix("X-Amz-"): value for name, value in request.parameters if name.startswith("X-Amz-")}
    complete = {"Algorithm", "Credential", "SignedHeaders", "Signature", "Date", "Expires"} <= parts.keys()
    if not complete or parts["Algorithm"] != ALGORITHM or not parts["Expires"].isdecimal():
        raise SignatureRefused(INVALID, "The query string is not a complete AWS Signature Version 4.")
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
        raise SignatureRefused(INVALID, "Date must be in ISO-8601 'basic format'.") from None
    if signed_at > now + TOLERANCE:
        raise SignatureRefused(INVALID, f"Signature not yet current: {signature.timestamp} is in the future.")
    if now > signed_at + signature.valid_for:
        raise SignatureRefused(EXPIRED, f"Signature expired: {signature.timestamp} is too long ago.")
