"""Tests of L{relaytun.frp.numbers}."""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.config import values
from relaytun.frp.numbers import MOST, bandwidth, numbers, pairs, ranges


class NumbersTests(SynchronousTestCase):
    """Lists of ports, and bandwidths."""

    def test_ranges(self) -> None:
        """A list has single numbers and ranges, with blanks wherever one likes."""
        self.assertEqual(
            ranges("2000-3000, 3001 ,4000 - 4001"), [(2000, 3000), (3001, 3001), (4000, 4001)]
        )
        self.assertEqual(numbers("6000-6002,6007"), [6000, 6001, 6002, 6007])

    def test_broken(self) -> None:
        """What is no list, ends before it starts, or is endless, is refused."""
        for text in ("", "x", "1-2-3", "3-1", "1,,2", "-1", f"1-{MOST + 1}", "0-999999999"):
            self.assertRaises(ValueError, numbers, text)
        self.assertRaises(ValueError, pairs, "1-2", "1-3")

    def test_bandwidth(self) -> None:
        """Units are of 1024, parts are allowed, and nothing is no limit."""
        for theirs, ours in {
            "1MB": "1MB",
            "1.5MB": "1536KB",
            "512KB": "512KB",
            "0.5 KB": "512",
            "0MB": "",
            " 1024KB ": "1MB",
        }.items():
            self.assertEqual(bandwidth(theirs), ours)
        for text in ("1GB", "1", "KB", "1mb", "-1MB", "nanMB"):
            self.assertRaises(ValueError, bandwidth, text)

    @given(st.integers(1, 10**9), st.sampled_from(("KB", "MB")))
    def test_same_size(self, number: int, unit: str) -> None:
        """Our configuration reads the same number of bytes as frp does."""
        written = bandwidth(f"{number}{unit}")
        self.assertEqual(values.size(written), number * {"KB": 1024, "MB": 1024**2}[unit])
