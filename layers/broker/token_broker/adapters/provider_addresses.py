"""Connects to a provider: resolves its name, checks every address, and races them (in the spirit of RFC 8305)."""

from __future__ import annotations

import ipaddress
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Any, Self

ATTEMPT_DELAY_S = 0.25
# At most these many addresses of a name are tried.
MAX_ADDRESSES = 16
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Family and socket address.
Target = tuple[int, Any]
# IPv4-compatible (RFC 4291 section 2.5.5.1) and NAT64 (RFC 6052 section 2.1, RFC 8215).
EMBEDDING = tuple(ipaddress.IPv6Network(prefix) for prefix in ("::/96", "64:ff9b::/96", "64:ff9b:1::/48"))


class AddressNotAllowed(Exception):
    """A name resolves to an address that the broker may not connect to."""


def connect(host: str, port: int, *, private: bool, loopback: bool, deadline: float) -> socket.socket:
    """A connected socket. `private`, `loopback`: whether such addresses are allowed. `deadline`: by time.monotonic.

    The name is resolved once. Raises AddressNotAllowed if any of its addresses is not allowed, or OSError.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        if not _is_allowed(str(address[0]), private=private, loopback=loopback):
            raise AddressNotAllowed
    targets = dict.fromkeys((int(family), address) for family, _, _, _, address in found)
    return _first_connected(_alternating(targets)[:MAX_ADDRESSES], deadline)


def _alternating(targets: dict[Target, None]) -> list[Target]:
    """Addresses of both families in turn, beginning with the first: one family may lead nowhere."""
    first_family = next(iter(targets), (0, None))[0]
    first = [target for target in targets if target[0] == first_family]
    others = [target for target in targets if target[0] != first_family]
    return [target for target in chain.from_iterable(zip_longest(first, others)) if target is not None]


def _first_connected(targets: list[Target], deadline: float) -> socket.socket:
    """The first socket that connects. All others are closed, and nothing was sent on them.

    The next attempt starts 250 ms after the one before, or as soon as one fails. Raises OSError.
    """
    untried = deque(targets)
    with _Attempts() as attempts:
        while (left_s := deadline - time.monotonic()) > 0 and (untried or attempts.pending):
            if untried:
                attempts.start(untried.popleft())
            winner = attempts.wait(min(left_s, ATTEMPT_DELAY_S) if untried else left_s)
            if winner is not None:
                return winner
    raise OSError("no address accepts a connection")


class _Attempts:
    """Connections that are being opened, without a thread. Whatever did not win is closed at the end."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.pending: set[socket.socket] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for sock in self.pending:
            sock.close()

    def start(self, target: Target) -> None:
        """Begins to connect. An address that fails at once is dropped."""
        family, address = target
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            # This host has no IPv6.
            return
        try:
            sock.setblocking(False)
            sock.connect(address)
        except BlockingIOError:
            # It goes on in the background.
            pass
        except OSError:
            sock.close()
            return
        self.pending.add(sock)
        self._selector.register(sock, selectors.EVENT_WRITE)

    def wait(self, timeout_s: float) -> socket.socket | None:
        """The first socket that is connected; None if an attempt failed, or after the time."""
        if not self.pending:
            return None
        for key, _ in self._selector.select(timeout_s):
            sock = key.fileobj
            assert isinstance(sock, socket.socket)  # noqa: S101  # nothing else is registered
            self._selector.unregister(sock)
            self.pending.remove(sock)
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                return sock
            sock.close()
        return None


def _is_allowed(text: str, *, private: bool, loopback: bool) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if address.is_loopback:
        return loopback
    return all(_is_public(form, private=private, loopback=loopback) for form in _embedded_addresses(address))


def _is_public(address: Address, *, private: bool, loopback: bool) -> bool:
    if address.is_loopback:
        return loopback
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        return False
    return address.is_global or (private and address.is_private)


def _embedded_addresses(address: Address) -> Iterator[Address]:
    """An address, and the IPv4 address that it may stand for: mapped, compatible, 6to4, Teredo, NAT64."""
    if isinstance(address, ipaddress.IPv4Address):
        yield address
        return
    embedded = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
    if embedded is None and any(address in prefix for prefix in EMBEDDING):
        embedded = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if embedded is not None:
        yield embedded
    if address.ipv4_mapped is None:
        yield address
