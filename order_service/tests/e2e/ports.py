"""Free ports, below the range that the kernel gives to outgoing connections, on both loopback addresses."""

import os
import random
import socket

# Sessions that run side by side keep out of each other's ports.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_FIRST = 15_000 + _WORKER % 8 * 2_000
_given: set[int] = set()


def _is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        if family == socket.AF_INET6 and not has_ipv6_loopback():
            continue
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


def has_ipv6_loopback() -> bool:
    """Whether `::1` can be bound on this machine."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
            return True
    except OSError:
        return False


def free_port() -> int:
    """A port nobody listens on, never given twice in one session."""
    while True:
        port = random.randrange(_FIRST, _FIRST + 2_000)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def is_open(port: int) -> bool:
    """Whether somebody listens on 127.0.0.1:`port`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
