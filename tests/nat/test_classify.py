"""Tests of L{relaytun.nat.classify}."""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.nat.classify import (
    MOST_STEP,
    Nat,
    NatKind,
    Outlook,
    classify,
    in_words,
    next_places,
    outlook,
    pairs_in_words,
)

LOCAL = ("192.168.1.10", 5000)
OUTSIDE = "198.51.100.2"
OPEN, EASY, HARD, BLOCKED = NatKind.OPEN, NatKind.EASY, NatKind.HARD, NatKind.BLOCKED
ports = st.integers(1, 65535)


class ClassifyTests(SynchronousTestCase):
    """From answers to a kind."""

    def assert_nat(self, answers: list[tuple[str, int]], expected: Nat, words: str) -> None:
        nat = classify(LOCAL, answers)
        self.assertEqual(nat, expected)
        self.assertEqual(in_words(nat), words)

    def test_blocked(self) -> None:
        """Without an answer nothing passes."""
        self.assert_nat([], Nat(BLOCKED), "UDP is blocked: no answer comes back")
        self.assertIn("TCP is blocked", in_words(Nat(BLOCKED), "TCP"))

    def test_open(self) -> None:
        """Who is seen as he is has no NAT."""
        self.assert_nat(
            [LOCAL, LOCAL],
            Nat(OPEN, LOCAL, keeps_port=True, sure=True),
            "no NAT: the server sees this machine's own address",
        )

    def test_easy(self) -> None:
        """One port for all is easy, whichever it is."""
        for port, words in ((5000, "the same as here"), (6000, "another one than here")):
            seen = (OUTSIDE, port)
            self.assert_nat(
                [seen, seen],
                Nat(EASY, seen, keeps_port=port == 5000, sure=True),
                f"an easy NAT: one port for all destinations, {words}",
            )

    def test_one_answer(self) -> None:
        """One answer cannot tell an easy NAT from a hard one, and that is said."""
        nat = classify(LOCAL, [(OUTSIDE, 5000)])
        self.assertEqual((nat.kind, nat.sure), (EASY, False))
        self.assertIn("probably", in_words(nat))

    def test_hard(self) -> None:
        """Two ports are hard: a small step can be guessed, others not."""
        for answers, step, how in (
            ([(OUTSIDE, 40000), (OUTSIDE, 40001)], 1, "by +1 from one to the next, so that it can"),
            (
                [(OUTSIDE, 40002), (OUTSIDE, 40000)],
                -2,
                "by -2 from one to the next, so that it can",
            ),
            ([(OUTSIDE, 40000), (OUTSIDE, 51234)], 11234, "at random"),
            ([(OUTSIDE, 5000), ("198.51.100.3", 5001)], 0, "the address differs, too"),
        ):
            keeps = answers[0][1] == 5000
            nat = classify(LOCAL, answers)
            self.assertEqual(nat, Nat(HARD, answers[0], keeps, step, True))
            self.assertEqual(nat.sequential, 0 < abs(step) <= MOST_STEP)
            self.assertIn(how, in_words(nat))

    def test_next(self) -> None:
        """What comes next can be told of ports that rise, or fall, in steps; as far as they go."""
        for last, step, ports in (
            (5000, 1, range(5001, 5011)),
            (5000, -2, range(4998, 4978, -2)),
            (65532, 2, (65534,)),
            (5000, 0, ()),
            (5000, 999, ()),
        ):
            found = next_places(Nat(HARD, step=step), (OUTSIDE, last))
            self.assertEqual(found, [(OUTSIDE, port) for port in ports])
        self.assertEqual(next_places(Nat(EASY, step=1), (OUTSIDE, 5000)), [])

    def test_port_rewritten_here(self) -> None:
        """A firewall of this machine that changes the port is no open road."""
        self.assertIs(classify(LOCAL, [(LOCAL[0], 7)] * 2).kind, EASY)
        self.assertIs(classify(LOCAL, [LOCAL, (LOCAL[0], 7)]).kind, HARD)

    @given(st.lists(st.tuples(st.sampled_from([OUTSIDE, LOCAL[0], "192.0.2.9"]), ports)), ports)
    def test_anything(self, answers: list[tuple[str, int]], port: int) -> None:
        """Whatever is answered, it is of one kind and can be told."""
        nat = classify((LOCAL[0], port), answers)
        self.assertEqual(nat.kind is BLOCKED, not answers)
        self.assertEqual(nat.kind is HARD, len(set(answers)) > 1)
        self.assertEqual(nat.external, answers[0] if answers else None)
        self.assertTrue(in_words(nat))
        self.assertEqual(len(pairs_in_words(nat)), 4)


class PairTests(SynchronousTestCase):
    """What two kinds make of each other."""

    def test_outlook(self) -> None:
        """As it was measured: all find each other but hard with hard."""
        sequential, random = Nat(HARD, step=1), Nat(HARD, step=999)
        for own, other, expected in (
            (Nat(OPEN), OPEN, Outlook.DIRECT),
            (Nat(OPEN), EASY, Outlook.DIRECT),
            (Nat(OPEN), HARD, Outlook.DIRECT),
            (Nat(EASY), EASY, Outlook.DIRECT),
            (Nat(EASY), HARD, Outlook.BIRTHDAY),
            (random, EASY, Outlook.BIRTHDAY),
            (sequential, EASY, Outlook.PREDICT),
            (sequential, OPEN, Outlook.DIRECT),
            (sequential, HARD, Outlook.RELAY),
            (Nat(BLOCKED), HARD, Outlook.TCP),
            (Nat(OPEN), BLOCKED, Outlook.TCP),
        ):
            self.assertIs(outlook(own, other), expected, (own, other))

    def test_words(self) -> None:
        """Each pair is told with what it takes."""
        words = dict(pairs_in_words(Nat(EASY)))
        self.assertEqual(list(words), ["no NAT", "an easy NAT", "a hard NAT", "UDP blocked"])
        self.assertEqual(words["an easy NAT"], "a direct path is found")
        self.assertIn("(hard_nat = birthday), or guessing", words["a hard NAT"])
        words = dict(pairs_in_words(Nat(HARD, step=3)))
        self.assertIn("firewall", words["no NAT"])
        self.assertIn("predict", words["an easy NAT"])
        self.assertIn("the relay", words["a hard NAT"])
