"""
A program's socket at the end of a stream that a link carries.

It reads only what the stream takes, and holds what the program does not take yet; how much that
can be is the stream's business, by its window.  It knows the stream by L{Carried} alone.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Protocol

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..wire.frames import HEADER_SIZE, Reset
from .accept import close_in_order, reset, send_waiting
from .pair import is_broken, tell_when_broken

#: Full chunks that are read before the reactor turns to others.
_AT_ONCE = 1


class Memory(Protocol):
    """Where chunks are read into; its C{scratch} has room for a header before each."""

    scratch: memoryview


class Carried(Protocol):
    """A stream, as the program's side sees it."""

    def allowance(self) -> int:
        """
        How many bytes may be sent now, at most what the scratch has room for; if none,
        C{read_on} is called when there is room.
        """

    def send(self, size: int) -> None:
        """That many bytes stand in the memory's scratch."""

    def finish(self) -> None:
        """The program wrote its last byte."""

    def reset(self, cause: Reset) -> None:
        """The program's connection broke."""

    def took(self, size: int) -> None:
        """The program took that many bytes."""


@implementer(IReadWriteDescriptor)
class SocketEnd:
    """It takes the socket over, and closes it when the stream is over."""

    __slots__ = (
        "_ended", "_finished", "_finishing", "_memory", "_pending", "_reactor", "_reading",
        "_sock", "_stream", "_writing",
    )  # fmt: skip

    def __init__(
        self, reactor: IReactor, sock: socket.socket, stream: Carried, memory: Memory
    ) -> None:
        """@param sock: non-blocking and connected."""
        self._reactor = reactor
        self._sock = sock
        self._stream = stream
        self._memory = memory
        self._pending: deque[memoryview] = deque()
        self._reading = False
        self._writing = False
        self._finished = False  # The program wrote its last byte.
        self._finishing = False  # The other side did.
        self._ended = False
        tell_when_broken(sock, self._breaks)

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "stream"

    # For the stream.

    def read_on(self) -> None:
        """There is room: read what the program has written."""
        if not (self._reading or self._finished or self._ended):
            self._reading = True
            self._reactor.addReader(self)

    def read_now(self) -> None:
        """As L{read_on}, for a program that has most likely spoken already."""
        self.read_on()
        self.doRead()

    def deliver(self, data: memoryview) -> None:
        """Bytes for the program."""
        if self._ended:
            return
        if self._pending:
            self._pending.append(memoryview(bytes(data)))
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._broke()
            return
        if sent < len(data):
            self._pending.append(memoryview(bytes(data[sent:])))
            self._write_on()
        if sent:
            self._stream.took(sent)

    def finish(self) -> None:
        """No more bytes will come for the program."""
        self._finishing = True
        if not self._pending:
            self._shut()

    def reset(self) -> None:
        """The stream broke."""
        self._end(in_order=False)

    # For the reactor.

    def doRead(self) -> None:
        for _ in range(_AT_ONCE):
            if not self._reading:
                return
            allowance = self._stream.allowance()
            if allowance <= 0:
                self._pause()
                return
            try:
                size = self._sock.recv_into(self._memory.scratch[HEADER_SIZE:], allowance)
            except BlockingIOError:
                return
            except OSError:
                self._broke()
                return
            if not size:
                if is_broken(self._sock):
                    self._broke()
                    return
                break
            self._stream.send(size)
            if size < allowance:
                return
        else:
            return
        self._pause()
        self._finished = True
        self._stream.finish()
        self._close_if_over()

    def doWrite(self) -> None:
        if not self._writing:
            return
        pending = self._pending
        try:
            sent = send_waiting(self._sock, pending)
        except OSError:
            self._broke()
            return
        if not pending:
            self._writing = False
            self._reactor.removeWriter(self)
            if self._finishing:
                self._shut()
        if sent and not self._ended:
            self._stream.took(sent)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw the connection die."""
        self._broke()

    def _breaks(self) -> None:
        """In the midst of somebody else's work."""
        self._reactor.callLater(0, self._broke)

    def _broke(self) -> None:
        """The program's connection is over."""
        if not self._ended:
            self._stream.reset(Reset.PROGRAM)
            self._end(in_order=False)  # A stream that had ended in order does not do it.

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._reactor.removeReader(self)

    def _write_on(self) -> None:
        if not self._writing:
            self._writing = True
            self._reactor.addWriter(self)

    def _shut(self) -> None:
        if self._finished:
            self._end(in_order=True)
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._broke()

    def _close_if_over(self) -> None:
        if self._finished and self._finishing and not self._pending:
            self._end(in_order=True)

    def _end(self, in_order: bool) -> None:
        if self._ended:
            return
        self._ended = True
        self._pause()
        if self._writing:
            self._writing = False
            self._reactor.removeWriter(self)
        self._pending.clear()
        (close_in_order if in_order else reset)(self._sock)
