"""
A UDP socket under the reactor that talks to many addresses, one datagram at a time.

What the kernel does not take is lost, as it would be on any path.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor

#: Datagrams in one turn of the reactor.
_AT_ONCE = 64
#: Linux: never cut a datagram into fragments, refuse what is too long (ip(7), ipv6(7)).
_WHOLE = {
    socket.AF_INET: (socket.IPPROTO_IP, 10),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 23),
}
_DO = 2
#: Bytes that the kernel is asked to keep for each direction; it gives what it allows.
_BUFFER = 4 * 1024 * 1024
_buffer = memoryview(bytearray(65536))


@implementer(IReadDescriptor)
class UdpSocket:
    """
    It owns the socket, and closes it.

    @ivar received: gets each datagram, who sent it, and this object.
    @ivar sock: the socket itself.
    """

    def __init__(
        self,
        reactor: IReactor,
        sock: socket.socket,
        received: Callable[[bytes, tuple[str, int], UdpSocket], None],
    ) -> None:
        """@param sock: bound."""
        self.received = received
        self.sock = sock
        self._reactor = reactor
        sock.setblocking(False)
        if sys.platform == "linux":
            # A full-size packet that passes in pieces proves nothing.
            with contextlib.suppress(OSError):
                sock.setsockopt(*_WHOLE[sock.family], _DO)
        reactor.addReader(self)

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        return "punch"

    def doRead(self) -> None:
        for _ in range(_AT_ONCE):
            if self.sock.fileno() < 0:
                return  # Closed by what came before.
            try:
                size, address = self.sock.recvfrom_into(_buffer)
            except OSError:
                return  # Nothing more; or the kernel tells of an ICMP error, which proves nothing.
            self.received(bytes(_buffer[:size]), address[:2], self)

    def doWrite(self) -> None:
        """An older socket of this number could have written."""

    def connectionLost(self, reason: Failure) -> None:
        self.close()

    def send(self, data: bytes, address: tuple[str, int], hops: int | None = None) -> bool:
        """
        Send a datagram.

        @param hops: so many routers pass it on, and the last one drops it.
        @return: whether the kernel took it.
        """
        if hops is None:
            return self._send(data, address)
        level, option = (
            (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
            if self.sock.family == socket.AF_INET6
            else (socket.IPPROTO_IP, socket.IP_TTL)
        )
        try:
            usual = self.sock.getsockopt(level, option)
            self.sock.setsockopt(level, option, hops)
        except OSError:
            return False
        try:
            return self._send(data, address)
        finally:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(level, option, usual)

    def widen(self) -> None:
        """Make room for the datagrams of those who use a path."""
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)

    def close(self) -> None:
        """A second time does no harm."""
        if self.sock.fileno() >= 0:
            self._reactor.removeReader(self)
            self.sock.close()

    def _send(self, data: bytes, address: tuple[str, int]) -> bool:
        try:
            self.sock.sendto(data, address)
        except OSError:
            return False
        return True
