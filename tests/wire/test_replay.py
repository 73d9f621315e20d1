"""Tests of L{relaytun.wire.replay}."""

from __future__ import annotations

from hypothesis import example, given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire.replay import ReplayWindow, SequenceWindow

NUMBERS = st.one_of(st.integers(0, 12), st.integers(0, 2**64 - 1))


class ReplayWindowTests(SynchronousTestCase):
    """Numbers, each of which is good once."""

    @given(st.lists(NUMBERS, max_size=60), st.integers(1, 5))
    @example(list(range(10, 0, -1)) * 2, 3)
    def test_never_twice(self, numbers: list[int], size: int) -> None:
        """However small its memory, it accepts no number twice, and remembers at most its size."""
        window = ReplayWindow(size)
        accepted: set[int] = set()
        for number in numbers:
            used = number in window
            self.assertEqual(window.add(number), not used)
            self.assertIn(number, window)
            if not used:
                self.assertNotIn(number, accepted)
                accepted.add(number)
            self.assertLessEqual(len(window._seen), size)
            for one in accepted:
                self.assertIn(one, window)

    @given(st.lists(NUMBERS, max_size=60))
    def test_is_a_set(self, numbers: list[int]) -> None:
        """As long as its memory suffices it is a set: a number is refused only if it was used."""
        window = ReplayWindow(60)
        model: set[int] = set()
        for number in numbers:
            self.assertEqual(number in window, number in model)
            self.assertEqual(window.add(number), number not in model)
            model.add(number)

    @given(st.lists(NUMBERS, max_size=60), st.integers(1, 5))
    def test_only_the_lowest_are_lost(self, numbers: list[int], size: int) -> None:
        """An unused number is refused only below the floor, and the floor never sinks."""
        window = ReplayWindow(size)
        accepted: set[int] = set()
        for number in numbers:
            floor = window.floor
            if window.add(number):
                accepted.add(number)
            elif number not in accepted:
                self.assertLess(number, floor)
            self.assertGreaterEqual(window.floor, floor)
            self.assertLessEqual(window.floor, max(numbers) + 1)

    @given(st.permutations(range(32)))
    def test_out_of_order(self, order: list[int]) -> None:
        """When a run of numbers is complete, in whatever order, nothing of it takes memory."""
        window = ReplayWindow()
        for number in order:
            self.assertTrue(window.add(number))
        self.assertEqual((window.floor, len(window._seen)), (32, 0))

    def test_in_order(self) -> None:
        """Numbers used in order are never more than a floor."""
        window = ReplayWindow()
        for number in range(20000):
            self.assertTrue(window.add(number))
            self.assertEqual(len(window._seen), 0)
        self.assertEqual(window.floor, 20000)
        self.assertFalse(window.add(0))
        self.assertFalse(window.add(19999))

    def test_gaps(self) -> None:
        """A peer that leaves gaps loses the lowest numbers, and costs no more than the size."""
        window = ReplayWindow(16)
        for number in range(0, 2000, 2):
            self.assertTrue(window.add(number))
        self.assertEqual(len(window._seen), 16)
        self.assertFalse(window.add(1))
        self.assertTrue(window.add(1999))


class SequenceWindowTests(SynchronousTestCase):
    """Numbers of packets."""

    @given(st.lists(st.one_of(st.integers(0, 40), st.integers(0, 2**62)), max_size=80))
    def test_model(self, numbers: list[int]) -> None:
        """A number is good once, and not when it is further behind than the window is wide."""
        window, used, top = SequenceWindow(8), set(), -1
        for number in numbers:
            expected = number not in used and number > top - 8
            self.assertEqual(window.add(number), expected)
            if expected:
                used.add(number)
                top = max(top, number)
