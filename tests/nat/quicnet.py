"""Two pipes with a wire between them that loses, delays and reorders, under a clock of the test."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from relaytun.nat.quic import QuicPipe
from relaytun.plane.accept import close_in_order, reset
from relaytun.plane.pair import End, is_broken, pair

from ..polling import select

KEY = bytes(range(32))


class Wire:
    """
    What lies between, and the reactor of both.

    @ivar delay: seconds one way.
    @ivar jitter: seconds that come on top, at the most.
    @ivar loss: share of the datagrams that do not arrive.
    @ivar rate: bytes per second in each direction, 0 for all that come.
    @ivar largest: bytes of a datagram above which it does not arrive.
    @ivar sent: datagrams that were sent, the longest of which has C{longest} bytes.
    """

    def __init__(self, seed: int = 1) -> None:
        self.clock = Clock()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.clock.addReader = self.readers.add  # type: ignore[attr-defined]
        self.clock.removeReader = self.readers.discard  # type: ignore[attr-defined]
        self.clock.addWriter = self.writers.add  # type: ignore[attr-defined]
        self.clock.removeWriter = self.writers.discard  # type: ignore[attr-defined]
        self.delay = 0.02
        self.jitter = 0.0
        self.loss = 0.0
        self.rate = 0.0
        self.largest = 65536
        self.sent = 0
        self.longest = 0
        self._random = random.Random(seed)
        self._flying: list[tuple[float, int, Callable[[bytes], None], bytes]] = []
        self._free: dict[object, float] = {}

    def send(self, direction: object, to: Callable[[bytes], None], datagram: bytes) -> None:
        """It goes its way, or not."""
        self.sent += 1
        self.longest = max(self.longest, len(datagram))
        if self._random.random() < self.loss or len(datagram) > self.largest:
            return
        leaves = self.clock.seconds()
        if self.rate:
            leaves = max(leaves, self._free.get(direction, 0.0)) + len(datagram) / self.rate
            self._free[direction] = leaves
        at = leaves + self.delay + self._random.random() * self.jitter
        heapq.heappush(self._flying, (at, self.sent, to, datagram))

    def step(self, until: float) -> bool:
        """Until the next thing happens; whether there is one before C{until}."""
        ready = select(self.readers, self.writers)
        for descriptor in ready[0]:
            descriptor.doRead()
        for descriptor in ready[1]:
            descriptor.doWrite()
        calls = self.clock.getDelayedCalls()
        times = [call.getTime() for call in calls]
        if self._flying:
            times.append(self._flying[0][0])
        now = self.clock.seconds()
        if ready[0] or ready[1]:
            times.append(now)
        if not times or min(times) > until:
            return False
        now = max(min(times), now)
        while self._flying and self._flying[0][0] <= now:
            _, _, to, datagram = heapq.heappop(self._flying)
            to(datagram)
        self.clock.advance(now - self.clock.seconds())
        return True


class Program:
    """
    Who talks over a pipe.

    @ivar ended: the end of the stream was read; C{broken}: or what was none.
    @ivar count: bytes that came, C{digest} of which is made.
    """

    def __init__(self, sock: End) -> None:
        self.sock = sock
        self.to_send = b""
        self.then_end = False
        self.reads = True
        self.ended = False
        self.broken = False
        self.count = 0
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Of what came."""
        return self._hash.hexdigest()

    def turn(self) -> None:
        """Write and read what goes."""
        if self.sock.fileno() < 0:
            return
        try:
            if self.to_send:
                self.to_send = self.to_send[self.sock.send(self.to_send[:65536]) :]
                if not self.to_send and self.then_end:
                    self.sock.shutdown(1)
        except BlockingIOError:
            pass
        except OSError:
            self.broken = True
        while self.reads and not self.ended:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                self.broken = True
                return
            self._hash.update(data)
            self.count += len(data)
            if not data:
                self.ended = True
                self.broken = is_broken(self.sock)


class Pipes:
    """A client's pipe and a server's, and the programs that talk over them."""

    def __init__(
        self, wire: Wire, client_key: bytes = KEY, server_key: bytes = KEY, **more: Any
    ) -> None:
        self.wire = wire
        self.programs: list[Program] = []
        self.pipes: list[QuicPipe] = []
        self.results: dict[tuple[int, str], object] = {}
        for side, key in enumerate((client_key, server_key)):
            theirs, ours = pair()
            self.programs.append(Program(theirs))
            pipe = QuicPipe(
                wire.clock,  # type: ignore[arg-type]
                lambda datagram, side=side: self.send(side, datagram),
                ours,
                client=not side,
                key=key,
                close_in_order=close_in_order,
                reset=reset,
                is_broken=is_broken,
                **more,
            )
            for name in ("connected", "closed"):
                getattr(pipe, name).addBoth(
                    lambda result, key=(side, name): self.results.__setitem__(key, result)
                )
            self.pipes.append(pipe)
        self.client, self.server = self.programs
        for pipe in self.pipes:
            pipe.start()

    def send(self, side: int, datagram: bytes) -> None:
        """From one to the other."""
        self.wire.send(side, self.pipes[1 - side].received, datagram)

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let so much time pass, or less; whether C{until} came true."""
        end = self.wire.clock.seconds() + seconds
        while True:
            for program in self.programs:
                program.turn()
            if until():
                return True
            if not self.wire.step(end):
                return until()

    def close(self) -> None:
        """Leave nothing."""
        for pipe in self.pipes:
            pipe.close()
        for program in self.programs:
            program.sock.close()
