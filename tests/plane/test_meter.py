"""Tests for L{relaytun.plane.meter}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relaytun.plane.meter import Meter


class MeterTests(SynchronousTestCase):
    def test_total(self) -> None:
        """The total is both directions."""
        meter = Meter()
        meter.forward, meter.backward = 3, 4
        self.assertEqual(meter.total, 7)

    def test_no_limit(self) -> None:
        """A limit of 0 is none: more than any disk holds."""
        self.assertGreater(Meter(0).limit, 2**60)
        self.assertEqual(Meter(5).limit, 5)
        Meter().exhausted()
