"""The configuration of AWS clients, and their failures as one error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from token_broker import __version__
from token_broker.errors import BrokerUnavailable

# Three attempts with these times fit into a caller's deadline.
# Without a user agent of our own, botocore builds a long one twice for each request.
CLIENT_CONFIG = Config(
    connect_timeout=1,
    read_timeout=2,
    retries={"mode": "standard", "total_max_attempts": 3},
    user_agent=f"token-broker/{__version__}",
)


class AwsServiceFailed(BrokerUnavailable):
    """One of our services failed. `service_code` goes to the log. Callers never see AWS's text."""

    def __init__(self, service: str, service_code: str) -> None:
        super().__init__(f"{service} failed.")
        self.service_code = service_code


@contextmanager
def aws_errors(service: str) -> Iterator[None]:
    """Raises BrokerUnavailable for what botocore raises. Failed conditions must be caught inside."""
    try:
        yield
    except ClientError as error:
        raise AwsServiceFailed(service, error_code(error)) from None
    except BotoCoreError as error:
        raise AwsServiceFailed(service, type(error).__name__) from None


def conflicting_item(error: ClientError) -> Mapping[str, Any] | None:
    """The item on which a condition failed, as ReturnValuesOnConditionCheckFailure returns it."""
    response: Mapping[str, Any] = {**error.response}
    return response.get("Item")


def error_code(error: ClientError) -> str:
    details: dict[str, Any] = dict(error.response.get("Error", {}))
    return str(details.get("Code", ""))
