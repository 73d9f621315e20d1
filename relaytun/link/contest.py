"""
Whether a direct path carries as much as the relay did.

It is measured only while a channel has no room, that is, while the path is the limit and not the
programs: in windows of half a second, by what was sent.  A direct path that was well below the
relay for several windows on end is not worth having.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds between two looks, and looks in a window.
LOOK = 0.1
LOOKS = 5
#: A direct path with less than this share of what the relay carries is slower than the relay: by
#: more than two measurements of one path differ.
SLOWER = 0.7
#: Windows on end that say so.
ROUNDS = 6
#: Seconds for which the relay's figure holds.
HOLDS = 600.0


class Contestants(Protocol):
    """
    The link.

    @ivar bytes_out: what it has sent.
    """

    bytes_out: int

    @property
    def path(self) -> str:
        """The way of its main channel; empty: through the relay."""

    def is_full(self) -> bool:
        """Whether something waits for a channel to have room."""


class Contest:
    """That of one side of a link, for what it sends."""

    def __init__(self, clock: IReactorTime, link: Contestants, slower: Callable[[], None]) -> None:
        """@param slower: called when the direct path that the link is on is the slower one."""
        self._clock = clock
        self._link = link
        self._slower = slower
        self._relay: float | None = None
        self._measured = 0.0
        self._direct: deque[float] = deque(maxlen=ROUNDS)
        self._call: IDelayedCall | None = None
        self._full = False
        self._looks = 0
        self._began, self._sent, self._path = 0.0, 0, ""

    def full(self) -> None:
        """A channel has no room."""
        self._full = True
        if self._call is None:
            self._begin()

    def stop(self) -> None:
        """Nothing is measured any more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _begin(self) -> None:
        self._began, self._sent = self._clock.seconds(), self._link.bytes_out
        self._path = self._link.path
        self._looks = 0
        self._call = self._clock.callLater(LOOK, self._look)

    def _look(self) -> None:
        self._call = None
        full, self._full = self._full or self._link.is_full(), False
        if not full or self._link.path != self._path:
            return
        self._looks += 1
        if self._looks < LOOKS:
            self._call = self._clock.callLater(LOOK, self._look)
            return
        rate = (self._link.bytes_out - self._sent) / (self._clock.seconds() - self._began)
        self._begin()
        self._judge(rate)

    def _judge(self, rate: float) -> None:
        now = self._clock.seconds()
        if not self._path:
            known = rate if self._relay is None else self._relay
            self._relay, self._measured = (known + rate) / 2, now
            self._direct.clear()
        elif self._relay is not None and now - self._measured < HOLDS:
            self._direct.append(rate)
            if len(self._direct) == ROUNDS and max(self._direct) < SLOWER * self._relay:
                self._direct.clear()
                self._slower()
