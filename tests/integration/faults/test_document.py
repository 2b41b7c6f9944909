"""docs/failures.md says what the tables say."""

from __future__ import annotations

from tests.integration.faults.document import DOCUMENT, duration, render


def test_the_document_is_the_one_that_the_tables_make() -> None:
    assert DOCUMENT.read_text() == render(), "python -m tests.integration.faults.document writes it anew"


def test_a_duration_reads_as_people_say_it() -> None:
    assert [duration(seconds) for seconds in (2, 60, 90, 900, 3600)] == ["2 s", "1 min", "90 s", "15 min", "1 h"]
