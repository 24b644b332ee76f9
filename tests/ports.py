"""Ports for servers that tests start."""

import secrets
import socket
from pathlib import Path

#: The first that is given away. Below lie the well-known ones of servers that a developer has running.
LOWEST = 20_000
#: From where on the system takes the ports of outgoing connections. Until a server is up, which may take it half a
#: minute, one of those could get its port.
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port of 127.0.0.1 where nobody listens just now, and that no outgoing connection gets."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """As many of them."""
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            one = socket.socket()
            sockets.append(one)
            try:
                one.bind(("127.0.0.1", _any()))
            except OSError:
                sockets.pop().close()
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _any() -> int:
    # Not of `random`: Hypothesis seeds that, and two processes would be given the same.
    above = _first_outgoing()
    return LOWEST + secrets.randbelow(above - LOWEST) if above > LOWEST else 0


def _first_outgoing() -> int:
    try:
        return int(_OUTGOING.read_text().split()[0])
    except OSError:
        return 0
