"""What all tests over the AWS endpoint share. Each also checks for leaked secrets and for calls that a role forbids.

See tests/security/leak_hunt.py and tests/security/least_privilege.py.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import boto3
import pytest

from local.aws import REGION
from local.resources import LocalStack
from tests.security.leak_hunt import Hunt, hunting, listening_to_output
from tests.security.least_privilege import Roles, note_call, recording

from .handlers.fixtures import api, clients, deployed, running_providers, world  # noqa: F401  # fixtures


class LocalSession(boto3.session.Session):
    """A boto3 session whose clients all use one endpoint, whatever AWS configuration the shell has."""

    def __init__(self, endpoint_url: str) -> None:
        super().__init__(aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION)
        self._endpoint_url = endpoint_url
        self.events.register("provide-client-params", note_call)

    def client(self, *args: Any, **kwargs: Any) -> Any:
        return super().client(*args, **{"endpoint_url": self._endpoint_url, **kwargs})


@pytest.fixture(autouse=True)
def hunt() -> Iterator[Hunt]:
    """No secret of a test is in anything that was written during it."""
    with hunting() as hunt:
        yield hunt
    assert hunt.found() == []


@pytest.fixture(scope="session")
def roles() -> Roles:
    return Roles.of_template()


@pytest.fixture(autouse=True)
def least_privilege(request: pytest.FixtureRequest, roles: Roles) -> Iterator[None]:
    """No function makes a call that its role does not allow. Resources that a test invented are ignored."""
    stack: LocalStack | None = request.getfixturevalue("stack") if "stack" in request.fixturenames else None
    with recording() as log:
        yield
    if stack is not None:
        calls = [call for call in log.calls(stack) if not call.resource.startswith("?")]
        assert [call for call in calls if not roles.permits(call, stack)] == []


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    assert isinstance(item, pytest.Function)
    hunt = item.funcargs["hunt"]
    assert isinstance(hunt, Hunt)
    with listening_to_output(hunt):
        return (yield)
