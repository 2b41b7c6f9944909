"""A handler that imports nothing and does nothing. It shows how long Lambda's runtime takes to start."""

from __future__ import annotations

from typing import Any


def lambda_handler(_event: Any, _context: Any) -> dict[str, Any]:
    """An empty response."""
    return {}
