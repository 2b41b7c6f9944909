"""The functions as the integration tests have them."""

from __future__ import annotations

from tests.integration.handlers.fixtures import api, clients, deployed, running_providers, world  # noqa: F401
