"""The template as written, as SAM translates it, and as created in a local AWS endpoint."""

from collections.abc import Iterator

import pytest

from local.aws import AwsProcess
from local.ports import listen
from local.resources import Document, LocalStack, create_resources, load_template, translate

REGION = "eu-west-1"


@pytest.fixture(scope="session")
def template() -> Document:
    return load_template()


@pytest.fixture(scope="session")
def translated() -> Document:
    return translate(load_template(), region=REGION)


@pytest.fixture(scope="session")
def endpoint_url() -> Iterator[str]:
    """An AWS endpoint in its own process, because moto has one state per process."""
    server = AwsProcess(listen(0))
    try:
        server.wait_until_ready()
        yield server.endpoint_url
    finally:
        server.close()


@pytest.fixture(scope="session")
def stack(endpoint_url: str) -> LocalStack:
    return create_resources(endpoint_url, region=REGION)
