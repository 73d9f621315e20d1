"""Which router this host's packets go to, as Linux tells it; elsewhere nobody knows."""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

_UP, _GATEWAY = 0x1, 0x2


def default_gateway(table: Path = Path("/proc/net/route")) -> str | None:
    """
    The IPv4 address of the router that the default route leads to; of several, the best one's.

    @param table: what the kernel shows of its routes (proc(5)).
    """
    routes = []
    with contextlib.suppress(OSError):
        for line in table.read_text().splitlines()[1:]:
            with contextlib.suppress(ValueError, IndexError):
                routes.append(_read(line))
    found = [(metric, gateway) for metric, gateway in filter(None, routes)]
    return min(found)[1] if found else None


def _read(line: str) -> tuple[int, str] | None:
    """Metric and gateway, if the route is a default one."""
    fields = line.split()
    destination, gateway, flags = (int(field, 16) for field in fields[1:4])
    mask = int(fields[7], 16)
    if destination or mask or flags & (_UP | _GATEWAY) != _UP | _GATEWAY:
        return None
    # The number as this machine holds it, whose bytes are in the network's order.
    return int(fields[6]), socket.inet_ntoa(struct.pack("=I", gateway))
