"""Busy ports are reported all at once, with a command that uses free ones."""

import re
from collections.abc import Iterator

import pytest

from local.ports import PortInUse, listen, listen_on_all, port_of


@pytest.fixture
def busy() -> Iterator[list[int]]:
    """Two ports that somebody else listens on."""
    with listen(0) as first, listen(0) as second:
        yield [port_of(first), port_of(second)]


def test_all_busy_ports_are_named_at_once_and_free_ones_suggested(busy: list[int]) -> None:
    with pytest.raises(PortInUse) as raised:
        listen_on_all({"PORT": busy[0], "AWS_PORT": busy[1], "PROVIDERS_PORT": 0})
    message = str(raised.value)
    assert f"PORT: port {busy[0]}" in message
    assert f"AWS_PORT: port {busy[1]}" in message
    assert "PROVIDERS_PORT: " not in message
    command = re.search(r"make run PORT=(\d+) AWS_PORT=(\d+) PROVIDERS_PORT=(\d+)$", message)
    assert command is not None
    ports = [int(port) for port in command.groups()]
    assert len({*ports, *busy}) == 5
    for port in ports:
        listen(port).close()


def test_a_number_that_is_no_port_is_reported_like_a_busy_one() -> None:
    with pytest.raises(PortInUse, match="highest port"):
        listen(70_000)
    with pytest.raises(PortInUse, match="make run PORT="):
        listen_on_all({"PORT": 70_000})
