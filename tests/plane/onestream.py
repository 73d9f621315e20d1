"""A program and its end of a compressed stream; the test is the reactor, and the link."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from twisted.internet.task import Clock

from relaytun.link.memory import PAYLOAD, Memory
from relaytun.plane.compressed import CompressedEnd
from relaytun.wire.frames import HEADER_SIZE, Reset

from ..polling import select
from .test_splice import tcp_pair


class Reactor(Clock):
    """Looks at its clock and its descriptors once each time that it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader = self.readers.add
        self.removeReader = self.readers.discard
        self.addWriter = self.writers.add
        self.removeWriter = self.writers.discard

    def callLater(self, delay: float, *call: Any, **keys: Any) -> Any:
        return super().callLater(max(delay, 1), *call, **keys)

    def turn(self) -> bool:
        """@return: whether anything was done."""
        timed = bool(self.getDelayedCalls())
        self.advance(1)
        ready = select(self.readers, self.writers)
        for descriptor in ready[0]:
            descriptor.doRead()
        for descriptor in ready[1]:
            descriptor.doWrite()
        return timed or bool(ready[0] or ready[1])


class Stream:
    """
    A stream without another side.

    @ivar room: bytes that may be sent.
    @ivar sent: those that were.
    @ivar taken: bytes that the other side would be told of.
    """

    def __init__(self, memory: Memory, room: int) -> None:
        self.memory = memory
        self.room = room
        self.end: Any = None
        self.sent = bytearray()
        self.taken = 0
        self.finished = False
        self.causes: list[Reset] = []

    def allowance(self) -> int:
        return min(self.room, PAYLOAD)

    def send(self, size: int) -> None:
        assert 0 < size <= self.room and not self.finished, "more than was allowed"
        self.room -= size
        self.sent += self.memory.scratch[HEADER_SIZE : HEADER_SIZE + size]
        self.memory.release(self.memory.keep(HEADER_SIZE + size))

    def finish(self) -> None:
        assert not self.finished
        self.finished = True

    def reset(self, cause: Reset) -> None:
        self.causes.append(cause)
        self.end.reset()

    def took(self, size: int) -> None:
        self.taken += size

    def more_room(self, size: int) -> None:
        """The other side takes more."""
        self.room += size
        self.end.read_on()


class Side:
    """A L{CompressedEnd} between a stream and a program."""

    def __init__(self, room: int = 1 << 30, tcp: bool = False) -> None:
        """@param tcp: whether the program can see a reset."""
        self.reactor = Reactor()
        memory = Memory()
        self.stream = Stream(memory, room)
        self.program, sock = tcp_pair() if tcp else socket.socketpair()
        for each in (self.program, sock):
            each.setblocking(False)
        self.end = self.stream.end = CompressedEnd(self.reactor, sock, self.stream, memory)  # type: ignore[arg-type]
        self.end.read_on()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *error: object) -> None:
        self.end.reset()
        self.program.close()

    def settle(self) -> None:
        """Turn the reactor until nothing happens."""
        while self.reactor.turn():
            pass

    def write(self, data: bytes, rooms: Iterable[int] = ()) -> None:
        """
        The program writes, and the end reads what it may.

        @param rooms: what there is more of whenever it may read nothing.
        """
        view, more = memoryview(data), iter(rooms)
        while view:
            try:
                view = view[self.program.send(view) :]
            except BlockingIOError:
                self.stream.more_room(next(more, 0))
            self.settle()

    def read(self) -> bytes:
        """What the program gets until nothing more comes, or the end."""
        parts = []
        while True:
            acted = self.reactor.turn()
            try:
                parts.append(self.program.recv(1 << 20))
            except BlockingIOError:
                if not acted:
                    return b"".join(parts)
            else:
                if not parts[-1]:
                    return b"".join(parts)

    def is_reset(self) -> bool:
        """Whether the program sees an error."""
        try:
            while self.program.recv(1 << 20):
                pass
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        return False
