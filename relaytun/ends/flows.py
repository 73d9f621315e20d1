"""
Which flows there are: who talks to whom through a udp service, and since when nobody does.

UDP has no end: a flow is over when it was idle for a while, or when there are too many and it was
idle longest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

#: Seconds without a datagram after which a flow is over.
IDLE = 60.0
#: Flows at once.
MOST_FLOWS = 4096

K = TypeVar("K", bound=Hashable)
F = TypeVar("F")


class FlowTable(Generic[K, F]):
    """The flows of one service, found by key."""

    def __init__(
        self, clock: IReactorTime, ended: Callable[[F], None], most: int = MOST_FLOWS
    ) -> None:
        """@param ended: called with a flow that is over."""
        self._clock = clock
        self._ended = ended
        self._most = most
        # The one that was idle longest comes first.
        self._flows: OrderedDict[K, tuple[F, float]] = OrderedDict()
        self._sweep = LoopingCall(self._end_idle)
        self._sweep.clock = clock

    def __len__(self) -> int:
        return len(self._flows)

    def find(self, key: K) -> F | None:
        """@return: the flow, which is in use now; None if there is none."""
        found = self._flows.get(key)
        if found is None:
            return None
        self._flows[key] = found[0], self._clock.seconds()
        self._flows.move_to_end(key)
        return found[0]

    def add(self, key: K, flow: F) -> None:
        """A new one."""
        while len(self._flows) >= self._most:
            self.end_oldest()
        self._flows[key] = flow, self._clock.seconds()
        if not self._sweep.running:
            self._sweep.start(IDLE / 4, now=False)

    def end(self, key: K) -> None:
        """This one is over, if it was not already."""
        found = self._flows.pop(key, None)
        if found is not None:
            self._ended(found[0])

    def end_oldest(self) -> bool:
        """@return: whether there was one."""
        if not self._flows:
            return False
        self._ended(self._flows.popitem(last=False)[1][0])
        return True

    def close(self) -> None:
        """End them all."""
        while self.end_oldest():
            pass
        if self._sweep.running:
            self._sweep.stop()

    def _end_idle(self) -> None:
        oldest = self._clock.seconds() - IDLE
        while self._flows and next(iter(self._flows.values()))[1] <= oldest:
            self.end_oldest()
        if not self._flows:
            self._sweep.stop()
