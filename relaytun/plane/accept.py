"""
Incoming connections, as bare sockets.

The listening port comes from a Twisted endpoint; from there on an L{Acceptor} takes the
connections itself, because a L{Splice} wants a socket and nothing around it.  When the process
has no descriptor left it lets them wait in the kernel's queue and looks again a little later:
no spin, and whoever is connected does not notice.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from . import pair
from .oneway import ReadOnly

#: How long to leave connections in the kernel's queue when they cannot be taken, seconds.
BREATHER = 0.2
#: Connections that may wait in the kernel's queue; Twisted asks for 50, too few for a burst.
QUEUE = 1024
AT_ONCE = 64
#: For SO_LINGER: what close does to bytes on their way.
_RESET = struct.pack("ii", 1, 0)
_IN_ORDER = struct.pack("ii", 0, 0)
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def prepare(sock: socket.socket, probed: bool = True) -> None:
    """
    The options that every stream socket of ours has: non-blocking, no delay for small writes,
    L{break_when_killed}, and keep-alives that find a dead peer in about 75 s where nothing else
    would.

    @param probed: whether it is to have the keep-alives.
    """
    sock.setblocking(False)
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    break_when_killed(sock)
    if probed:
        keep_alive(sock, 30, 15, 3)


def break_when_killed(sock: socket.socket) -> None:
    """
    From now on whatever closes it but L{close_in_order} is a reset, also the kernel's close when
    this process dies: otherwise a part of a file would look like the whole.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def end_in_order(sock: socket.socket) -> None:
    """From now on whatever closes it sends its last byte first."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _IN_ORDER)


def close_in_order(sock: socket.socket) -> None:
    """Close it after its last byte: the other end sees the end of the data."""
    end_in_order(sock)
    sock.close()


def reset(sock: socket.socket) -> None:
    """Close it so that the other end sees an error, not the end of the data."""
    if isinstance(sock, pair.End):
        sock.tell_broken()
    with contextlib.suppress(OSError):  # Not every kind of socket, nor a dead one, can linger.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


def send_waiting(sock: socket.socket, waiting: deque[memoryview]) -> int:
    """
    Send what the kernel takes now; the rest stays in C{waiting}.

    @return: bytes that it has taken.
    @raise OSError: the connection is dead.
    """
    total = 0
    with contextlib.suppress(BlockingIOError):
        while waiting:
            sent = sock.send(waiting[0])
            total += sent
            if sent < len(waiting[0]):
                waiting[0] = waiting[0][sent:]
                break
            waiting.popleft()
    return total


def keep_alive(sock: socket.socket, idle: int, interval: int, count: int) -> None:
    """Have the kernel probe the peer after C{idle} seconds, C{count} times, then give up."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)


def lengthen_queue(port: Any) -> None:
    """
    Let C{QUEUE} connections wait to be taken.

    @param port: a listening socket, or a listening port with a C{fileno}.
    """
    with socket.socket(fileno=os.dup(port.fileno())) as listening:
        listening.listen(QUEUE)


@implementer(IReadDescriptor)
class Acceptor(ReadOnly):
    """Takes a listening port's connections."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        port: IListeningPort | socket.socket,
        accepted: Callable[[socket.socket, Any], None],
        has_room: Callable[[], bool] = lambda: True,
        at_once: int = AT_ONCE,
    ) -> None:
        """
        @param port: as an endpoint's C{listen} gives it, or a listening socket; whoever made it
            closes it, after L{stop}.
        @param accepted: gets each prepared socket and the peer's address (as C{accept(2)} has
            it; a UNIX peer's is an empty string).
        @param has_room: whether one more may be taken; if not, it waits its turn.
        @param at_once: the most that are taken in one turn of the reactor.  What they ask for is
            done in the next ones, so this is what paces a burst.
        """
        self._reactor = reactor
        self._accepted = accepted
        self._has_room = has_room
        self._pause: Any = None
        self._complained = False
        if not isinstance(port, socket.socket):
            port.stopReading()  # type: ignore[attr-defined]
        self._listening = socket.socket(fileno=os.dup(port.fileno()))  # type: ignore[union-attr]
        lengthen_queue(self._listening)
        prepare(self._listening)  # What it has, its connections have from the start.
        self._at_once = at_once
        self._batch = 1
        reactor.addReader(self)

    def stop(self) -> None:
        """Take no more."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._reactor.removeReader(self)
        self._listening.close()

    def fileno(self) -> int:
        return self._listening.fileno()

    def logPrefix(self) -> str:
        return "acceptor"

    def doRead(self) -> None:
        # One more look than there are connections costs a system call for each of them; so the
        # number of looks follows the traffic.
        for taken in range(self._batch):
            if not self._has_room():
                self._wait("as many connections as there is room for")
                return
            try:
                sock, address = self._listening.accept()
            except BlockingIOError:
                self._complained = False  # Nobody waits any more.
                self._batch = max(1, taken)
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._wait("no file descriptor left (raise the limit: LimitNOFILE, ulimit -n)")
                    return
                continue  # The peer was gone before it was accepted.
            try:
                sock.setblocking(False)
                self._accepted(sock, address)
            except Exception:  # One connection that goes wrong must not cost all later ones.
                self._log.failure("a connection was dropped")
                sock.close()
        self._batch = min(self._at_once, self._batch * 2)

    def connectionLost(self, reason: Failure) -> None:
        """
        The reactor's word for a listening socket that died, which ours do not: it was another
        socket's event, and nobody may be deaf because of it.
        """
        if self._pause is None and self._listening.fileno() != -1:
            self._pause = self._reactor.callLater(BREATHER, self._resume)

    def _wait(self, why: str) -> None:
        if not self._complained:
            self._complained = True
            self._log.warn("new connections wait: {why}", why=why)
        self._reactor.removeReader(self)
        self._pause = self._reactor.callLater(BREATHER, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._reactor.addReader(self)
