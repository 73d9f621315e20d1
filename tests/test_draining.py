"""Tests of L{relaytun.draining}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.draining import LOOK, until_idle


class DrainingTests(SynchronousTestCase):
    """Waiting for what still runs."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.running = 1

    def busy(self) -> int:
        return self.running

    def test_nothing_runs(self) -> None:
        """When nothing runs, or there is no time for it, it is over at once."""
        self.successResultOf(until_idle(self.clock, lambda: 0, 30.0))
        self.successResultOf(until_idle(self.clock, self.busy, 0.0))

    def test_ends(self) -> None:
        """It is over as soon as nothing runs any more."""
        waiting = until_idle(self.clock, self.busy, 30.0)
        self.clock.pump([LOOK] * 3)
        self.assertNoResult(waiting)
        self.running = 0
        self.clock.advance(LOOK)
        self.successResultOf(waiting)

    def test_time_is_up(self) -> None:
        """It is over when the time is."""
        waiting = until_idle(self.clock, self.busy, 1.0)
        self.clock.pump([LOOK] * 9)
        self.assertNoResult(waiting)
        self.clock.pump([LOOK] * 2)
        self.successResultOf(waiting)

    def test_cancelled(self) -> None:
        """Cancelling it is no failure: it is over."""
        waiting = until_idle(self.clock, self.busy, 30.0)
        waiting.cancel()
        self.successResultOf(waiting)
        self.assertEqual(self.clock.getDelayedCalls(), [])
