"""Tests of L{relaytun.ends.flows}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.ends.flows import IDLE, FlowTable


class FlowTableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.ended: list[str] = []
        self.flows: FlowTable[int, str] = FlowTable(self.clock, self.ended.append, most=3)

    def test_found(self) -> None:
        """A flow is found by its key."""
        self.flows.add(1, "one")
        self.assertEqual(self.flows.find(1), "one")
        self.assertIsNone(self.flows.find(2))

    def test_idle(self) -> None:
        """A flow that is idle for 60 s is over; one that is used is not."""
        self.flows.add(1, "one")
        self.flows.add(2, "two")
        for _ in range(5):
            self.clock.advance(IDLE / 4)
            self.flows.find(2)
        self.assertEqual(self.ended, ["one"])
        self.clock.pump([IDLE / 4] * 5)
        self.assertEqual(self.ended, ["one", "two"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.flows.add(3, "three")
        self.clock.pump([IDLE / 4] * 5)
        self.assertEqual(len(self.flows), 0)

    def test_too_many(self) -> None:
        """Of too many flows the one that was idle longest goes."""
        for key in range(3):
            self.flows.add(key, str(key))
        self.flows.find(0)
        self.flows.add(3, "3")
        self.flows.add(4, "4")
        self.assertEqual(self.ended, ["1", "2"])
        self.assertEqual(len(self.flows), 3)

    def test_end(self) -> None:
        """One can be ended, once; closing ends the others."""
        for key in range(3):
            self.flows.add(key, str(key))
        self.flows.end(1)
        self.flows.end(1)
        self.assertEqual(self.ended, ["1"])
        self.flows.close()
        self.flows.close()
        self.assertEqual(self.ended, ["1", "0", "2"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
