"""
What holds bytes on their way from one descriptor to another.

Two kinds, with the same three words (fill, drain, pending): a pipe that C{splice(2)} moves
pages through, and a buffer in our own memory where there is no splice, no descriptor left for a
pipe, or a descriptor that cannot be spliced.  A L{CarrierPool} lends them out, and a stream has
one only while bytes of it are under way: an idle stream costs no pipe.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from typing import Protocol

#: Bytes of a pipe; the kernel's default bound for unprivileged users (C{pipe-max-size}).
PIPE_SIZE = 1024 * 1024
#: A smaller pipe than this is not worth its descriptors: a buffer serves better.
_LEAST_PIPE = 64 * 1024
BUFFER_SIZE = 256 * 1024

_CAN_SPLICE = sys.platform == "linux" and hasattr(os, "splice")


class Carrier(Protocol):
    """
    Bytes between two descriptors.

    @ivar pending: how many were filled in and not yet drained.
    """

    pending: int

    def fill(self, source: socket.socket, most: int) -> int:
        """
        Take what C{source} has, C{most} bytes at most, while nothing is pending.

        @return: how many came; 0 at the end of the stream.
        @raise BlockingIOError: if there is nothing now.
        @raise OSError: if the source failed.
        """

    def drain(self, sink: socket.socket) -> None:
        """
        Give C{sink} as much as it takes; the rest stays pending.

        @raise OSError: if the sink failed.
        """


class PipeCarrier:
    """Moves pages by C{splice(2)}; the bytes never enter this process."""

    __slots__ = ("_reading", "_writing", "pending", "size")

    def __init__(self) -> None:
        """@raise OSError: if there is no descriptor left, or no pipe worth having."""
        self.pending = 0
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.size = PIPE_SIZE
        try:
            self.size = _enlarge(self._writing)
            if self.size < _LEAST_PIPE:
                raise OSError(errno.ENOMEM, "the kernel gives this user small pipes only")
        except OSError:
            self.close()
            raise

    def fill(self, source: socket.socket, most: int) -> int:
        moved: int = os.splice(
            source.fileno(), self._writing, min(most, self.size), flags=_FILL_FLAGS
        )
        self.pending = moved
        return moved

    def drain(self, sink: socket.socket) -> None:
        descriptor = sink.fileno()
        try:
            while self.pending:
                self.pending -= os.splice(
                    self._reading, descriptor, self.pending, flags=_FILL_FLAGS
                )
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Free the pipe, with what is in it."""
        os.close(self._reading)
        os.close(self._writing)


class BufferCarrier:
    """Copies through our own memory: needs no descriptor and works on every platform."""

    __slots__ = ("_data", "_start", "pending")

    def __init__(self) -> None:
        self.pending = 0
        self._start = 0
        self._data = bytearray(BUFFER_SIZE)

    def fill(self, source: socket.socket, most: int) -> int:
        self._start = 0
        self.pending = source.recv_into(self._data, min(most, BUFFER_SIZE))
        return self.pending

    def drain(self, sink: socket.socket) -> None:
        with memoryview(self._data) as view:
            try:
                while self.pending:
                    sent = sink.send(view[self._start : self._start + self.pending])
                    self._start += sent
                    self.pending -= sent
            except BlockingIOError:
                pass


class CarrierPool:
    """
    Lends carriers out.

    @ivar lent: how many are with streams now.
    """

    def __init__(self, pipes: int = 64, kept: int = 16, splice: bool = _CAN_SPLICE) -> None:
        """
        @param pipes: the most pipes in all; past them (and past the process's last
            descriptor) buffers are lent.
        @param kept: how many free carriers of each kind wait for the next stream.
        @param splice: whether pipes are to be used at all.
        """
        self.lent = 0
        self._pipes_left = pipes if splice else 0
        self._kept = kept
        self._free_pipes: list[PipeCarrier] = []
        self._free_buffers: list[BufferCarrier] = []

    def take(self, spliceable: bool = True) -> PipeCarrier | BufferCarrier:
        """A carrier with nothing pending: a pipe if there is one and it may be one."""
        self.lent += 1
        if spliceable:
            if self._free_pipes:
                return self._free_pipes.pop()
            if self._pipes_left:
                try:
                    pipe = PipeCarrier()
                except OSError:
                    pass
                else:
                    self._pipes_left -= 1
                    return pipe
        if self._free_buffers:
            return self._free_buffers.pop()
        return BufferCarrier()

    def give_back(self, carrier: PipeCarrier | BufferCarrier) -> None:
        """The stream is done with it, or is over; what is still pending is thrown away."""
        self.lent -= 1
        if isinstance(carrier, BufferCarrier):
            if len(self._free_buffers) < self._kept:
                carrier.pending = 0
                self._free_buffers.append(carrier)
        elif carrier.pending or len(self._free_pipes) >= self._kept:
            carrier.close()
            self._pipes_left += 1
        else:
            self._free_pipes.append(carrier)

    def close(self) -> None:
        """Free what waits in the pool."""
        while self._free_pipes:
            self._free_pipes.pop().close()
            self._pipes_left += 1
        self._free_buffers.clear()


def _enlarge(pipe: int) -> int:
    """
    @return: the pipe's size, C{PIPE_SIZE} if the kernel grants it: a user has a quota of pipe
        pages (C{pipe-user-pages-soft}, 64 MiB).
    """
    for size in (PIPE_SIZE, PIPE_SIZE // 4):
        try:
            return fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)
        except PermissionError:
            continue
    return int(fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ))


_FILL_FLAGS = (os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK) if _CAN_SPLICE else 0
