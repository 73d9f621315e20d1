"""
Two sockets that are each other's peer, within this process.

What is not spliced but looked into (HTTP, TLS, WebSockets) meets what moves bytes in such a pair.
The kernel does not tell one end of a UNIX pair whether the other was reset or ended in order, and
half a file must not look like a whole one: so each end tells the other.
"""

from __future__ import annotations

import socket


class End(socket.socket):
    """
    One of the two.

    @ivar broken: the other end was reset, not closed in order; to be looked at when the end of
        the stream is read here, or a write fails.
    """

    __slots__ = ("_other", "broken")

    _other: End

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.broken = False
        self.setblocking(False)

    def tell_broken(self) -> None:
        """This end is about to be reset."""
        self._other.broken = True


def is_broken(sock: socket.socket) -> bool:
    """Whether the end of the stream that was read at C{sock} is none: it is one of a pair."""
    return isinstance(sock, End) and sock.broken


def pair() -> tuple[End, End]:
    """
    Make the two ends, non-blocking.

    @raise OSError: if there is no descriptor left.
    """
    left, right = (End(sock) for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))
    left._other, right._other = right, left
    return left, right
