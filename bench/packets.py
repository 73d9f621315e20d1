"""The search for the highest rate at which datagrams pass without loss.

A trial offers a rate for a while; it passes when at most `_LOSS` of the datagrams are lost, and
counts with the rate that was really sent: a source that waits for its core sends less.  The offered
rate rises by `_STEP` until a trial fails, then the interval is halved (by its geometric
mean) `_HALVINGS` times, to within 3 percent.  On a machine whose cores are shared a loss may be
the scheduler's: a rate has failed only when each of `_TRIALS` trials failed.
"""

from __future__ import annotations

import json
import math
import time

from .processes import RunFailed, Script

_LOSS = 0.001
_TRIALS = 3
_FIRST_RATE = 4000.0
_STEP = 1.5
_HALVINGS = 4
#: No source gets here; what counts is what it really sent.
_LAST_RATE = 1e6
_QUIET_SECONDS = 0.3
_ANSWER_SECONDS = 20.0


class Search:
    """Trials between one source and one sink."""

    def __init__(self, source: Script, sink: Script, seconds: float) -> None:
        self._source = source
        self._sink = sink
        self._seconds = seconds
        self.sent = 0
        self.best = 0.0

    def passes(self, rate: float) -> bool:
        """Whether `rate` passes in one of `_TRIALS` trials."""
        return any(self._trial(rate) for _ in range(_TRIALS))

    def _trial(self, rate: float) -> bool:
        before = self._received()
        self._source.tell(f"{rate} {self._seconds}")
        done = json.loads(self._source.hear(self._seconds + _ANSWER_SECONDS))
        arrived = self._settled() - before
        self.sent += done["sent"]
        if arrived < done["sent"] * (1 - _LOSS):
            return False
        self.best = max(self.best, arrived / done["seconds"])
        return True

    def _received(self) -> int:
        self._sink.tell()
        return int(self._sink.hear(_ANSWER_SECONDS))

    def _settled(self) -> int:
        """What the sink has once nothing arrives any more."""
        seen = self._received()
        while True:
            time.sleep(_QUIET_SECONDS)
            now = self._received()
            if now == seen:
                return now
            seen = now


def highest_rate(source: Script, sink: Script, seconds: float) -> tuple[float, int]:
    """Datagrams for each second without loss, and how many were sent to find it out."""
    search = Search(source, sink, seconds)
    good, bad = 0.0, _FIRST_RATE
    while bad < _LAST_RATE and search.passes(bad):
        good, bad = bad, bad * _STEP
    if not good:
        raise RunFailed(f"datagrams are lost at {_FIRST_RATE:.0f}/s already")
    for _ in range(_HALVINGS):
        middle = math.sqrt(good * bad)
        if search.passes(middle):
            good = middle
        else:
            bad = middle
    return search.best, search.sent
