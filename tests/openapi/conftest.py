"""Worlds of the handler tests, and the document that responses are checked against."""

from __future__ import annotations

import json

import pytest

from local.providers import ProvidersServer
from tests.integration.handlers.fixtures import (  # noqa: F401  # fixtures
    clients,
    deployed,
    running_providers,
    world,
)
from tests.integration.handlers.functions import Clients
from tests.integration.handlers.world import Aws
from tests.openapi.conformance import Documented, Schema
from tests.openapi.document import DOCUMENT
from tests.openapi.recording import NewWorld, fresh


@pytest.fixture(scope="session")
def checked_in() -> Schema:
    """docs/openapi.json."""
    found: Schema = json.loads(DOCUMENT.read_text())
    return found


@pytest.fixture(scope="session")
def documented(checked_in: Schema) -> Documented:
    return Documented(checked_in)


@pytest.fixture
def new_world(
    deployed: Aws,  # noqa: F811  # a fixture's name
    clients: Clients,  # noqa: F811  # as above
    running_providers: ProvidersServer,  # noqa: F811  # as above
    monkeypatch: pytest.MonkeyPatch,
) -> NewWorld:
    return lambda: fresh(deployed, clients, running_providers, monkeypatch)
