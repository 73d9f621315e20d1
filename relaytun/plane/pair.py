"""
Two sockets that are each other's peer, within this process.

What is not spliced but looked into (HTTP, TLS, WebSockets) meets what moves bytes in such a pair.
The kernel does not tell one end of a UNIX pair whether the other was reset or ended in order, and
half a file must not look like a whole one: so each end tells the other.
"""

from __future__ import annotations

import socket
from collections.abc import Callable


class End(socket.socket):
    """
    One of the two.

    @ivar broken: the other end was reset, not closed in order; to be looked at when the end of
        the stream is read here, or a write fails.
    @ivar when_broken: told of it at once, also while nobody reads here because nobody reads at
        the far side either; it must not do much.
    """

    __slots__ = ("_other", "broken", "when_broken")

    _other: End

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        self.broken = False
        self.when_broken: Callable[[], None] | None = None
        self.setblocking(False)

    def tell_broken(self) -> None:
        """This end is about to be reset."""
        other = self._other
        other.broken = True
        if other.when_broken is not None:
            other.when_broken()

    def close(self) -> None:
        """See L{socket.socket.close}."""
        self.when_broken = None
        super().close()


def is_broken(sock: socket.socket) -> bool:
    """Whether the end of the stream that was read at C{sock} is none: it is one of a pair."""
    return isinstance(sock, End) and sock.broken


def tell_when_broken(sock: socket.socket, told: Callable[[], None]) -> None:
    """If it is one of a pair, call C{told} when the other end is reset."""
    if isinstance(sock, End):
        sock.when_broken = told


def pair() -> tuple[End, End]:
    """
    Make the two ends, non-blocking.

    @raise OSError: if there is no descriptor left.
    """
    left, right = (End(sock) for sock in socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))
    left._other, right._other = right, left
    return left, right
