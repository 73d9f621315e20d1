"""
A program's socket at the end of a stream whose bytes are compressed.

It stands between L{SocketEnd} and the stream: the socket writes to it as to a stream, and the
stream delivers to it as to a socket.  What the stream counts, acknowledges and replays are
compressed bytes, so that no codec ever sees a byte twice.

Each direction is one zstd frame.  Every chunk that is read is flushed as a block of its own, so
that nothing waits for more; the end of the direction is the end of the frame, and a stream that
ends before it is broken.  Compressed bytes count as taken when the program has taken all that they
expand to, and no more is expanded until then: a few bytes may expand to a lot, but not in memory.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall

from ..interfaces import IReactor
from ..wire.frames import HEADER_SIZE, Reset
from . import zstd
from .ends import Carried, Memory, SocketEnd

#: The most bytes that are expanded at once.
PIECE = 256 * 1024
#: Pieces that are expanded before the reactor turns to others.
_AT_ONCE = 4


class CompressedEnd:
    """As L{SocketEnd}, for a stream that was opened with C{frames.ZSTD}."""

    __slots__ = (
        "_busy", "_codec", "_expanded", "_finishing", "_held", "_later", "_out", "_reactor",
        "_size", "_socket", "_stream", "_waiting",
    )  # fmt: skip

    def __init__(
        self, reactor: IReactor, sock: socket.socket, stream: Carried, memory: Memory
    ) -> None:
        """@param sock: non-blocking and connected."""
        self._reactor = reactor
        self._stream = stream
        self._out = _Outgoing(stream, memory, self)
        self._socket = SocketEnd(reactor, sock, self._out, memory)
        self._codec: zstd.Decompressor | None = None
        self._waiting: deque[bytes] = deque()
        self._size = 0  # Of the chunk that is being expanded.
        self._held = 0  # Bytes that the program has not taken yet.
        self._finishing = False  # The other side wrote its last byte.
        self._expanded = False  # All of it is expanded, or the stream is broken.
        self._busy = False
        self._later: IDelayedCall | None = None

    # For the stream.

    def read_on(self) -> None:
        """There is room: send what waits for it, then read what the program has written."""
        if self._out.push():
            self._socket.read_on()

    def read_now(self) -> None:
        """As L{read_on}, for a program that has most likely spoken already."""
        self._socket.read_now()

    def deliver(self, data: memoryview) -> None:
        """Compressed bytes for the program."""
        if not self._expanded:
            self._waiting.append(bytes(data))
            self._expand()

    def finish(self) -> None:
        """No more bytes will come for the program."""
        self._finishing = True
        self._expand()

    def reset(self) -> None:
        """The stream broke."""
        self._end_expanding()
        self._waiting.clear()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        self._out.drop()
        self._socket.reset()

    # For the socket.

    def took(self, size: int) -> None:
        """The program took that many bytes of what was expanded."""
        self._held -= size
        self._expand()

    def broken(self, cause: Reset) -> None:
        """It cannot go on."""
        self._stream.reset(cause)
        self.reset()  # A stream that is over for the link does not call back.

    def _expand(self) -> None:
        """Go on while the program keeps up."""
        if self._busy or self._later is not None:
            return
        self._busy = True
        steps = 0
        while steps < _AT_ONCE and self._expand_piece():
            steps += 1
        self._busy = False
        if steps == _AT_ONCE and not self._expanded:
            self._later = self._reactor.callLater(0, self._expand_later)

    def _expand_later(self) -> None:
        self._later = None
        self._expand()

    def _expand_piece(self) -> bool:
        """@return: whether there may be more to do."""
        if self._held or self._expanded:
            return False
        if self._codec is None:
            self._codec = zstd.decompressor()
        codec = self._codec
        data = b""
        if codec.needs_input or codec.eof:
            if self._size:
                self._stream.took(self._size)
                self._size = 0
            if not self._waiting:
                if self._finishing:
                    self._finish(codec)
                return False
            data = self._waiting.popleft()
            self._size = len(data)
        try:
            expanded = codec.decompress(data, PIECE)
        except zstd.ERRORS:
            self.broken(Reset.PROTOCOL)
            return False
        if codec.unused_data:
            self.broken(Reset.PROTOCOL)
            return False
        if expanded:
            self._held = len(expanded)
            self._socket.deliver(memoryview(expanded))
        return True

    def _finish(self, codec: zstd.Decompressor) -> None:
        if codec.eof:
            self._end_expanding()
            self._socket.finish()
        else:
            self.broken(Reset.PROTOCOL)

    def _end_expanding(self) -> None:
        self._expanded = True
        self._codec = None  # It is large: do not leave it to the garbage collector.


class _Ending(Protocol):
    """The other direction."""

    def took(self, size: int) -> None:
        """The program took that many bytes."""

    def broken(self, cause: Reset) -> None:
        """It cannot go on."""


class _Outgoing:
    """
    The stream, as the program's socket sees it: what is written to it goes on compressed.

    What has become of a chunk may be more than there is room for.  The rest is kept, and nothing
    is read until it is gone.
    """

    __slots__ = ("_codec", "_end", "_finishing", "_memory", "_rest", "_stream")

    def __init__(self, stream: Carried, memory: Memory, end: _Ending) -> None:
        self._stream = stream
        self._memory = memory
        self._end = end
        self._codec: zstd.Compressor | None = None
        self._rest = memoryview(b"")
        self._finishing = False

    def push(self) -> bool:
        """
        Send what is kept, as far as there is room.

        @return: whether all of it is sent.
        """
        while self._rest:
            size = min(self._stream.allowance(), len(self._rest))
            if size <= 0:
                return False
            piece, self._rest = self._rest[:size], self._rest[size:]
            self._memory.scratch[HEADER_SIZE : HEADER_SIZE + size] = piece
            self._stream.send(size)
        if self._finishing:
            self._finishing = False
            self._stream.finish()
        return True

    def drop(self) -> None:
        """The stream broke."""
        self._rest = memoryview(b"")
        self._finishing = False
        self._codec = None

    def allowance(self) -> int:
        """See L{Carried}."""
        return self._stream.allowance() if self.push() else 0

    def send(self, size: int) -> None:
        """See L{Carried}."""
        if self._codec is None:
            self._codec = zstd.compressor()
        chunk = self._memory.scratch[HEADER_SIZE : HEADER_SIZE + size]
        self._keep(self._codec.compress(chunk, self._codec.FLUSH_BLOCK))

    def finish(self) -> None:
        """See L{Carried}."""
        codec = self._codec or zstd.compressor()
        self._codec = None
        self._finishing = True
        self._keep(codec.flush())

    def reset(self, cause: Reset) -> None:
        """See L{Carried}."""
        self._end.broken(cause)

    def took(self, size: int) -> None:
        """See L{Carried}."""
        self._end.took(size)

    def _keep(self, compressed: bytes) -> None:
        self._rest = memoryview(bytes(self._rest) + compressed if self._rest else compressed)
        self.push()
