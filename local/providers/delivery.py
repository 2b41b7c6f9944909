"""Writes the reply to a request to the socket, and plays a fault if one is queued for it."""

from __future__ import annotations

import socket
import struct

from .faults import DISTORTING, HANG_LIMIT_S, Fault, WaitEnd
from .simulator import Simulator
from .wire import Reply, Request

HUGE_CHUNK = b"x" * 65_536


def deliver(simulator: Simulator, request: Request, connection: socket.socket) -> bool:
    """Replies to the request. Returns whether the connection stays open. Raises OSError if the client is gone."""
    arrival = simulator.arrive(request)
    fault = arrival.fault
    if fault is None:
        return _send(simulator, connection, simulator.answer(request, arrival))
    carried_out = fault.when == "after" or fault.kind in DISTORTING
    reply = simulator.answer(request, arrival) if carried_out else None
    if fault.kind in ("delay", "hang"):
        if not _waited(simulator, fault):
            return False
        return _send(simulator, connection, reply or simulator.answer(request, arrival))
    if fault.kind == "reset":
        return _reset(connection)
    if fault.kind == "huge":
        return _send_huge(simulator, connection, fault.size)
    if reply is not None and fault.kind == "drip":
        return _drip(simulator, connection, reply, fault)
    if reply is not None and fault.kind == "truncate":
        connection.sendall(reply.head(now=simulator.vendor_time()) + reply.body[: len(reply.body) // 2])
        return False
    return _send(simulator, connection, _instead(fault))


def _waited(simulator: Simulator, fault: Fault) -> bool:
    """Whether to reply after the wait: not if the request was dropped, or if it hung and was not released."""
    hanging = fault.kind == "hang"
    end = simulator.waits.wait(HANG_LIMIT_S if hanging else fault.seconds)
    return end is not WaitEnd.DROPPED and not (hanging and end is WaitEnd.ELAPSED)


def _instead(fault: Fault) -> Reply:
    """The reply of a status, body, malformed or redirect fault, in place of the vendor's."""
    if fault.kind == "redirect":
        return Reply(302, fault.octets, {"Location": fault.location, **fault.headers})
    status = fault.status if fault.kind == "status" else 200
    return Reply(status, fault.octets, {"Content-Type": "application/json", **fault.headers})


def _send(simulator: Simulator, connection: socket.socket, reply: Reply) -> bool:
    connection.sendall(reply.head(now=simulator.vendor_time()) + reply.body)
    return True


def _send_huge(simulator: Simulator, connection: socket.socket, size: int) -> bool:
    reply = Reply(200, headers={"Content-Type": "application/json"})
    connection.sendall(reply.head(now=simulator.vendor_time(), content_length=size))
    for sent in range(0, size, len(HUGE_CHUNK)):
        connection.sendall(HUGE_CHUNK[: size - sent])
    return True


def _drip(simulator: Simulator, connection: socket.socket, reply: Reply, fault: Fault) -> bool:
    """Send one byte every `seconds`, of the body or of everything, so that no read of the client times out."""
    head = reply.head(now=simulator.vendor_time())
    if fault.part == "body":
        connection.sendall(head)
    slow = reply.body if fault.part == "body" else head + reply.body
    for index in range(len(slow)):
        end = simulator.waits.wait(fault.seconds)
        if end is WaitEnd.DROPPED:
            return False
        if end is WaitEnd.RELEASED:
            connection.sendall(slow[index:])
            return True
        connection.sendall(slow[index : index + 1])
    return True


def _reset(connection: socket.socket) -> bool:
    """Send RST instead of FIN. The descriptor is closed here, because the server's shutdown would send a FIN first."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    socket.close(connection.detach())
    return False
