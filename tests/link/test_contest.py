"""A direct path that carries less than the relay is given up."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.link.contest import HOLDS, LOOK, LOOKS, ROUNDS, SLOWER, Contest


class _Link:
    def __init__(self) -> None:
        self.bytes_out = 0
        self.path = ""
        self.waiting = True

    def is_full(self) -> bool:
        """See L{relaytun.link.contest.Contestants}."""
        return self.waiting


class ContestTests(SynchronousTestCase):
    """What is said of paths that carry so much."""

    def setUp(self) -> None:
        """A link on the relay."""
        self.clock = Clock()
        self.link = _Link()
        self.slower = 0
        self.contest = Contest(self.clock, self.link, self._slower)
        self.addCleanup(self.contest.stop)

    def _slower(self) -> None:
        self.slower += 1

    def carry(self, path: str, rate: float, windows: int) -> None:
        """At C{rate} bytes a second, while there is more to be sent."""
        self.link.path = path
        self.link.waiting = True
        self.clock.advance(LOOK)  # A window that began before is over.
        self.contest.full()
        for _ in range(windows * LOOKS):
            self.link.bytes_out += int(rate * LOOK)
            self.clock.advance(LOOK)

    def test_slower(self) -> None:
        """It is noticed after so many windows, and then from the beginning."""
        self.carry("", 1e8, 2)
        self.carry("quic", 1e8 * SLOWER * 0.9, ROUNDS - 1)
        self.assertEqual(self.slower, 0)
        self.carry("quic", 1e8 * SLOWER * 0.9, 2)
        self.assertEqual(self.slower, 1)
        self.carry("quic", 1e8 * SLOWER * 0.9, ROUNDS - 2)
        self.assertEqual(self.slower, 1)

    def test_not_much_slower(self) -> None:
        """What may be chance is no reason."""
        self.carry("", 1e8, 2)
        self.carry("quic", 1e8 * SLOWER * 1.1, 3 * ROUNDS)
        self.assertEqual(self.slower, 0)

    def test_nothing_known_of_the_relay(self) -> None:
        """Who went direct before anything was measured stays there."""
        self.carry("quic", 1e3, 3 * ROUNDS)
        self.assertEqual(self.slower, 0)

    def test_long_ago(self) -> None:
        """What the relay carried once is worth nothing after a while."""
        self.carry("", 1e8, 2)
        self.link.waiting = False
        self.clock.advance(HOLDS)
        self.carry("quic", 1e3, 3 * ROUNDS)
        self.assertEqual(self.slower, 0)

    def test_programs_are_the_limit(self) -> None:
        """A path that has room is not judged by what little there is to send."""
        self.carry("", 1e8, 2)
        self.link.path, self.link.waiting = "lan", False
        for _ in range(10 * ROUNDS * LOOKS):
            self.link.bytes_out += 1000
            self.clock.advance(LOOK)
        self.assertEqual(self.slower, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_back_on_the_relay(self) -> None:
        """Another time on a direct path counts anew."""
        self.carry("", 1e8, 2)
        self.carry("quic", 1e3, ROUNDS - 1)
        self.carry("", 1e8, 1)
        self.carry("quic", 1e3, ROUNDS - 1)
        self.assertEqual(self.slower, 0)
