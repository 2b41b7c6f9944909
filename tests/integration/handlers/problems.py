"""What every error of the HTTP interface looks like (RFC 9457, with our code)."""

from __future__ import annotations

from .functions import BrokerResponse


def assert_problem(answer: BrokerResponse, status: int, code: str) -> None:
    """The whole shape of an error, but for the fields that only some codes have."""
    assert (answer.status, answer.code) == (status, code), answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    body = answer.body
    assert body["type"] == "about:blank"
    assert body["status"] == status
    for text in ("title", "detail"):
        assert isinstance(body[text], str)
        assert body[text]
    assert set(body) <= {"type", "title", "status", "code", "detail", "errors", "provider_error", "checks", "version"}


def fields(answer: BrokerResponse) -> list[str]:
    """The fields that an invalid_request names, each with a reason."""
    assert_problem(answer, 400, "invalid_request")
    assert all(set(fault) == {"field", "reason"} and fault["reason"] for fault in answer.body["errors"])
    return sorted(fault["field"] for fault in answer.body["errors"])
