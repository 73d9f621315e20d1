"""
TCP between two clients behind NATs, by simultaneous open (RFC 5128, section 3.4).

Both bind to the port of their connection to the server, whose mapping the peer was told, listen
there, and connect to each of the peer's candidates, at the same moment.  The two SYNs cross, each
opens the NAT that it leaves for the other, and there is one connection; on one LAN, or where a port
is mapped, it is simply accepted.

What connects is handed on as it is.  It may be anybody: the caller authenticates it.  Never is a
SYN sent with few hops: many routers end a connection whose SYN they saw fail.
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket
from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from .candidates import TIMEOUT, NoPath, usable

#: Seconds from one try of an address to the next, if it was refused; by up to half of them it is
#: sooner or later.  Two that refuse each other in the same rhythm would do so for ever.
AGAIN = 0.1
#: Connections that are handed on in all, be they the peer's or a stranger's.
MOST_CONNECTIONS = 16
_BACKLOG = 16

_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EAGAIN}


class TcpOpen:
    """One attempt."""

    def __init__(
        self,
        reactor: IReactor,
        local: tuple[str, int],
        candidates: Iterable[tuple[str, int]],
        connected: Callable[[socket.socket], None],
        *,
        timeout: float = TIMEOUT,
        loopback: bool = False,
        make_socket: Callable[[int], socket.socket] | None = None,
    ) -> None:
        """
        @param local: address and port of our connection to the server, which was bound with
            C{SO_REUSEADDR} and C{SO_REUSEPORT} as L{share_port} does it.
        @param candidates: the peer's addresses, literal ones, private and public.
        @param connected: gets each connected socket, non-blocking, in the order in which they
            come.  It is the receiver's to close.
        @param timeout: seconds for which connections are tried.
        @param loopback: whether addresses of this machine's loopback may be tried.
        @param make_socket: makes a TCP socket of a family.
        """
        self._reactor = reactor
        self._local = local
        self._family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        self._candidates = usable(candidates, self._family == socket.AF_INET6, loopback)
        self._connected = connected
        self._timeout = timeout
        self._make_socket = make_socket or (lambda family: socket.socket(family))
        self._listening: _Listening | None = None
        self._tries: set[_Try] = set()
        self._timers: dict[object, IDelayedCall] = {}
        self._handed_on: list[socket.socket] = []
        self._over = False
        self._done: Deferred[None] = Deferred(lambda _: self.stop())

    def start(self) -> Deferred[None]:
        """
        To be called at "go".

        @return: fires after L{stop}; fails with L{NoPath} if nothing had connected in time.  If
            something had, it waits for L{stop}.  Cancelling it is as good as that.
        """
        self._timers[self] = self._reactor.callLater(self._timeout, self._time_is_up)
        with contextlib.suppress(OSError):  # Where the port is another's, connecting may do.
            self._listening = _Listening(self, self._reactor, self._bound())
        for address in self._candidates:
            self._connect(address)
        return self._done

    def stop(self, winner: socket.socket | None = None) -> None:
        """
        It is decided.  All other connections that were handed on are shut down, so that whoever
        reads one sees its end and closes it.  A second time does no harm.

        @param winner: the one to keep.
        """
        for sock in self._handed_on:
            if sock is not winner:
                with contextlib.suppress(OSError):  # Closed already, or reset.
                    sock.shutdown(socket.SHUT_RDWR)
        self._handed_on.clear()
        self._end()
        if not self._done.called:
            self._done.callback(None)

    # --- Connections ----------------------------------------------------------------------------

    def hand_on(self, sock: socket.socket) -> None:
        """A connection, made or accepted."""
        if self._over or len(self._handed_on) >= MOST_CONNECTIONS:
            sock.close()
            return
        self._handed_on.append(sock)
        self._connected(sock)

    def over(self, attempt: _Try, again: bool) -> None:
        """A try has ended."""
        self._tries.discard(attempt)
        if again and not self._over:
            address = attempt.address
            wait = AGAIN * random.uniform(0.5, 1.5)
            self._timers[address] = self._reactor.callLater(wait, self._connect, address)

    def _connect(self, address: tuple[str, int]) -> None:
        try:
            sock = self._bound()
        except OSError:
            return  # No descriptor, or our address is gone: neither gets better in 5 s.
        attempt = _Try(self, self._reactor, sock, address)
        self._tries.add(attempt)
        attempt.start()

    def _bound(self) -> socket.socket:
        sock = self._make_socket(self._family)
        try:
            sock.setblocking(False)
            share_port(sock)
            sock.bind(self._local)
        except OSError:
            sock.close()
            raise
        return sock

    # --- The end --------------------------------------------------------------------------------

    def _time_is_up(self) -> None:
        self._end()
        if not self._handed_on:
            self._done.errback(NoPath("no TCP connection came about"))

    def _end(self) -> None:
        self._over = True
        if self._listening is not None:
            self._listening.close()
        for attempt in list(self._tries):
            attempt.close()
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()


@implementer(IWriteDescriptor)
class _Try:
    """A C{connect(2)} under way."""

    def __init__(
        self, opening: TcpOpen, reactor: IReactor, sock: socket.socket, address: tuple[str, int]
    ) -> None:
        self.address = address
        self._opening = opening
        self._reactor = reactor
        self._sock = sock

    def start(self) -> None:
        code = self._sock.connect_ex(self.address)
        if code in _IN_PROGRESS:
            self._reactor.addWriter(self)
        elif code:
            self._failed()
        else:
            self.doWrite()

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "simultaneous open"

    def doRead(self) -> None:
        """An older socket of this number could have been read from."""

    def doWrite(self) -> None:
        if self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._failed()
            return
        try:
            peer = self._sock.getpeername()
        except OSError:
            return  # Not yet: it was another socket's event.
        if peer == self._sock.getsockname():
            # Our own SYN came back to us: the peer's address is also ours.
            self.close()
            self._opening.over(self, again=False)
            return
        self._reactor.removeWriter(self)
        self._opening.over(self, again=False)
        self._opening.hand_on(self._sock)

    def connectionLost(self, reason: Failure) -> None:
        self._failed()

    def close(self) -> None:
        self._reactor.removeWriter(self)
        self._sock.close()

    def _failed(self) -> None:
        self.close()
        self._opening.over(self, again=True)


@implementer(IReadDescriptor)
class _Listening:
    """The port where the peer's connections arrive."""

    def __init__(self, opening: TcpOpen, reactor: IReactor, sock: socket.socket) -> None:
        self._opening = opening
        self._reactor = reactor
        self._sock = sock
        try:
            sock.listen(_BACKLOG)
        except OSError:
            sock.close()
            raise
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "simultaneous open"

    def doRead(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return
        sock.setblocking(False)
        self._opening.hand_on(sock)

    def doWrite(self) -> None:
        """An older socket of this number could have written."""

    def connectionLost(self, reason: Failure) -> None:
        self.close()

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._reactor.removeReader(self)
            self._sock.close()


def share_port(sock: socket.socket) -> None:
    """Before it is bound: let other sockets of ours have the same port."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
