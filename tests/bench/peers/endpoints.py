"""Token endpoints at the simulated OAuth 2.0 server, one for each measurement, so that each has its own count.

They accept client credentials as the simulator does, and the assertion of a service account (RFC 7523 section 2.1) for
google-auth, which has no client credentials grant.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from local.providers import ProvidersServer
from local.providers.oauth2 import OAuth2
from local.providers.wire import Refusal, Reply, Request

ASSERTION_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLIENT_ID: Final = "fake-peer"
SECRET: Final = {"client_id": CLIENT_ID, "client_secret": "fake-secret-of-a-peer"}
SCOPE: Final = "api.read"
RETRY_AFTER_S: Final = 30
# In the shape of RFC 6749 section 5.2. It names no error for the first two; these are usual ones.
FAULTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "500": {"status": 500, "body": {"error": "server_error", "error_description": "something went wrong"}},
    "429": {
        "status": 429,
        "body": {"error": "too_many_requests", "error_description": "slow down"},
        "headers": {"Retry-After": str(RETRY_AFTER_S)},
    },
    "invalid_client": {
        "status": 401,
        "body": {"error": "invalid_client", "error_description": "client authentication failed"},
        "headers": {"WWW-Authenticate": 'Basic realm="oauth2"'},
    },
}


class Endpoint(OAuth2):
    """The simulated server with another account: a client with a secret, and a service account with a key."""

    def __init__(self, public_key: rsa.RSAPublicKey) -> None:
        super().__init__(time_scale=1.0, now=time.time)
        self._public_key = public_key
        self.add_account({"name": "peer", "secret": SECRET})

    @property
    def token_requests(self) -> int:
        """How many token requests have arrived, failed ones included."""
        count: int = self.report()["token_requests"]
        return count

    def respond_after(self, seconds: float) -> None:
        """Every token request takes this long from now on."""
        self.fail("delay", times=None, seconds=seconds)

    def always(self, failure: str) -> None:
        """Every token request gets one of `FAULTS` from now on."""
        self.fail("status", times=None, **FAULTS[failure])

    def token(self, request: Request) -> Reply:
        sent = self._fields(request)
        if sent.get("grant_type") != ASSERTION_GRANT:
            return super().token(request)
        claims = self._claims(sent.get("assertion", ""))
        if claims.get("iss") != CLIENT_ID or not isinstance(claims.get("exp"), int) or claims["exp"] < self.now():
            raise Refusal("invalid_grant", "the assertion is another's, or has expired")
        scope = str(claims.get("scope", SCOPE))
        token = self.issue(self.accounts["peer"], scope)
        document = {"access_token": token.value, "token_type": "Bearer", "expires_in": self.remaining_s(token)}
        return self.token_reply(token, document)

    def _claims(self, assertion: str) -> dict[str, Any]:
        """The claims of an RS256 JWT signed with the account's key. Anything else is refused."""
        signed, _, signature = assertion.rpartition(".")
        try:
            self._public_key.verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
            claims = json.loads(_decoded(signed.partition(".")[2]))
        except (InvalidSignature, ValueError):
            raise Refusal("invalid_grant", "the assertion's signature is not the account's") from None
        return dict(claims)


class Endpoints:
    """Adds endpoints to the running simulators, each under its own path. Thread-safe."""

    def __init__(self, providers: ProvidersServer) -> None:
        self._providers = providers
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def private_key(self) -> str:
        """The service account's private key, as PEM."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    def new(self, name: str) -> tuple[Endpoint, str]:
        """A new endpoint and its root URL: `/token` and `/api/resource` are below it."""
        endpoint = Endpoint(self._key.public_key())
        # The server finds its simulators here, by the first part of the path.
        self._providers._simulators[name] = endpoint
        return endpoint, f"{self._providers.url}/{name}"


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
