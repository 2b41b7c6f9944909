"""Valid access tokens of third-party APIs from the token broker. Requests are signed with the caller's AWS credentials.

    from token_broker_client import BrokerAuth

    requests.get(url, auth=BrokerAuth("unidy", "eu-main", scope="users:read"))
    httpx.get(url, auth=BrokerAuth("unidy", "eu-main", scope="users:read"))

    from token_broker_client import TokenBroker

    token = TokenBroker("https://….execute-api.eu-west-1.amazonaws.com/api").token("unidy", "eu-main")
    urllib3.request("GET", f"{token.api_base_url}/users", headers=token.headers)

The broker's URL is the stack's output ApiUrl. Without one, the environment variable TOKEN_BROKER_URL is read. Needs
boto3 and urllib3, which Lambda's runtime has, and requests or httpx if you use them. Errors:
`token_broker_client.errors`. For tests: `token_broker_client.testing`. The client knows the broker's HTTP interface
only.
"""

from typing import TYPE_CHECKING, Any

from token_broker_client.client import TokenBroker
from token_broker_client.errors import BrokerRefused, BrokerUnreachable, ClientNotConfigured, TokenBrokerError, TryLater
from token_broker_client.tokens import Token

if TYPE_CHECKING:
    from token_broker_client.auth import BrokerAuth as BrokerAuth

__all__ = [
    "BrokerAuth",
    "BrokerRefused",
    "BrokerUnreachable",
    "ClientNotConfigured",
    "Token",
    "TokenBroker",
    "TokenBrokerError",
    "TryLater",
]


def __getattr__(name: str) -> Any:
    """`BrokerAuth` is imported at its first use, because it imports requests."""
    if name == "BrokerAuth":
        from token_broker_client.auth import BrokerAuth

        return BrokerAuth
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
