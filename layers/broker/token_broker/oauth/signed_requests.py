"""Prepares a grant's request with the signed assertions of its connection: by the secret's key, or by its KMS key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from token_broker.core.assertions import CERTIFICATE, PRIVATE_KEY
from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials
from token_broker.core.names import ConnectionName
from token_broker.errors import ConnectionMisconfigured
from token_broker.oauth.assertions import (
    NewAssertion,
    Sign,
    UnusableKey,
    certificate_thumbprint,
    pem_signer,
    signed_jwt,
)
from token_broker.oauth.requests import GrantRequest, grant_request_for

# Finds what signs with a connection's KMS key, by its name and the algorithm. See SigningKeys of the ports.
KmsSigner = Callable[[ConnectionName, str], Sign]


def prepare_request(
    connection: Connection,
    credentials: Credentials,
    scope: str,
    *,
    kms_signer: KmsSigner,
    clock: Callable[[], datetime],
    new_id: Callable[[], str],
) -> GrantRequest:
    """What a grant or a revocation of this connection needs.

    The first assertion is signed now, so that a key that cannot sign is found before a request is counted or sent.
    Raises ConnectionMisconfigured, or what the KMS key's signer raises.
    """
    request = grant_request_for(connection, credentials, scope, clock())
    spec = connection.provider.assertion
    if spec is None:
        return request
    algorithm = spec.algorithm.text(connection.options) or ""
    header, claims = spec.expanded(request.values())
    try:
        sign = _signer(connection, credentials, algorithm, kms_signer)
        if spec.with_thumbprint:
            private_key = None if connection.signs_with_kms else credentials.values[PRIVATE_KEY]
            header["x5t#S256"] = certificate_thumbprint(credentials.values[CERTIFICATE], private_key)
    except UnusableKey as unusable:
        raise ConnectionMisconfigured(f"In the secret of {connection.name}, {unusable}.") from None

    def make() -> str:
        return signed_jwt(algorithm, header, claims, now=clock(), lifetime_s=spec.lifetime_s, jti=new_id(), sign=sign)

    return replace(request, new_assertion=_first_made(make))


def no_kms_key(name: ConnectionName, _algorithm: str) -> Sign:
    """Where no KMS key can be used. Raises ConnectionMisconfigured."""
    raise ConnectionMisconfigured(f"{name} signs with a KMS key. Only a deployed broker can use it.")


def _signer(connection: Connection, credentials: Credentials, algorithm: str, kms_signer: KmsSigner) -> Sign:
    if connection.signs_with_kms:
        return kms_signer(connection.name, algorithm)
    private_key = credentials.values.get(PRIVATE_KEY)
    if private_key is None:
        raise ConnectionMisconfigured(f"The secret of {connection.name} lacks {PRIVATE_KEY}.")
    return pem_signer(private_key, algorithm)


def _first_made(make: NewAssertion) -> NewAssertion:
    """The same, with the first assertion made at once."""
    made = [make()]
    return lambda: made.pop() if made else make()
