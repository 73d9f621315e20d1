"""
A transport on a bare socket that writes at once, and asks the reactor only if it cannot.

For many small messages that is half of the system calls of Twisted's own.  It speaks to
protocols as Twisted's do, half-close included.  A stream that broke is told from one that ended:
C{connectionLost} comes at once for the former, C{readConnectionLost} first for the latter.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Any, Protocol

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer, IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ...interfaces import IReactor
from ...plane.accept import close_in_order, reset, send_waiting
from ...plane.pair import End

#: Most bytes read at once.
_READ = 64 * 1024
#: When this many bytes wait to be written, whoever makes them has to pause.
_HIGH = 64 * 1024


class Spoken(Protocol):
    """What it needs of a protocol, of those of Twisted."""

    def makeConnection(self, transport: Any) -> None: ...

    def dataReceived(self, data: bytes) -> None: ...

    def readConnectionLost(self) -> None:
        """The other side wrote its last byte."""

    def writeConnectionLost(self) -> None:
        """The other side reads no more; never called from within a method of the transport."""

    def connectionLost(self, reason: Failure) -> None:
        """It is over."""


@implementer(IReadWriteDescriptor, IPushProducer)
class SocketTransport:
    """
    It takes a non-blocking socket over.

    @ivar failed: something could not be written.
    @ivar disconnected: the socket is closed.
    """

    __slots__ = (
        "_finishing", "_pending", "_pending_size", "_producer", "_producing", "_protocol",
        "_reactor", "_read_over", "_reader", "_shut", "_sock", "_wanted", "_writer",
        "disconnected", "failed",
    )  # fmt: skip

    def __init__(self, reactor: IReactor, sock: socket.socket, protocol: Spoken) -> None:
        self._reactor = reactor
        self._sock = sock
        self._protocol = protocol
        self._pending: deque[memoryview] = deque()
        self._pending_size = 0
        self._producer: Any = None
        self._producing = True
        self._reader = False  # The reactor knows it as a reader.
        self._writer = False
        self._wanted = True  # To be read from: not paused.
        self._read_over = False
        self._finishing = ""  # What to do after the last byte: "shut" or "close".
        self._shut = False
        self.failed = False
        self.disconnected = False
        protocol.makeConnection(self)
        self.resumeProducing()

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "http"

    # For the protocol: reading.

    def pauseProducing(self) -> None:
        self._wanted = False
        self._read_no_more()

    def resumeProducing(self) -> None:
        self._wanted = True
        if not (self._reader or self._read_over or self.disconnected):
            self._reader = True
            self._reactor.addReader(self)

    def stopProducing(self) -> None:
        self.loseConnection()

    def has_input(self) -> bool:
        """Something is there to be read already: bytes or the end."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    # For the protocol: writing.

    @property
    def is_flushed(self) -> bool:
        """All that was written has been taken."""
        return not self._pending

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """@param producer: a push producer, paused while too much waits to be written."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        if self.failed or self.disconnected or self._finishing:
            return
        if self._pending:
            self._keep(memoryview(data))
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._write_failed()
            return
        if sent < len(data):
            self._keep(memoryview(data)[sent:])
            self._write_on()

    def loseWriteConnection(self) -> None:
        """Write what waits, then tell the other side that nothing will follow."""
        if not self._finishing:
            self._finishing = "shut"
            if not self._pending:
                self._finish()

    def loseConnection(self) -> None:
        """Write what waits, then close."""
        if not self.disconnected:
            self._finishing = "close"
            if not self._pending:
                self._finish()

    def abortConnection(self) -> None:
        """Close so that the other side sees an error."""
        if not self.disconnected:
            self._close(in_order=False)
            self._tell_later(ConnectionAborted())

    # For the reactor.

    def doRead(self) -> None:
        if not self._reader:
            return
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            self._broke()
            return
        if data:
            self._protocol.dataReceived(data)
            return
        self._read_over = True
        self._read_no_more()
        if isinstance(self._sock, End) and self._sock.broken:
            self._broke()
        else:
            self._protocol.readConnectionLost()

    def doWrite(self) -> None:
        pending = self._pending
        try:
            self._pending_size -= send_waiting(self._sock, pending)
        except OSError:
            self._write_failed()
            return
        if pending:
            return
        self._write_no_more()
        if self._finishing:
            self._finish()
        elif not self._producing:
            self._producing = True
            if self._producer is not None:
                self._producer.resumeProducing()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw the other side hang up; what it wrote before may still be there."""
        self._reader = self._writer = False  # The reactor has forgotten it.
        if reason.check(ConnectionLost) and not (self._read_over or self.disconnected):
            self._write_failed()
            if self._wanted:
                self.resumeProducing()
        else:
            self._broke()

    def _broke(self) -> None:
        if not self.disconnected:
            self._close(in_order=False)
            self._protocol.connectionLost(Failure(ConnectionLost()))

    def _keep(self, data: memoryview) -> None:
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size > _HIGH and self._producing:
            self._producing = False
            if self._producer is not None:
                self._producer.pauseProducing()

    def _write_on(self) -> None:
        if not self._writer:
            self._writer = True
            self._reactor.addWriter(self)

    def _write_no_more(self) -> None:
        if self._writer:
            self._writer = False
            self._reactor.removeWriter(self)

    def _read_no_more(self) -> None:
        if self._reader:
            self._reader = False
            self._reactor.removeReader(self)

    def _write_failed(self) -> None:
        if self.failed or self.disconnected:
            return
        self.failed = True
        self._write_no_more()
        self._pending.clear()
        self._reactor.callLater(0, self._tell_failed)

    def _tell_later(self, error: Exception) -> None:
        # As Twisted does, so that nobody is called back from within what they call.
        self._reactor.callLater(0, self._protocol.connectionLost, Failure(error))

    def _tell_failed(self) -> None:
        if not self.disconnected:
            self._protocol.writeConnectionLost()

    def _finish(self) -> None:
        if self._finishing == "close":
            if not self.disconnected:
                self._close(in_order=True)
                self._tell_later(ConnectionDone())
        elif not (self._shut or self.failed):
            self._shut = True
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError:
                self._write_failed()

    def _close(self, in_order: bool) -> None:
        self.disconnected = True
        self._read_no_more()
        self._write_no_more()
        self._pending.clear()
        (close_in_order if in_order else reset)(self._sock)
