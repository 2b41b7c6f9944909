"""Writes the generated pages of docs/: python -m tests.docs, or make docs."""

from __future__ import annotations

from tests.docs.pages import PAGES, path_of, render

if __name__ == "__main__":
    for name in PAGES:
        path_of(name).write_text(render(name), encoding="utf-8")
