"""A network in memory, with a clock: what punching sees of reactor and sockets."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

Address = tuple[str, int]
DELAY = 0.01


class Network(Clock):
    """
    @ivar passes: says whether a datagram gets through, and from which address it seems to come.
    @ivar log: each datagram that was sent: when, from, to, bytes, and its hops.
    @ivar sockets: the open ones.
    @ivar aliases: other addresses of sockets, as a NAT makes them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.passes: Callable[[Address, Address, bytes, int], Address | None] = lambda source, *_: (
            source
        )
        self.log: list[tuple[float, Address, Address, bytes, int]] = []
        self.sockets: dict[Address, Socket] = {}
        self.aliases: dict[Address, Address] = {}
        self.readers: dict[Any, Any] = {}

    def addReader(self, reader: Any) -> None:
        self.readers[reader.sock] = reader

    def removeReader(self, reader: Any) -> None:
        self.readers.pop(reader.sock, None)

    def deliver(self, source: Address, target: Address, data: bytes) -> None:
        """Somebody's datagram arrives."""
        target = self.aliases.get(target, target)
        if target in self.sockets:
            sock = self.sockets[target]
            sock.arrived.append((data, source))
            self.readers[sock].doRead()

    def run(self, seconds: float) -> None:
        """Time passes, in small steps."""
        for _ in range(round(seconds * 200)):
            self.advance(0.005)


_HOPS = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TTL),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
}


class Socket:
    """A UDP socket of it; which family it is of, its address says."""

    def __init__(self, network: Network, address: Address) -> None:
        self.family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.network = network
        self.address = address
        self.hops = 64
        self.broken = False
        self.arrived: deque[tuple[bytes, Address]] = deque()
        network.sockets[address] = self

    def setblocking(self, blocking: bool) -> None:
        assert not blocking

    def fileno(self) -> int:
        return 1 if self.network.sockets.get(self.address) is self else -1

    def getsockname(self) -> Address:
        return self.address

    def getsockopt(self, level: int, option: int) -> int:
        assert (level, option) == _HOPS[self.family]
        return self.hops

    def setsockopt(self, level: int, option: int, value: int) -> None:
        if (level, option) == _HOPS[self.family]:
            self.hops = value

    def recvfrom_into(self, buffer: memoryview) -> tuple[int, Address]:
        if not self.arrived:
            raise BlockingIOError
        data, source = self.arrived.popleft()
        buffer[: len(data)] = data
        return len(data), source

    def sendto(self, data: bytes, target: Address) -> None:
        if self.broken:
            raise OSError("no route")
        network = self.network
        network.log.append((network.seconds(), self.address, target, data, self.hops))
        seen = network.passes(self.address, target, data, self.hops)
        if seen is not None:
            network.callLater(DELAY, network.deliver, seen, target, data)

    def close(self) -> None:
        if self.network.sockets.get(self.address) is self:
            del self.network.sockets[self.address]
