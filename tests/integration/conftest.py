"""One AWS endpoint per test session, with the resources of template.yaml. Tests keep apart by the names they make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tests.local.aws import REGION, AwsServer, start_aws
from tests.local.resources import LocalStack, create_resources

from .handlers.fixtures import api, clients, deployed, running_providers, world  # noqa: F401  # fixtures


class LocalSession(boto3.session.Session):
    """A boto3 session whose clients all go to one endpoint, whatever this shell's AWS configuration says."""

    def __init__(self, endpoint_url: str) -> None:
        super().__init__(aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION)
        self._endpoint_url = endpoint_url

    def client(self, *args: Any, **kwargs: Any) -> Any:
        return super().client(*args, **{"endpoint_url": self._endpoint_url, **kwargs})


@pytest.fixture(scope="session")
def aws() -> Iterator[AwsServer]:
    """A running AWS endpoint."""
    with start_aws() as server:
        yield server


@pytest.fixture(scope="session")
def stack(aws: AwsServer) -> LocalStack:
    """The resources of template.yaml behind it."""
    return create_resources(aws.endpoint_url)


@pytest.fixture(scope="session")
def session(aws: AwsServer) -> boto3.session.Session:
    """A boto3 session of the endpoint."""
    return LocalSession(aws.endpoint_url)
