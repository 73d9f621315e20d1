"""Tests of L{relaytun.ends.probing}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.ends.probing import BUSY, HURRY, LAST_RETRY, MISSES, PROOF, QUIET, RETRY, Probing

LARGE, SMALL = 1472, 1252


class ProbingTests(SynchronousTestCase):
    """
    @ivar passes: the largest probe that is answered, at once; 0 for none.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.passes = 0
        self.sent: list[tuple[float, int, int]] = []
        self.probing = Probing(self.clock, self.probe)

    def probe(self, token: int, size: int) -> None:
        self.sent.append((self.clock.seconds(), token, size))
        if size <= self.passes:
            self.clock.callLater(0.05, self.probing.answered, token)

    def run_for(self, seconds: float, used: bool = False) -> list[int]:
        """@return: the sizes of the probes sent."""
        self.sent.clear()
        for _ in range(round(seconds / 0.05)):
            if used:
                self.probing.used()
            self.clock.advance(0.05)
        return [size for _, _, size in self.sent]

    def test_proof(self) -> None:
        """Nothing passes before a probe was answered; then the largest that was."""
        self.passes = LARGE
        self.probing.start([SMALL, LARGE])
        self.assertEqual(self.probing.largest(), 0)
        self.run_for(0.1)
        self.assertEqual(self.probing.largest(), LARGE)
        self.assertAlmostEqual(self.probing.rtt or 0, 0.05)

    def test_quiet(self) -> None:
        """A path that works and is not used costs one probe in 15 s, and stays proven."""
        self.passes = LARGE
        self.probing.start([SMALL, LARGE])
        self.run_for(1)
        for _ in range(10):
            self.assertEqual(self.run_for(QUIET), [LARGE])
            self.assertEqual(self.probing.largest(), LARGE)

    def test_large_ones_lost(self) -> None:
        """A path that drops large packets is used for smaller ones."""
        self.passes = SMALL
        self.probing.start([SMALL, LARGE])
        self.run_for(0.1)
        self.assertEqual(self.probing.largest(), SMALL)
        self.run_for(60)
        self.assertEqual(self.probing.largest(), SMALL)
        self.passes = LARGE
        self.run_for(QUIET + 1)
        self.assertEqual(self.probing.largest(), LARGE)

    def test_breaks_while_used(self) -> None:
        """A path in use that breaks is left within a few seconds."""
        self.passes = LARGE
        self.probing.start([SMALL, LARGE])
        self.run_for(30, used=True)
        self.passes = 0
        self.run_for(BUSY + (MISSES + 1) * RETRY, used=True)
        self.assertEqual(self.probing.largest(), 0)

    def test_large_ones_break_while_used(self) -> None:
        """When only the large ones stop to pass, so does their use, as soon."""
        self.passes = LARGE
        self.probing.start([SMALL, LARGE])
        self.run_for(30, used=True)
        self.passes = SMALL
        self.run_for(BUSY + (MISSES + 1) * RETRY, used=True)
        self.assertEqual(self.probing.largest(), SMALL)

    def test_breaks_while_quiet(self) -> None:
        """A path that nobody uses is not trusted when its proof is old."""
        self.passes = LARGE
        self.probing.start([LARGE])
        self.run_for(1)
        self.passes = 0
        self.run_for(PROOF)
        self.assertEqual(self.probing.largest(), 0)

    def test_unanswered(self) -> None:
        """That large ones are lost is usual; when all are, there is something else."""
        self.passes = SMALL
        self.probing.start([SMALL, LARGE])
        self.run_for(20, used=True)
        self.assertFalse(self.probing.unanswered)
        self.passes = 0
        self.run_for(BUSY + RETRY + 0.1, used=True)
        self.assertTrue(self.probing.unanswered)
        self.passes = SMALL
        self.run_for(BUSY + RETRY + 0.1, used=True)
        self.assertFalse(self.probing.unanswered)

    def test_one_loss(self) -> None:
        """One lost probe is asked again soon, and changes nothing."""
        self.passes = LARGE
        self.probing.start([LARGE])
        self.run_for(QUIET - 1)
        self.passes = 0
        self.run_for(1.5)
        self.passes = LARGE
        self.assertEqual(self.run_for(1), [LARGE])
        self.assertEqual(self.probing.largest(), LARGE)

    def test_used(self) -> None:
        """While datagrams are sent there is a probe every 2 s."""
        self.passes = LARGE
        self.probing.start([LARGE])
        self.run_for(5)
        self.assertIn(len(self.run_for(20, used=True)), (9, 10))

    def test_silence(self) -> None:
        """Where nothing is ever answered, probes become few; and it comes back by itself."""
        self.probing.start([SMALL, LARGE])
        self.run_for(120)
        self.assertLessEqual(len(self.run_for(120)), 2 * 120 / LAST_RETRY)
        self.passes = LARGE
        self.run_for(LAST_RETRY + 1)
        self.assertEqual(self.probing.largest(), LARGE)

    def test_hurry(self) -> None:
        """At news that an answer is likely it asks at once, but not as often as there is news."""
        self.probing.start([LARGE])
        self.run_for(60)
        self.probing.hurry()
        self.assertEqual(self.run_for(0.1), [LARGE])
        for _ in range(10):
            self.probing.hurry()
        self.assertEqual(self.run_for(HURRY - 0.1), [])
        self.assertEqual(self.run_for(0.1), [LARGE])

    def test_doubt(self) -> None:
        """At bad news nothing passes until a probe has."""
        self.passes = LARGE
        self.probing.start([LARGE])
        self.run_for(5)
        self.probing.doubt()
        self.assertEqual(self.probing.largest(), 0)
        self.run_for(0.2)
        self.assertEqual(self.probing.largest(), LARGE)

    def test_resize(self) -> None:
        """Other sizes begin unproven; those that stay are proven as before."""
        self.passes = LARGE
        self.probing.start([SMALL, LARGE])
        self.run_for(5)
        self.probing.resize([SMALL, 1400])
        self.assertEqual(self.probing.largest(), SMALL)
        self.run_for(QUIET)
        self.assertEqual(self.probing.largest(), 1400)

    def test_late_and_forged_answers(self) -> None:
        """An answer is good however late; one to nothing that was asked is none."""
        self.probing.start([LARGE])
        self.run_for(1.5)
        self.probing.answered(9999)
        self.assertEqual(self.probing.largest(), 0)
        self.probing.answered(1)
        self.assertEqual(self.probing.largest(), LARGE)
        self.probing.answered(1)

    def test_bounded(self) -> None:
        """Unanswered probes are forgotten."""
        self.probing.start([SMALL, LARGE])
        self.run_for(2000)
        self.assertLessEqual(len(self.probing._sent), 32)

    def test_stop(self) -> None:
        """After stop nothing passes and nothing is sent."""
        self.passes = LARGE
        self.probing.start([LARGE])
        self.run_for(1)
        self.probing.stop()
        self.probing.used()
        self.probing.hurry()
        self.assertEqual(self.probing.largest(), 0)
        self.assertEqual(self.run_for(60), [])
