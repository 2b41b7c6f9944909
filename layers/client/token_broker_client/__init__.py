"""A client of the token broker: asks for a valid token of a provider's connection, signed with the caller's own role.

    broker = TokenBroker("https://….execute-api.eu-west-1.amazonaws.com/api")
    token = broker.token("unidy", "eu-main")
    requests.get(f"{token['api_base_url']}/users", headers=token["headers"])

Needs boto3 and urllib3, which Lambda's runtime brings. Knows the broker by its HTTP interface alone.
"""

from token_broker_client.client import BrokerRefused, TokenBroker

__all__ = ["BrokerRefused", "TokenBroker"]
