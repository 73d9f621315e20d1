"""
The memory for bytes that were sent and may have to be sent again.

One L{Memory} serves all links of a process, so that thousands of streams cannot hold more than
its cap, whatever each one of them may hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from ..wire.frames import HEADER_SIZE

#: Bytes of a frame at most: sixteen TLS records, header included.
CHUNK = 256 * 1024
#: Bytes of its payload.
PAYLOAD = CHUNK - HEADER_SIZE
#: Below this a chunk is copied, and does not occupy a whole buffer.
SMALL = 64 * 1024
#: For all streams of a process.
CAP = 128 * 1024 * 1024
#: What a stream that has nothing in flight may send however full the memory is.
TRICKLE = SMALL
_MOST_SPARE = 64


class Memory:
    """
    @ivar scratch: where the next chunk is read into: room for a header, then C{PAYLOAD} bytes.
    @ivar used: bytes that are kept for replays.
    @ivar holders: how many streams they are of.
    """

    def __init__(self, cap: int = CAP) -> None:
        """@param cap: bytes for all streams together."""
        self.cap = cap
        self.used = 0
        self.holders = 0
        self.scratch = memoryview(bytearray(CHUNK))
        self._spare: list[memoryview] = []
        self._waiting: dict[Callable[[], None], None] = {}

    @property
    def full(self) -> bool:
        """Whether streams have to wait."""
        return self.used >= self.cap

    @property
    def share(self) -> int:
        """Bytes that each of those streams may have kept."""
        return max(CHUNK, self.cap // max(1, self.holders))

    def keep(self, size: int) -> memoryview | bytes:
        """
        Keep what stands in the scratch.

        @param size: how many bytes of it, with the header.
        @return: those bytes, to be given to L{release} when they are not needed any more.
        """
        kept: memoryview | bytes
        if size <= SMALL:
            kept = bytes(self.scratch[:size])
            self.used += size
        else:
            kept = self.scratch[:size]
            self.scratch = self._spare.pop() if self._spare else memoryview(bytearray(CHUNK))
            self.used += CHUNK
        return kept

    def release(self, kept: memoryview | bytes) -> None:
        """
        It is acknowledged, or of no use any more.

        The buffer is used again, unless the view was made read-only: then a channel may still
        have it in its queue, and what is not yet sent must not change.
        """
        if isinstance(kept, bytes):
            self.used -= len(kept)
        else:
            self.used -= CHUNK
            if not kept.readonly and len(self._spare) < _MOST_SPARE:
                self._spare.append(memoryview(kept.obj))
        if self._waiting and self.used < self.cap:
            # As many as there is room for, and of those the ones that have waited longest.
            count = max(1, (self.cap - self.used) // CHUNK)
            for wake in list(itertools.islice(self._waiting, count)):
                del self._waiting[wake]
                wake()

    def wait(self, wake: Callable[[], None]) -> None:
        """Have C{wake} called, once, when there is room again."""
        self._waiting[wake] = None
