"""
A punched UDP path as a reader and a writer: whole batches of datagrams in one turn.

The socket is connected, so the kernel drops what comes from anybody else.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from relaytun.interfaces import IReactor

#: Datagrams that are read before the reactor turns to others.
_AT_ONCE = 64
_LARGEST = 65536
#: Linux: never cut a datagram into fragments, tell that it is too long (ip(7), ipv6(7)).
_WHOLE = {
    socket.AF_INET: (socket.IPPROTO_IP, 10),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 23),
}
_DO = 2
#: Bytes that the kernel is asked to keep for each direction; it grants less unless it is set up
#: to (net.core.rmem_max, 208 KiB as a rule: 90 datagrams with what the kernel counts for each).
_BUFFER = 4 * 1024 * 1024


@implementer(IReadDescriptor)
class UdpPath:
    """It takes the socket over, and closes it on L{close}."""

    def __init__(
        self, reactor: IReactor, sock: socket.socket, received: Callable[[bytes], None]
    ) -> None:
        """
        @param sock: a UDP socket, non-blocking and connected to the other side.
        @param received: gets each datagram.
        """
        self._reactor = reactor
        self._sock = sock
        self._received = received
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        if sys.platform == "linux":
            sock.setsockopt(*_WHOLE[sock.family], _DO)
        reactor.addReader(self)

    def send(self, datagram: bytes) -> None:
        """Send it, or lose it: the kernel has no room, or tells that an earlier one was refused."""
        with contextlib.suppress(OSError):
            self._sock.send(datagram)

    def close(self) -> None:
        """It is over."""
        if self._sock.fileno() >= 0:
            self._reactor.removeReader(self)
            self._sock.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "udp path"

    def doRead(self) -> None:
        receive, received = self._sock.recv, self._received
        for _ in range(_AT_ONCE):
            try:
                datagram = receive(_LARGEST)
            except BlockingIOError:
                return
            except OSError:  # What an earlier one met: nobody listened, no way there.
                if self._sock.fileno() < 0:
                    return
                continue
            received(datagram)

    def doWrite(self) -> None:
        """Watched for bytes alone: room is no news."""

    def connectionLost(self, reason: Failure) -> None:
        """A UDP socket has no connection; silence is noticed above."""
