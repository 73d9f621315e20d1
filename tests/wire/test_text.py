"""Tests of L{relaytun.wire.text}."""

from __future__ import annotations

import unicodedata

from hypothesis import example, given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire.text import printable

#: Text with everything that may come out of JSON, lone surrogates too.
ANYTHING = st.text(st.characters())


class PrintableTests(SynchronousTestCase):
    """Text from the network in a terminal."""

    def test_dangerous(self) -> None:
        """New lines, escape sequences, bidi overrides and lone surrogates are spelled out."""
        for given_text, shown in {
            "a\r\nb": r"a\r\nb",
            "\x1b[31mred": r"\x1b[31mred",
            "\x9b31m": r"\x9b31m",
            "\u202egpj.exe": r"\u202egpj.exe",
            "\u2066x\u2069": r"\u2066x\u2069",
            "zero\u200bwidth": r"zero\u200bwidth",
            "line\u2028paragraph\u2029": r"line\u2028paragraph\u2029",
            "nul\0": r"nul\x00",
            "\ud800": r"\ud800",
            "\U000e0041": r"\U000e0041",
        }.items():
            self.assertEqual(printable(given_text), shown)

    def test_harmless(self) -> None:
        """Letters of any script, spaces and symbols stay as they are."""
        for text in (
            "",
            "web server",
            "Pr\u00fcfung \u6e2c\u8a66",
            "\u05d0\u05d1",
            "1 < 2 \U0001f600",
        ):
            self.assertEqual(printable(text), text)

    @given(ANYTHING, st.integers(0, 300))
    @example("\0" * 1000, 200)
    def test_what_comes_out(self, text: str, limit: int) -> None:
        """Whatever comes in, one encodable line of bounded length without controls comes out."""
        shown = printable(text, limit)
        shown.encode("utf-8")
        self.assertLessEqual(len(shown), 10 * limit + 3)
        for character in shown:
            self.assertNotIn(unicodedata.category(character)[0], "C")
            self.assertNotIn(unicodedata.category(character), ("Zl", "Zp"))

    @given(ANYTHING)
    def test_settled(self, text: str) -> None:
        """Text that was made fit once is left alone the second time."""
        shown = printable(text, 1000)
        self.assertEqual(printable(shown, 20000), shown)

    def test_cut(self) -> None:
        """What is longer than the limit is cut there, and the cut can be seen."""
        self.assertEqual(printable("abcdef", 6), "abcdef")
        self.assertEqual(printable("abcdefg", 6), "abcdef...")
        self.assertEqual(len(printable("a" * 10**6)), 203)
