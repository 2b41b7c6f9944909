"""The shape of every error response (RFC 9457, with our code)."""

from __future__ import annotations

from .functions import BrokerResponse


def assert_problem(response: BrokerResponse, status: int, code: str) -> None:
    """Checks the whole shape of an error, except the fields that only some codes have."""
    assert (response.status, response.code) == (status, code), response
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["pragma"] == "no-cache"
    body = response.body
    assert body["type"] == "about:blank"
    assert body["status"] == status
    for text in ("title", "detail"):
        assert isinstance(body[text], str)
        assert body[text]
    assert set(body) <= {"type", "title", "status", "code", "detail", "errors", "provider_error", "checks", "version"}


def fields(response: BrokerResponse) -> list[str]:
    """The fields that an invalid_request names, each with a reason."""
    assert_problem(response, 400, "invalid_request")
    assert all(set(fault) == {"field", "reason"} and fault["reason"] for fault in response.body["errors"])
    return sorted(fault["field"] for fault in response.body["errors"])
