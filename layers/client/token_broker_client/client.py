"""`TokenBroker`: a valid token in one call."""

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

import boto3
import urllib3

from token_broker_client.endpoint import Endpoint
from token_broker_client.source import DEADLINE_S, TokenSource, sleep

URL_VARIABLE: Final = "TOKEN_BROKER_URL"


class TokenBroker(TokenSource):
    """The broker at `url` (the stack's output ApiUrl; None: the environment variable TOKEN_BROKER_URL).

    Without any URL, the first request raises ClientNotConfigured. In tests, `testing.FakeBroker` stands in for it.

        broker = TokenBroker("https://….execute-api.eu-west-1.amazonaws.com/api")
        token = broker.token("unidy", "eu-main", scope="users:read")

    Requests are signed with the AWS credentials of `session` (None: those that boto3 finds) for `region` (None: the
    region in the URL, else the session's). `http` is your own urllib3 pool, for a proxy or a private certificate
    authority. Keep one object per process: it keeps tokens and connections. Thread-safe. A forked child starts without
    tokens and connections.
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
        """`deadline_s`: how long one call may take, with all retries and pauses. Raises ClientNotConfigured."""
        url = url or os.environ.get(URL_VARIABLE) or ""
        self._endpoint = Endpoint(url, session=session, region=region, http=http)
        super().__init__(self._endpoint, deadline_s=deadline_s, clock=clock, sleep=sleep)
        self._url = url
        _brokers.add(self)

    def close(self) -> None:
        """Closes open connections."""
        self._endpoint.close()

    def reset_after_fork(self) -> None:
        """Drops the tokens, connections and locks that a forked child got from its parent."""
        self.forget()
        self._endpoint.reset_after_fork()

    def active(self) -> TokenSource:
        """This broker, or the FakeBroker of a test."""
        return fake_brokers[-1] if fake_brokers else self

    def __repr__(self) -> str:
        return f"TokenBroker({self._url!r})"


_brokers: weakref.WeakSet[TokenBroker] = weakref.WeakSet()
_shared: dict[str, TokenBroker] = {}
_shared_lock = threading.Lock()
# In tests these replace every TokenBroker. The last one counts. See `testing.FakeBroker`.
fake_brokers: list[TokenSource] = []


def shared_broker(url: str | None = None) -> TokenBroker:
    """The process's one TokenBroker for a URL (None: TOKEN_BROKER_URL). Raises ClientNotConfigured."""
    url = url or os.environ.get(URL_VARIABLE) or ""
    with _shared_lock:
        broker = _shared.get(url)
        if broker is None:
            broker = _shared[url] = TokenBroker(url)
        return broker


def _after_fork() -> None:
    global _shared_lock  # noqa: PLW0603  # a thread of the parent may have held it
    _shared_lock = threading.Lock()
    for broker in list(_brokers):
        broker.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
