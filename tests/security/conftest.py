"""The fixtures of the integration tests."""

from __future__ import annotations

from tests.integration.handlers.fixtures import api, clients, deployed, running_providers, world  # noqa: F401  # pytest finds them
