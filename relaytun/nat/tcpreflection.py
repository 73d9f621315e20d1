"""
How a TCP port of this machine is seen from outside: ask the server's reflectors, by STUN.

A connection to each of them goes out from one local port, and is kept: as long as it is there the
router keeps what it has assigned, and from the same port one can connect to somebody else, or be
connected to.
"""

from __future__ import annotations

import errno
import secrets
import socket
from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..wire import stun
from ..wire.errors import WireError
from .reflection import Reflection

#: Seconds for all of the answers.
PATIENCE = 3.0


def reusable(host: str, port: int = 0) -> socket.socket:
    """
    @param host: a literal local address.
    @param port: 0 for any.
    @return: a non-blocking TCP socket, bound there beside others that are made here.
    @raise OSError: if that cannot be.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


class TCPReflection:
    """
    Connections from one local port to each of the reflectors.

    @ivar done: fires with a L{Reflection} when all have answered or failed, or have had time
        enough; it does not fail.  Cancel it to stop waiting: the connections stay until L{close}.
    @ivar port: the local port; 0 if there is none.
    """

    def __init__(
        self,
        reactor: IReactor,
        reflectors: Sequence[tuple[str, int]],
        host: str | None = None,
        port: int = 0,
    ) -> None:
        """
        @param reflectors: literal hosts of one family, and ports.
        @param host: the local address; by default any.
        @param port: the local port; 0 for any.
        """
        self.done: Deferred[Reflection] = Deferred(lambda _: self._stop_waiting())
        self.port = port
        self._reactor = reactor
        self._timer = reactor.callLater(PATIENCE, self._finish)
        self._connections: list[_Connection] = []
        for address in reflectors:
            local = host or ("::" if ":" in address[0] else "0.0.0.0")
            try:
                sock = reusable(local, self.port)
            except OSError:
                continue
            self.port = sock.getsockname()[1]
            self._connections.append(_Connection(reactor, sock, address, self._one_over))
        for connection in list(self._connections):
            connection.connect()
        self._one_over()

    def close(self) -> None:
        """Let the connections go, and with them what the router keeps for them."""
        for connection in self._connections:
            connection.close()
        if not self.done.called:
            self.done.cancel()
        # Whoever waits has heard of it; whoever does not need not.
        self.done.addErrback(lambda failure: failure.trap(CancelledError) and None)

    def _one_over(self) -> None:
        if self._timer.active() and all(each.over for each in self._connections):
            self._finish()

    def _finish(self) -> None:
        self._stop_waiting()
        external = [each.external for each in self._connections if each.external is not None]
        times = [each.rtt for each in self._connections if each.rtt is not None]
        self.done.callback(Reflection(tuple(external), min(times, default=None)))

    def _stop_waiting(self) -> None:
        if self._timer.active():
            self._timer.cancel()


@implementer(IReadWriteDescriptor)
class _Connection:
    """
    One of them.

    @ivar over: it has answered, or will not.
    """

    def __init__(
        self,
        reactor: IReactor,
        sock: socket.socket,
        address: tuple[str, int],
        told: Callable[[], None],
    ) -> None:
        self.external: tuple[str, int] | None = None
        self.rtt: float | None = None
        self.over = False
        self._reactor = reactor
        self._sock = sock
        self._address = address
        self._told = told
        self._transaction = secrets.token_bytes(stun.TRANSACTION_SIZE)
        self._sent: float | None = None
        self._buffer = b""

    def connect(self) -> None:
        """Begin."""
        if self._sock.connect_ex(self._address) in (0, errno.EINPROGRESS):
            self._reactor.addWriter(self)
        else:
            self._give_up()

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "reflection"

    def doWrite(self) -> None:
        if self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._give_up()
            return
        try:
            self._sock.getpeername()
        except OSError:
            return  # Not yet: it was another socket's event.
        self._reactor.removeWriter(self)
        self._sent = self._reactor.seconds()
        try:
            self._sock.send(stun.encode_request(self._transaction))
        except OSError:
            self._give_up()
        else:
            self._reactor.addReader(self)

    def doRead(self) -> None:
        try:
            data = self._sock.recv(stun.LARGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or self.over:  # There is nothing more to be said.
            self._give_up()
            return
        self._buffer += data
        try:
            size = stun.message_size(self._buffer)
            if size is None or len(self._buffer) < size:
                return
            answer = stun.decode(self._buffer[:size])
        except WireError:
            self._give_up()
            return
        if not isinstance(answer, stun.Answer) or answer.transaction != self._transaction:
            self._give_up()
            return
        assert self._sent is not None
        self.rtt = self._reactor.seconds() - self._sent
        self.external = answer.host, answer.port
        self.over = True
        self._told()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw it die."""
        self._give_up()

    def close(self) -> None:
        """Let it go; nothing happens if it is gone."""
        self.over = True
        self._reactor.removeReader(self)
        self._reactor.removeWriter(self)
        self._sock.close()

    def _give_up(self) -> None:
        first = not self.over
        self.close()
        if first:
            self._told()
