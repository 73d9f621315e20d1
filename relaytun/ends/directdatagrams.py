"""
The ways of a link's datagrams that do not go through the relay: paths between the two clients that
were punched.

A new path takes the place of the one in use when a probe on it was answered, and the old one is
listened to a moment longer: the other side may change later.  Whatever comes over a path and cannot
be opened is nobody's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ..link.sealing import Sealing
from ..plane.datagrams import mtu_towards
from ..wire.datagram import PUNCHED
from .datagramway import Counts, Way, packet_sizes

#: Seconds for which a path that has a successor is kept.
LINGER = 10.0


class PunchedPath(Protocol):
    """
    What is needed of a path; see L{relaytun.nat.path.UdpPath}.

    @ivar received: gets each datagram that may be a sealed one.
    @ivar lost: called once, with nothing, when the path is dead; it is closed then.
    @ivar address: the other client's, as seen from here.
    @ivar round_trip: seconds.
    """

    received: Callable[[bytes], None]
    lost: Callable[[], None]

    @property
    def address(self) -> tuple[str, int]:
        """See above."""

    @property
    def round_trip(self) -> float:
        """See above."""

    def send(self, data: bytes) -> bool:
        """@return: whether the kernel took it; never in fragments."""

    def close(self) -> None:
        """Let it go; a second time does no harm."""


class _DirectWay(Way):
    def __init__(
        self, clock: IReactorTime, sealing: Sealing, counts: Counts, path: PunchedPath
    ) -> None:
        super().__init__(clock, sealing, counts, self._send, PUNCHED)
        self.path = path

    def start(self) -> None:
        self.probing.start(self._sizes())

    def close(self) -> None:
        self.stop()
        self.path.close()

    def _send(self, packets: list[bytes]) -> int:
        sent = sum(map(self.path.send, packets))
        if sent < len(packets):
            # The kernel may have learned that the path takes less than it thought.
            self.probing.resize(self._sizes())
        return sent

    def _sizes(self) -> list[int]:
        address = self.path.address
        return packet_sizes(mtu_towards(address), address[0])


class DirectDatagrams:
    """
    Those of one link.

    @ivar counts: of all of them.
    @ivar lost: set it: called when there is no path any more, except by L{close}.
    """

    def __init__(
        self,
        clock: IReactorTime,
        sealing: Sealing,
        received: Callable[[Way, memoryview, int], None],
    ) -> None:
        """@param received: gets the way and what came over it, as a run of datagrams."""
        self.counts = Counts()
        self.lost: Callable[[], None] = lambda: None
        self._clock = clock
        self._sealing = sealing
        self._received = received
        self._used: _DirectWay | None = None
        self._next: _DirectWay | None = None
        self._old: _DirectWay | None = None
        self._timer: IDelayedCall | None = None

    def adopt(self, path: PunchedPath) -> None:
        """Use C{path}, which is taken over, once the other side answers there."""
        way = _DirectWay(self._clock, self._sealing, self.counts, path)
        path.received = lambda data: self._received(way, memoryview(data), len(data))
        path.lost = lambda: self._is_lost(way)
        if self._used is None:
            self._used = way
        else:
            if self._next is not None:
                self._next.close()
            self._next = way
        way.start()

    @property
    def way(self) -> Way | None:
        """The one in use."""
        if self._next is not None and self._next.room > 0:
            self._succeed()
        return self._used

    def hurry(self) -> None:
        """There is a new secret."""
        for way in (self._used, self._next):
            if way is not None:
                way.probing.hurry()

    def close(self) -> None:
        """Close them all."""
        self._forget_old()
        for way in (self._used, self._next):
            if way is not None:
                way.close()
        self._used = self._next = None

    def _succeed(self) -> None:
        """The next one is in use from now on."""
        self._forget_old()
        self._old, self._used, self._next = self._used, self._next, None
        if self._old is not None:
            self._old.flush()
            self._old.stop()
            self._timer = self._clock.callLater(LINGER, self._forget_old)

    def _forget_old(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._old is not None:
            self._old.close()
            self._old = None

    def _is_lost(self, way: _DirectWay) -> None:
        way.close()
        if way is self._old:
            self._forget_old()
        elif way is self._next:
            self._next = None
        elif way is self._used:
            self._used, self._next = self._next, None
            if self._used is None:
                self.lost()
