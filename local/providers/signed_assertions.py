"""Two OAuth 2.0 servers that take signed assertions (RFC 7523): as client authentication, and as the grant.

They check the signature with a library that the broker does not use, and refuse an assertion that was used before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.util import urlsafe_b64encode

from .accounts import Account
from .oauth2 import SCOPES, OAuth2
from .wire import Refusal, Reply, Request

CLIENT_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
MAX_LIFETIME_S: Final = 3600
# How far a client's clock may be ahead.
MAX_SKEW_S: Final = 60


class SignedAssertions(OAuth2):
    """Knows each account's public key: of its private_key, or a public_key of its own."""

    def _reset(self) -> None:
        super()._reset()
        self._used: set[str] = set()

    def verified(self, request: Request, assertion: str, *, error: str) -> tuple[Account, dict[str, Any]]:
        """The account that signed an assertion, and its claims. Raises `Refusal` with the code `error`."""
        try:
            claims = json.loads(jws.extract_compact(assertion.encode()).payload)
        except (ValueError, JoseError):
            raise Refusal(error, "the assertion is no JWT") from None
        account = self._account_of(claims, error)
        try:
            header = _checked_header(assertion, account)
        except JoseError:
            raise Refusal(error, "the signature is not that of the client's key") from None
        self._check_header(header, account, error)
        self._check_claims(request, claims, error)
        return account, claims

    def _account_of(self, claims: Any, error: str) -> Account:
        issuer = claims.get("iss") if isinstance(claims, dict) else None
        for account in self.accounts.values():
            if account.secret.get("client_id") == issuer:
                return account
        raise Refusal(error, "the issuer is not known")

    def _check_header(self, header: Mapping[str, Any], account: Account, error: str) -> None:
        if header.get("typ") != "JWT":
            raise Refusal(error, "typ has to be JWT")
        if header.get("kid") != account.secret.get("key_id"):
            raise Refusal(error, "kid does not name the client's key")
        certificate = account.secret.get("certificate")
        if header.get("x5t#S256") != (None if certificate is None else _thumbprint(certificate)):
            raise Refusal(error, "x5t#S256 does not name the client's certificate")

    def _check_claims(self, request: Request, claims: Mapping[str, Any], error: str) -> None:
        now = self.vendor_time()
        issued_at, expires_at, jti = (claims.get(name) for name in ("iat", "exp", "jti"))
        if claims.get("aud") != f"http://{request.header('Host')}/{self.slug}/token":
            raise Refusal(error, "the audience is another server")
        if not isinstance(expires_at, int) or not now < expires_at <= now + MAX_LIFETIME_S + MAX_SKEW_S:
            raise Refusal(error, "the assertion has expired, or lives too long")
        if not isinstance(issued_at, int) or issued_at > now + MAX_SKEW_S:
            raise Refusal(error, "the assertion was issued in the future")
        if not isinstance(jti, str) or not jti or jti in self._used:
            raise Refusal(error, "the assertion was used before")
        self._used.add(jti)


class PrivateKeyJwt(SignedAssertions):
    """Client credentials, where the client authenticates with an assertion (RFC 7523 section 2.2)."""

    slug = "oauth2-private-key-jwt"

    def authenticate(self, request: Request, sent: Mapping[str, str]) -> Account:
        if request.header("Authorization") is not None or "client_secret" in sent:
            raise Refusal("invalid_request", "two client authentications")
        if sent.get("client_assertion_type") != CLIENT_ASSERTION_TYPE:
            raise Refusal("invalid_client", "client_assertion_type is missing or not known")
        account, claims = self.verified(request, sent.get("client_assertion", ""), error="invalid_client")
        client_id = account.secret["client_id"]
        if claims.get("sub") != client_id or sent.get("client_id", client_id) != client_id:
            raise Refusal("invalid_client", "sub and client_id have to be the issuer")
        return account


class JwtBearer(SignedAssertions):
    """The assertion is the grant (RFC 7523 section 2.1). The scope is a claim or a field."""

    slug = "oauth2-jwt-bearer"

    def token(self, request: Request) -> Reply:
        sent = self.token_fields(request, ("form",))
        self.require_grant_type(sent, JWT_BEARER)
        account, _ = self.verified(request, sent.get("assertion", ""), error="invalid_grant")
        scope = sent.get("scope", SCOPES[0])
        self.require_known_scopes(scope, SCOPES)
        token = self.issue(account, scope)
        document = {
            "access_token": token.value,
            "token_type": "Bearer",
            "scope": scope,
            "expires_in": self.remaining_s(token),
        }
        return self.token_reply(token, document)


def _checked_header(assertion: str, account: Account) -> dict[str, Any]:
    """The header of an assertion with a valid signature. Raises JoseError."""
    private = account.secret.get("private_key")
    public = account.secret.get("public_key")
    if private is not None:
        own = serialization.load_pem_private_key(private.encode(), None).public_key()
        public = own.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    algorithm = jws.extract_compact(assertion.encode()).headers().get("alg")
    kind = ECKey if algorithm == "ES256" else RSAKey
    try:
        key = kind.import_key(public or "")
    except ValueError:
        raise JoseError("the key is of another type") from None
    found = jws.deserialize_compact(assertion, key, algorithms=["RS256", "PS256", "ES256"])
    return dict(found.headers())


def _thumbprint(certificate: str) -> str:
    fingerprint = x509.load_pem_x509_certificate(certificate.encode()).fingerprint(hashes.SHA256())
    return urlsafe_b64encode(fingerprint).decode()
