"""
Finds out which size of datagram passes now, if any.

A probe travels like any datagram, padded to the size in question, and only the other client can
answer it.  Each size has its own standing: it I{passes} while the last probe that was answered is
not older than L{PROOF} and no L{MISSES} in a row were lost.  So a path that drops large packets
is used for the smaller ones, and one that nobody has tried for a while is not trusted with
anything.  Probes are few while nothing is sent, and fewer while none is answered.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IDelayedCall, IReactorTime

#: Seconds for which an answer is proof.
PROOF = 20.0
#: Seconds between rounds: while nothing is sent, and while something is.
QUIET = 15.0
BUSY = 2.0
#: Seconds until the next one when there is no answer, or news that there could be one.
RETRY = 0.5
HURRY = 0.2
#: Seconds between rounds when no answer comes, at most.
LAST_RETRY = 30.0
#: Lost probes in a row after which a size does not pass.
MISSES = 4
#: Probes whose answer may still come.
_REMEMBERED = 32


class _Size:
    """
    A size that may pass.

    @ivar proven: when the last answered probe was sent.
    @ivar missed: probes since, none of which is answered.
    """

    __slots__ = ("missed", "octets", "proven")

    def __init__(self, octets: int) -> None:
        self.octets = octets
        self.proven: float | None = None
        self.missed = 0

    def passes(self, now: float) -> bool:
        return self.proven is not None and self.missed <= MISSES and now - self.proven < PROOF


class Probing:
    """
    @ivar rtt: seconds that the last answer took.
    @ivar unanswered: whether no probe at all was answered since the last round but one.
    """

    def __init__(self, clock: IReactorTime, probe: Callable[[int, int], None]) -> None:
        """@param probe: sends one, of a given token and size."""
        self.rtt: float | None = None
        self.unanswered = False
        self._clock = clock
        self._probe = probe
        self._sizes: list[_Size] = []
        self._tokens = itertools.count(1)
        self._sent: dict[int, tuple[_Size, float]] = {}
        self._busy = False
        self._pause = RETRY
        self._last = -RETRY
        self._timer: IDelayedCall | None = None

    def start(self, sizes: Sequence[int]) -> None:
        """
        Begin, or begin anew, with nothing proven.

        @param sizes: to be tried, in bytes.
        """
        self.stop()
        self._sizes = [_Size(octets) for octets in sorted(set(sizes), reverse=True)]
        self._pause = RETRY
        self._round()

    def resize(self, sizes: Sequence[int]) -> None:
        """The sizes have changed; what is known of those that stay is kept."""
        known = {size.octets: size for size in self._sizes}
        self._sizes = [
            known.get(octets) or _Size(octets) for octets in sorted(set(sizes), reverse=True)
        ]

    def stop(self) -> None:
        """Nothing passes, and nothing is sent."""
        self._sizes = []
        self._sent.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def largest(self) -> int:
        """@return: the largest size that passes now; 0 if there is none."""
        now = self._clock.seconds()
        return next((size.octets for size in self._sizes if size.passes(now)), 0)

    def used(self) -> None:
        """Something is being sent: look more often whether it arrives."""
        if not self._busy:
            self._busy = True
            if self._timer is not None:
                self._round_at(min(self._timer.getTime(), self._last + BUSY))

    def doubt(self) -> None:
        """There is news that nothing passes: believe it until the contrary is proven."""
        if any(size.proven is not None for size in self._sizes):
            for size in self._sizes:
                size.proven = None
            self.hurry()

    def hurry(self) -> None:
        """There is reason to think that a probe would be answered now."""
        self._pause = RETRY
        if self._timer is not None:
            self._round_at(min(self._timer.getTime(), self._last + HURRY))

    def answered(self, token: int) -> None:
        """The probe of C{token} arrived."""
        size, sent = self._sent.pop(token, (None, 0.0))
        if size is None:
            return
        self.rtt = self._clock.seconds() - sent
        for smaller in self._sizes:
            if smaller.octets <= size.octets:
                smaller.proven = max(sent, smaller.proven or sent)
                smaller.missed = 0
        self._pause = RETRY
        now = self._clock.seconds()
        if not any(each.missed and each.passes(now) for each in self._sizes):
            self._round_at(self._last + (BUSY if self._busy else QUIET))

    def _round(self) -> None:
        self._busy = False
        self._last = now = self._clock.seconds()
        passing = False
        self.unanswered = all(size.missed for size in self._sizes)
        for size in self._sizes:
            certain = size.passes(now) and not size.missed
            size.missed += 1
            passing = passing or size.passes(now)
            token = next(self._tokens)
            self._sent[token] = size, now
            self._probe(token, size.octets)
            if certain:
                break  # So are the smaller ones.
        for old in list(self._sent)[:-_REMEMBERED]:
            del self._sent[old]
        if passing:
            self._pause = RETRY
        self._round_at(now + self._pause)
        if not passing:
            self._pause = min(LAST_RETRY, self._pause * 2)

    def _round_at(self, when: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        delay = max(0.0, when - self._clock.seconds())
        self._timer = self._clock.callLater(delay, self._round)
