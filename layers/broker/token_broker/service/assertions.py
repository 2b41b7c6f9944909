"""Makes the signed assertions of a connection: with the key of its secret, or with its KMS key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from token_broker.core.assertions import CERTIFICATE, PRIVATE_KEY, AssertionSpec
from token_broker.core.connections import Connection
from token_broker.core.credentials import Credentials
from token_broker.errors import ConnectionMisconfigured
from token_broker.oauth.assertions import (
    NewAssertion,
    Sign,
    UnusableKey,
    certificate_thumbprint,
    pem_signer,
    signed_jwt,
)
from token_broker.ports import Clock, NewId, SigningKeys


def new_assertion(
    connection: Connection,
    credentials: Credentials,
    values: Mapping[str, Any],
    *,
    signing_keys: SigningKeys,
    clock: Clock,
    new_id: NewId,
) -> NewAssertion | None:
    """What makes a connection's assertions; None for a provider that takes none. `values`: of the templates.

    The first one is signed now: a signature that fails must fail before a request is counted or sent. Raises
    ConnectionMisconfigured or BrokerUnavailable.
    """
    spec = connection.provider.assertion
    if spec is None:
        return None
    try:
        sign = _signer(connection, spec, credentials, signing_keys)
        header, claims = spec.expanded(values)
        if spec.with_thumbprint:
            private_key = None if connection.signs_with_kms else credentials.values[PRIVATE_KEY]
            header["x5t#S256"] = certificate_thumbprint(credentials.values[CERTIFICATE], private_key)
    except UnusableKey as unusable:
        raise ConnectionMisconfigured(f"In the secret of {connection.name}, {unusable}.") from None

    def make() -> str:
        return signed_jwt(
            spec.algorithm, header, claims, now=clock(), lifetime_s=spec.lifetime_s, jti=new_id(), sign=sign
        )

    made = [make()]
    return lambda: made.pop() if made else make()


def _signer(connection: Connection, spec: AssertionSpec, credentials: Credentials, signing_keys: SigningKeys) -> Sign:
    if connection.signs_with_kms:
        return signing_keys.signer(connection.name, spec.algorithm)
    private_key = credentials.values.get(PRIVATE_KEY)
    if private_key is None:
        raise ConnectionMisconfigured(f"The secret of {connection.name} lacks {PRIVATE_KEY}.")
    return pem_signer(private_key, spec.algorithm)
