"""One provider's part of the demo: its token is requested twice, used, then requested until it was renewed."""

import hashlib
import threading
import time
from contextlib import closing
from typing import Any, Final

import requests

from local.client import BrokerResponse, SignedClient
from local.connections import NAME
from local.stack import Stack

REQUEST_EVERY_S: Final = 0.4
CACHED: Final = frozenset({"memory", "table"})


class DemoRun:
    """Follows one provider's token and keeps the responses. `faults` says in words what did not work."""

    def __init__(self, provider: str, stack: Stack) -> None:
        self.provider = provider
        self.simulator = stack.providers.simulator(provider)
        self.first: BrokerResponse | None = None
        self.second: BrokerResponse | None = None
        self.renewed: BrokerResponse | None = None
        self.resource_status: int | None = None
        self.renewed_after_s = 0.0
        self.asked = 0  # responses until the renewal
        self.waited = 0  # how many of them had to wait for the provider
        self.requests_made = 0
        self.faults: list[str] = []
        self._stack = stack
        self._began_at = 0.0

    def begin(self) -> None:
        """Request the token twice, and the provider's protected resource with the first one's headers."""
        with closing(self._client()) as client:
            self._began_at = time.monotonic()
            self.first = self._request(client)
            self.second = self._request(client)
        self.requests_made = self._token_requests()
        if self.first.status == 200:
            self._expect(self.first.body["source"] == "provider", "the first token did not come from the provider")
            self._expect(
                self.second.body.get("source") in CACHED, "the second token came neither from memory nor table"
            )
            self._expect(self.second.body.get("token_id") == self.token_id, "the second token is another one")
            self._expect(self.requests_made == 1, f"{self.requests_made} token requests for the first token")
            self.resource_status = self._use(self.first)

    def follow(self, give_up: threading.Event) -> None:
        """Request the token again and again until another one is returned or `give_up` is set."""
        if self.token_id is None:
            return
        with closing(self._client()) as client:
            while self.renewed is None and not give_up.wait(REQUEST_EVERY_S):
                response = self._request(client)
                self.asked += 1
                self.waited += response.body.get("source") not in CACHED
                if response.body.get("token_id") not in (None, self.token_id):
                    self.renewed = response
        self.renewed_after_s = time.monotonic() - self._began_at
        self.requests_made = self._token_requests()
        self._expect(self.waited == 0, f"{self.waited} of {self.asked} later tokens did not come from memory or table")
        if self.renewed is None:
            self._expect(False, f"no renewed token within {self.renewed_after_s:.0f} s")
        else:
            self._expect(self.requests_made == 2, f"{self.requests_made} token requests for two tokens")
            self._use(self.renewed)

    @property
    def token_id(self) -> str | None:
        """The first token's."""
        return self.first.body.get("token_id") if self.first else None

    def _client(self) -> SignedClient:
        return SignedClient(self._stack.url, self._stack.options.caller)

    def _request(self, client: SignedClient) -> BrokerResponse:
        response = client.call("GET", f"/v1/tokens/{self.provider}/{NAME}")
        if response.status != 200:
            self._expect(False, f"{response.status} {_code(response.body)}")
        else:
            fingerprint = hashlib.sha256(response.body["access_token"].encode()).hexdigest()[:16]
            self._expect(fingerprint == response.body["token_id"], "token_id is not the token's fingerprint")
        return response

    def _use(self, token: BrokerResponse) -> int:
        """Call the protected resource with the returned headers."""
        url = f"{token.body['api_base_url']}/api/resource"
        with requests.Session() as session:
            session.trust_env = False  # no proxy from the environment for loopback
            status = session.get(url, headers=token.body["headers"], timeout=10).status_code
        self._expect(status == 200, f"the protected resource responded with {status}")
        return status

    def _token_requests(self) -> int:
        count: int = self.simulator.report()["token_requests"]
        return count

    def _expect(self, as_expected: bool, fault: str) -> None:
        if not as_expected and fault not in self.faults:
            self.faults.append(fault)


def _code(body: Any) -> str:
    return str(body.get("code", "without a code")) if isinstance(body, dict) else "without a problem document"
