"""A new world and a broker for each test."""

from __future__ import annotations

import pytest

from tests.fakes import World
from token_broker.core.names import ConnectionName
from token_broker.service import Broker


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def broker(world: World) -> Broker:
    """One broker instance."""
    return world.instance()


@pytest.fixture
def name(world: World) -> ConnectionName:
    """A connection of the provider oauth2, whose tokens live for an hour."""
    return world.connection(allowed_scopes=["*"])
