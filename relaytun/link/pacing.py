"""
Bulk transfers give way to keystrokes.

Two clients at full speed leave no processor idle, and a byte beside a bulk transfer would wait for
one.  So for a moment after each small frame the bulk transfers of a link send a chunk at a time:
1.4 Gbit/s, more than most networks have.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Bytes of a keystroke, or of the answer to one, at most.
KEYSTROKE = 1024
#: Seconds for which bulk transfers give way after one.
LATELY = 0.05
#: Seconds between two chunks meanwhile.
PACE = 0.0015


class Pacing:
    """That of one link."""

    def __init__(self, clock: IReactorTime, go_on: Callable[[], None]) -> None:
        """@param go_on: called when bulk transfers that gave way may send."""
        self._clock = clock
        self._go_on = go_on
        self._last_small = -LATELY
        self._next_bulk = 0.0
        self._call: IDelayedCall | None = None

    def small(self, size: int) -> None:
        """A frame with C{size} bytes of a stream that is no bulk transfer was sent, or came."""
        if 0 < size <= KEYSTROKE:
            self._last_small = self._clock.seconds()

    def bulk(self) -> None:
        """A chunk of a bulk transfer was sent."""
        self._next_bulk = self._clock.seconds() + PACE

    def gives_way(self) -> bool:
        """Whether bulk transfers wait a moment; if so, they are told when it is over."""
        now = self._clock.seconds()
        if now >= self._next_bulk or now - self._last_small >= LATELY:
            return False
        if self._call is None:
            self._call = self._clock.callLater(self._next_bulk - now, self._over)
        return True

    def stop(self) -> None:
        """There is nothing to be told any more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _over(self) -> None:
        self._call = None
        self._go_on()
