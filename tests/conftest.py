"""One AWS endpoint per test session, for all tests of functions or adapters.

Modules are imported inside the fixtures, because importing moto takes longer than all unit tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import boto3

    from local.aws import AwsServer
    from local.resources import LocalStack


@pytest.fixture(scope="session")
def aws() -> Iterator[AwsServer]:
    """A running AWS endpoint."""
    from local.aws import start_aws

    with start_aws() as server:
        yield server


@pytest.fixture(scope="session")
def stack(aws: AwsServer) -> LocalStack:
    """The resources of template.yaml behind it, with the callback of consents."""
    from local.resources import create_resources

    return create_resources(aws.endpoint_url, parameters={"ConsentCallback": "true"})


@pytest.fixture(scope="session")
def session(aws: AwsServer) -> boto3.session.Session:
    """A boto3 session of the endpoint."""
    from tests.integration.conftest import LocalSession

    return LocalSession(aws.endpoint_url)
