"""botocore's HTTP send, answered from bytes that the AWS endpoint gave earlier in the same run.

All else of botocore runs: the request is built and signed, the answer's bytes are checked and parsed. What is left out
is the network and AWS itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.httpsession import URLLib3Session


class Canned:
    """Each request is sent once; its answer serves every later one with the same bytes. `freeze` ends the sending."""

    def __init__(self) -> None:
        self.sent = 0
        self._frozen = False
        self._answers: dict[tuple[str, bytes], tuple[int, Mapping[str, str], bytes]] = {}
        self._send = URLLib3Session.send

    def install(self) -> None:
        """In this whole process, for good."""
        canned = self

        def send(session: URLLib3Session, request: Any) -> AWSResponse:
            return canned.answer(session, request)

        # The one place that every client goes through.
        setattr(URLLib3Session, "send", send)  # noqa: B010  # mypy forbids to assign a method

    def freeze(self) -> None:
        """From here on a request that was not made before is an error."""
        self._frozen = True

    def answer(self, session: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
        """The answer's bytes as if they had just arrived. Raises AssertionError for what is unknown when frozen."""
        self.sent += 1
        key = (_text(request.headers["X-Amz-Target"]), _octets(request.body))
        if key not in self._answers:
            assert not self._frozen, f"{key[0]} was not asked before"
            real = self._send(session, request)
            self._answers[key] = (real.status_code, real.headers, real.content)
        status, headers, body = self._answers[key]
        return AWSResponse(request.url, status, headers, _Raw(body))  # type: ignore[arg-type]  # as its tests do


class _Raw:
    """What botocore reads an answer's bytes from."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._body


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _octets(body: object) -> bytes:
    return body if isinstance(body, bytes) else str(body).encode()
