"""docs/failures.md is up to date with the tables."""

from __future__ import annotations

from tests.integration.faults.document import DOCUMENT, duration, render


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == render(), "write it with: python -m tests.integration.faults.document"


def test_a_duration_is_shown_in_its_largest_whole_unit() -> None:
    assert [duration(seconds) for seconds in (2, 60, 90, 900, 3600)] == ["2 s", "1 min", "90 s", "15 min", "1 h"]
