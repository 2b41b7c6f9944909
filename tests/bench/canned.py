"""botocore's HTTP send, with responses that the AWS endpoint gave earlier in the same run.

The rest of botocore runs: it builds and signs the request, and checks and parses the response. Only the network and AWS
itself are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session


class Canned:
    """Sends each request once, and repeats its response to later ones with the same bytes. `freeze` stops sending."""

    def __init__(self) -> None:
        self.sent = 0
        self._frozen = False
        self._responses: dict[tuple[str, bytes], tuple[int, Mapping[str, str], bytes]] = {}
        self._send = URLLib3Session.send

    def install(self) -> None:
        """Replaces the send of every client in this process, permanently."""
        canned = self

        def send(session: URLLib3Session, request: Any) -> AWSResponse:
            return canned.response(session, request)

        # Every client sends through this method.
        setattr(URLLib3Session, "send", send)  # noqa: B010  # mypy forbids to assign a method

    def freeze(self) -> None:
        """From now on a new request is an error."""
        self._frozen = True

    def response(self, session: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
        """The response as if it had just arrived. Raises AssertionError for a new request when frozen."""
        self.sent += 1
        key = (_text(request.headers["X-Amz-Target"]), _octets(request.body))
        if key not in self._responses:
            assert not self._frozen, f"{key[0]} was not asked before"
            real = self._send(session, request)
            self._responses[key] = (real.status_code, real.headers, real.content)
        status, headers, body = self._responses[key]
        return AWSResponse(request.url, status, headers, _Raw(body))  # type: ignore[arg-type]  # as its tests do


class _Raw:
    """The body from which botocore reads."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._body


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _octets(body: object) -> bytes:
    return body if isinstance(body, bytes) else str(body).encode()
