"""What the agent counts, in Prometheus's text format. No label names a connection or a token."""

import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from token_broker_client.endpoint import BrokerGet
from token_broker_client.errors import BrokerRefused, TokenBrokerError

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "token_broker_agent"


class Metrics:
    """Thread-safe counters."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._broker_requests: Counter[str] = Counter()
        self._broker_responded_at = 0.0

    def count_request(self, route: str, status: int) -> None:
        """One request of a program. `route`: a name of the route, not the path."""
        with self._lock:
            self._requests[route, status] += 1

    def count_broker_request(self, result: str) -> None:
        """One request to the broker: "token", "refused" or "no_response"."""
        with self._lock:
            self._broker_requests[result] += 1
            if result != "no_response":
                self._broker_responded_at = self._clock()

    def text(self, tokens: int) -> str:
        """All metrics. `tokens`: how many are cached."""
        with self._lock:
            requests = {
                f'{{route="{route}",status="{status}"}}': count for (route, status), count in self._requests.items()
            }
            broker = {f'{{result="{result}"}}': count for result, count in self._broker_requests.items()}
            responded_at = self._broker_responded_at
        return "".join(
            (
                _metric("requests_total", "counter", "Requests of programs.", requests),
                _metric("broker_requests_total", "counter", "Requests to the broker.", broker),
                _metric(
                    "broker_responded_timestamp_seconds",
                    "gauge",
                    "When the broker last responded; 0: not yet.",
                    {"": responded_at},
                ),
                _metric("tokens", "gauge", "Cached tokens.", {"": tokens}),
                _metric("peak_memory_bytes", "gauge", "The most memory that the agent had.", {"": _peak_memory()}),
            )
        )


class CountedGet:
    """Passes requests on to the broker and counts them."""

    def __init__(self, get: BrokerGet, metrics: Metrics) -> None:
        self._get = get
        self._metrics = metrics

    def __call__(self, path: str, query: Mapping[str, str], /, *, timeout_s: float) -> dict[str, Any]:
        """See `BrokerGet`."""
        try:
            body = self._get(path, query, timeout_s=timeout_s)
        except TokenBrokerError as error:
            self._metrics.count_broker_request("refused" if isinstance(error, BrokerRefused) else "no_response")
            raise
        self._metrics.count_broker_request("token")
        return body


def _metric(name: str, kind: str, what: str, samples: Mapping[str, float]) -> str:
    lines = [f"# HELP {PREFIX}_{name} {what}", f"# TYPE {PREFIX}_{name} {kind}"]
    lines += [f"{PREFIX}_{name}{labels} {value:.15g}" for labels, value in samples.items()]
    return "\n".join(lines) + "\n"


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
