"""`TokenBroker`: a valid token in one call, signed with the caller's own AWS credentials."""

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

import boto3
import urllib3

from token_broker_client.endpoint import Endpoint
from token_broker_client.errors import ClientNotConfigured
from token_broker_client.source import DEADLINE_S, TokenSource, sleep

URL_VARIABLE: Final = "TOKEN_BROKER_URL"


class TokenBroker(TokenSource):
    """The broker at `url` (the stack's output ApiUrl; None: the environment's TOKEN_BROKER_URL).

        broker = TokenBroker("https://….execute-api.eu-west-1.amazonaws.com/api")
        token = broker.token("unidy", "eu-main", scope="users:read")

    Requests are signed with the AWS credentials of `session` (None: those of the environment, as boto3 finds them), for
    `region` (None: the one in the URL, else the session's). `http` is a urllib3 pool of your own, for a proxy or a
    private certificate authority. Keep one object per process: it keeps tokens and connections. Thread-safe, and a
    forked child starts with neither.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        session: boto3.Session | None = None,
        region: str | None = None,
        http: urllib3.PoolManager | None = None,
        deadline_s: float = DEADLINE_S,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = sleep,
    ) -> None:
        """`deadline_s`: how long one call may take, attempts and pauses together. Raises ClientNotConfigured."""
        url = url or os.environ.get(URL_VARIABLE)
        if not url:
            raise ClientNotConfigured(f"no URL of the broker: give one, or set {URL_VARIABLE}")
        self._endpoint = Endpoint(url, session=session, region=region, http=http)
        super().__init__(self._endpoint, deadline_s=deadline_s, clock=clock, sleep=sleep)
        self._url = url
        _brokers.add(self)

    def close(self) -> None:
        """Closes the connections that are open."""
        self._endpoint.close()

    def start_afresh(self) -> None:
        """In a forked child: no kept token, no connection and no lock of the parent's."""
        self.forget()
        self._endpoint.start_afresh()

    def __repr__(self) -> str:
        return f"TokenBroker({self._url!r})"


_brokers: weakref.WeakSet[TokenBroker] = weakref.WeakSet()
_shared: dict[str, TokenBroker] = {}
_shared_lock = threading.Lock()
# Tests' stand-ins for every shared broker, the last one counts: see `testing.FakeBroker`.
stand_ins: list[TokenSource] = []


def shared_broker(url: str | None = None) -> TokenSource:
    """This process's one TokenBroker for a URL (None: TOKEN_BROKER_URL). Raises ClientNotConfigured."""
    if stand_ins:
        return stand_ins[-1]
    url = url or os.environ.get(URL_VARIABLE) or ""
    with _shared_lock:
        broker = _shared.get(url)
        if broker is None:
            broker = _shared[url] = TokenBroker(url)
        return broker


def _after_fork() -> None:
    global _shared_lock  # noqa: PLW0603  # another thread of the parent may have held it
    _shared_lock = threading.Lock()
    for broker in list(_brokers):
        broker.start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
