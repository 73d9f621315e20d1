"""
How many bytes a second may pass, of one stream or of many together.

A L{Rate} is a token bucket.  As long as it has enough, whoever asks takes what is there.  When it
has not, streams queue for it, each gets a portion when it is its turn and goes to the end of the
queue: a keystroke waits for one portion of each bulk transfer, not for the transfers.  One timer
serves a whole queue, and there is none while nobody waits.

Nothing here reads or writes: see L{relaytun.plane.splice}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds that a bucket takes to fill, and the least that it holds.
BURST = 0.25
LEAST_BURST = 64 * 1024
#: A portion is what comes in this time, within these bounds: small enough for a keystroke that
#: waits behind it, large enough that a fast stream does not cost a timer for each packet.
PORTION = 0.01
LEAST_PORTION = 2 * 1024
MOST_PORTION = 1024 * 1024


class Rate:
    """
    So many bytes a second, shared by all that take from it.

    @ivar bytes_per_second: L{change} sets it.
    @ivar portion: bytes that one in the queue gets at its turn; whoever does not queue finds
        nothing when less than this is there.
    """

    __slots__ = (
        "_burst", "_clock", "_level", "_then", "_timer", "_waiting", "bytes_per_second", "portion"
    )  # fmt: skip

    def __init__(self, clock: IReactorTime, bytes_per_second: int) -> None:
        """@param bytes_per_second: more than 0."""
        self._clock = clock
        self._then = clock.seconds()
        self._timer: IDelayedCall | None = None
        self._waiting: dict[Callable[[], None], None] = {}
        self._set(bytes_per_second)
        self._level = self._burst

    def change(self, bytes_per_second: int) -> None:
        """From now on it is another rate."""
        self._fill()
        self._set(bytes_per_second)
        self._level = min(self._level, self._burst)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._serve()

    @property
    def level(self) -> int:
        """Bytes that have come together; negative if more was taken than there was."""
        self._fill()
        return int(self._level)

    def room(self) -> int:
        """Bytes that one may take who is not in the queue; 0 if it has to go there."""
        if self._waiting:
            return 0
        level = self.level
        return level if level >= self.portion else 0

    def spare(self) -> int:
        """Bytes that one may take on top of its portion, because nobody queues behind it."""
        return 0 if self._waiting else max(0, self.level)

    def take(self, count: int) -> None:
        """
        So many bytes have passed.

        @param count: negative: of those that were taken, so many have not passed after all.
        """
        self._level -= count

    def wait(self, served: Callable[[], None]) -> None:
        """
        Queue.

        @param served: called when it has its turn: C{portion} bytes are taken for it.
        """
        self._waiting[served] = None
        if self._timer is None:
            self._serve_later()

    def forget(self, served: Callable[[], None]) -> None:
        """Leave the queue."""
        self._waiting.pop(served, None)
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, bytes_per_second: int) -> None:
        self.bytes_per_second = bytes_per_second
        self._burst = float(max(LEAST_BURST, bytes_per_second * BURST))
        self.portion = max(LEAST_PORTION, min(MOST_PORTION, int(bytes_per_second * PORTION)))

    def _fill(self) -> None:
        now = self._clock.seconds()
        passed = max(0.0, now - self._then)
        self._then = now
        self._level = min(self._burst, self._level + passed * self.bytes_per_second)

    def _serve_later(self) -> None:
        missing = self.portion - self.level
        # A little more, so that rounding does not make it a portion less a byte.
        delay = max(0.0, (missing + 1) / self.bytes_per_second)
        self._timer = self._clock.callLater(delay, self._serve)

    def _serve(self) -> None:
        self._timer = None
        # Those that queue again in their turn wait for the next time.
        for served in list(self._waiting):
            if self.level < self.portion:
                break
            if self._waiting.pop(served, self) is None:  # The others have not taken it out.
                self._level -= self.portion
                served()
        if self._waiting and self._timer is None:
            self._serve_later()


class Turn:
    """A wait for a portion of every one of several rates, in one queue after the other."""

    __slots__ = ("_had", "_rates", "_ready", "_waits")

    def __init__(self, rates: Sequence[Rate], ready: Callable[[int], None]) -> None:
        """
        @param ready: called with the number of bytes that may pass, which are taken; what does
            not pass is to be given back, see L{Rate.take}.
        """
        self._rates = tuple(rates)
        self._ready = ready
        self._had = 0
        self._waits = self._served  # A new bound method each time would not be found again.
        self._rates[0].wait(self._waits)

    def cancel(self) -> None:
        """It is not wanted any more."""
        if self._had < len(self._rates):
            self._rates[self._had].forget(self._waits)
            for rate in self._rates[: self._had]:
                rate.take(-rate.portion)
            self._had = len(self._rates)

    def _served(self) -> None:
        self._had += 1
        if self._had < len(self._rates):
            self._rates[self._had].wait(self._waits)
            return
        # One rate may have saved up while this one queued for another.
        least = min(rate.portion + rate.spare() for rate in self._rates)
        for rate in self._rates:
            rate.take(least - rate.portion)
        self._ready(least)


class Bandwidth:
    """
    The rates of somebody or something, which may change.

    @ivar up, down: no rate, if there is no limit, or one.
    """

    __slots__ = ("_clock", "down", "up")

    def __init__(self, clock: IReactorTime, up: int = 0, down: int = 0) -> None:
        """@param up, down: as for L{change}."""
        self._clock = clock
        self.up: tuple[Rate, ...] = ()
        self.down: tuple[Rate, ...] = ()
        self.change(up, down)

    def change(self, up: int, down: int) -> None:
        """@param up, down: bytes a second; 0 for no limit."""
        self.up = self._changed(self.up, up)
        self.down = self._changed(self.down, down)

    def _changed(self, rates: tuple[Rate, ...], bytes_per_second: int) -> tuple[Rate, ...]:
        if not bytes_per_second:
            return ()
        for rate in rates:
            if rate.bytes_per_second != bytes_per_second:
                rate.change(bytes_per_second)
        return rates or (Rate(self._clock, bytes_per_second),)
