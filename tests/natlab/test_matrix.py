"""The page of L{tests.natlab.matrix} is complete; what it says, the daemons decide."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from .matrix import SPECIAL, Case, Outcome, page, pairs, predicted


class PageTests(SynchronousTestCase):
    def test_page(self) -> None:
        """A pair is in both its places, a special case has a row, a delay has its own table."""
        text = page(
            {
                Case("public", "symseq"): Outcome("quic", 1.25, 0.01),
                SPECIAL[0]: Outcome("lan", 0.5, 0.01),
                Case("symseq", "symseq", 20): Outcome("relay", 8, 0.01),
            }
        )
        self.assertEqual(text.count("quic 1.25"), 2)
        self.assertIn("   * - on one LAN\n     - lan 0.50\n", text)
        self.assertIn("20 ms one way", text)
        self.assertIn("   * - symseq\n     - relay\n", text)

    def test_predictions(self) -> None:
        """Only hard with hard stays on the relay, and what would need UDP where there is none."""
        relayed = {
            frozenset((case.type_a, case.type_b))
            for case in pairs(delays=[0])
            if predicted(case) is False
        }
        self.assertEqual(
            relayed,
            {
                frozenset(("symseq",)),
                frozenset(("symmetric",)),
                frozenset(("symseq", "symmetric")),
                frozenset(("symseq", "udpblock")),
                frozenset(("symmetric", "udpblock")),
                frozenset(("portrest", "same-isolated")),
            },
        )
