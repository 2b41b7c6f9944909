"""AWS clients as the broker wants them, and their failures as one error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from token_broker import __version__
from token_broker.errors import BrokerUnavailable

# Connect 1 s, read 2 s, three attempts: a caller's own deadline is what they must fit into.
# A user agent of our own: botocore else builds its long one anew, twice for each request.
CLIENT_CONFIG = Config(
    connect_timeout=1,
    read_timeout=2,
    retries={"mode": "standard", "total_max_attempts": 3},
    user_agent=f"token-broker/{__version__}",
)


class ServiceFailed(BrokerUnavailable):
    """One of our services failed. `service_code` is for the log; no AWS text goes to callers."""

    def __init__(self, service: str, service_code: str) -> None:
        super().__init__(f"{service} does not answer as it should.")
        self.service_code = service_code


@contextmanager
def answering(service: str) -> Iterator[None]:
    """Turns what botocore raises into BrokerUnavailable. Conditional failures are for the caller to catch inside."""
    try:
        yield
    except ClientError as error:
        raise ServiceFailed(service, error_code(error)) from None
    except BotoCoreError as error:
        raise ServiceFailed(service, type(error).__name__) from None


def refused_item(error: ClientError) -> Mapping[str, Any] | None:
    """The item that stood against a conditional write, as ReturnValuesOnConditionCheckFailure gives it."""
    response: Mapping[str, Any] = {**error.response}
    return response.get("Item")


def error_code(error: ClientError) -> str:
    details: dict[str, Any] = dict(error.response.get("Error", {}))
    return str(details.get("Code", ""))
