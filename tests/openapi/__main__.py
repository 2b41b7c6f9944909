"""Records the examples and writes docs/openapi.json: python -m tests.openapi, or make openapi."""

from __future__ import annotations

from tests.openapi.document import DOCUMENT, EXAMPLES, as_text, render
from tests.openapi.recording import new_worlds, record

if __name__ == "__main__":
    with new_worlds() as new_world:
        EXAMPLES.write_text(as_text(record(new_world)))
    DOCUMENT.write_text(render())
