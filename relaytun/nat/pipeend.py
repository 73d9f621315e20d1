"""
Where a QUIC pipe's program is: one half of a pair of sockets, under the reactor.

It is read while that is wanted, and takes what it takes; what waits meanwhile is kept here, in the
order in which it came.  What bytes and their end mean is the pipe's business (L{quic}).
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor

#: The most that is read in one go.
_TURN = 256 * 1024
#: Pieces of what waits that the kernel takes in one go (IOV_MAX is 1024).
_PIECES = 512


@implementer(IReadWriteDescriptor)
class PipeEnd:
    """
    It owns the socket, and closes it.

    @ivar sock: the socket.
    @ivar pending: what waits for the program.
    """

    def __init__(
        self,
        reactor: IReactor,
        sock: socket.socket,
        readable: Callable[[], None],
        taken: Callable[[int], None],
        broken: Callable[[], None],
    ) -> None:
        """
        @param sock: non-blocking.
        @param readable: called when something can be read, while that is wanted.
        @param taken: called when the program was given what it takes, with how many bytes it took.
        @param broken: called when the program is gone.
        """
        self.sock = sock
        self.pending: deque[memoryview | bytes] = deque()
        self._reactor = reactor
        self._readable = readable
        self._taken = taken
        self._broken = broken
        self._reading = self._writing = self._shut = False

    @property
    def is_closed(self) -> bool:
        """Whether L{finish} was called."""
        return self.sock.fileno() < 0

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        return "quic"

    def doRead(self) -> None:
        if self._reading:
            self._readable()

    def doWrite(self) -> None:
        if self._writing:
            self.deliver()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw the program's end die."""
        self._broken()

    # --- From the program -----------------------------------------------------------------------

    def read_on(self) -> None:
        """Reading is wanted."""
        if not self._reading:
            self._reading = True
            self._reactor.addReader(self)

    def pause(self) -> None:
        """Reading is not wanted."""
        if self._reading:
            self._reading = False
            self._reactor.removeReader(self)

    def read(self, most: int) -> bytes | None:
        """
        @return: nothing if there is nothing now, or the program is gone, which is told; no bytes
            at the end.
        """
        try:
            return self.sock.recv(min(most, _TURN))
        except BlockingIOError:
            return None
        except OSError:
            self._broken()
            return None

    # --- To the program -------------------------------------------------------------------------

    def deliver(self) -> None:
        """Give the program what it takes; the rest when it takes more."""
        pending = self.pending
        taken = 0
        try:
            while pending:
                if len(pending) > 1:
                    pieces = [pending.popleft() for _ in range(min(len(pending), _PIECES))]
                    pending.appendleft(b"".join(pieces))
                sent = self.sock.send(pending[0])
                taken += sent
                if sent < len(pending[0]):
                    pending[0] = memoryview(pending[0])[sent:]
                else:
                    pending.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._broken()
            return
        if pending and not self._writing:
            self._writing = True
            self._reactor.addWriter(self)
        elif not pending:
            self._write_no_more()
        self._taken(taken)

    def deliver_soon(self) -> None:
        """Unless the reactor is going to say when the program takes more."""
        if not self._writing:
            self.deliver()

    def shut(self) -> None:
        """The program has all there is.  A second time does nothing."""
        if not self._shut:
            self._shut = True
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def finish(self, close: Callable[[socket.socket], None]) -> None:
        """It is over: C{close} gets the socket."""
        self.pause()
        self._write_no_more()
        close(self.sock)

    def _write_no_more(self) -> None:
        if self._writing:
            self._writing = False
            self._reactor.removeWriter(self)
