"""A handler that imports and does nothing: what Lambda's runtime itself takes to start."""

from __future__ import annotations

from typing import Any


def lambda_handler(_event: Any, _context: Any) -> dict[str, Any]:
    """An empty answer."""
    return {}
