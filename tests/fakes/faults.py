"""Faults between the broker and its ports, and how often each port was called."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import Any

from token_broker.errors import BrokerUnavailable

Call = Callable[[], Any]
Plan = Callable[[Call], Any]


class Faults:
    """Plans faults for calls by name, such as `tokens.save`. Each call uses up one planned fault.

    `every`: called with the name before each call, for latency or a switch to another actor. `down`: ports whose calls
    all fail.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.every: Callable[[str], object] = lambda _name: None
        self._plans: defaultdict[str, deque[Plan]] = defaultdict(deque)
        self.down: set[str] = set()

    def fail(self, name: str, times: int = 1) -> None:
        """The next calls fail and have no effect."""
        self._plans[name].extend([_fail] * times)

    def let_pass(self, name: str, times: int = 1) -> None:
        """The next calls work as usual. An acquisition saves its lease first, then its token."""
        self._plans[name].extend([_pass] * times)

    def lose_response(self, name: str) -> None:
        """The next call takes effect, but its caller gets an error."""
        self._plans[name].append(_lose_response)

    def send_twice(self, name: str, between: Call = lambda: None) -> None:
        """The next call takes effect, its response is lost, and the AWS client repeats it. Returns the second response.

        `between`: what somebody else does before the second call.
        """
        self._plans[name].append(partial(_send_twice, between))

    def before(self, name: str, action: Call) -> None:
        """Runs `action` just before the next call takes effect."""
        self._plans[name].append(partial(_after, action))

    def after(self, name: str, action: Call) -> None:
        """Runs `action` just after the next call took effect, before its caller gets the response."""
        self._plans[name].append(partial(_before, action))

    def take_down(self, port: str) -> None:
        """Every call of a port (`tokens`) fails until `bring_up`."""
        self.down.add(port)

    def bring_up(self, port: str) -> None:
        self.down.discard(port)

    def around(self, port: str, inner: object) -> Any:
        """The port `inner` with the planned faults."""
        return _Port(self, port, inner)

    def apply(self, name: str, call: Call) -> Any:
        self.calls[name] += 1
        self.every(name)
        if name.partition(".")[0] in self.down:
            return _fail(call)
        plans = self._plans[name]
        return plans.popleft()(call) if plans else call()


class _Port:
    def __init__(self, faults: Faults, name: str, inner: object) -> None:
        self._faults = faults
        self._name = name
        self._inner = inner

    def __getattr__(self, method: str) -> Any:
        function = getattr(self._inner, method)

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._faults.apply(f"{self._name}.{method}", partial(function, *args, **kwargs))

        return call


def _pass(call: Call) -> Any:
    return call()


def _fail(_call: Call) -> Any:
    raise BrokerUnavailable("A service of ours fails.")


def _lose_response(call: Call) -> Any:
    call()
    raise BrokerUnavailable("A service of ours fails.")


def _send_twice(between: Call, call: Call) -> Any:
    call()
    between()
    return call()


def _after(action: Call, call: Call) -> Any:
    action()
    return call()


def _before(action: Call, call: Call) -> Any:
    result = call()
    action()
    return result
