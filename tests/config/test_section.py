"""Tests of L{relaytun.config.section}."""

from __future__ import annotations

import contextlib

from hypothesis import given, strategies as st

from relaytun.config.section import Section, expand, one_line, shown, unknown
from relaytun.config.values import count
from tests.config.support import ConfigCase


class SectionTests(ConfigCase):
    """Reading texts and noting what is wrong with them."""

    def setUp(self) -> None:
        super().setUp()
        self.notes: list[str] = []
        self.section = Section("server", "server.ini: [server] {}".format, self.notes)

    def test_get(self) -> None:
        """A wrong value is noted with its place and stands in as the default."""
        self.section.put("max_clients", "many")
        self.assertEqual(self.section.get("max_clients", count, 7), 7)
        self.assertEqual(len(self.notes), 1)
        self.assertTrue(self.notes[0].startswith("server.ini: [server] max_clients: not a count"))

    def test_absent_and_empty(self) -> None:
        """An absent value and an empty one are the default, without a note."""
        self.section.put("max_sessions", "  ")
        self.assertEqual(self.section.get("max_clients", count, 7), 7)
        self.assertEqual(self.section.get("max_sessions", count, 8), 8)
        self.assertEqual(self.notes, [])

    def test_need(self) -> None:
        """A value that must be there is noted when it is not, with what to do."""
        self.assertEqual(self.section.need("max_clients", count, 0, "write one"), 0)
        self.assertEqual(self.notes, ["server.ini: [server] max_clients: missing: write one"])

    def test_several_lines(self) -> None:
        """A value that swallowed the next line is refused, because a key was lost in it."""
        self.section.put("max_clients", "7\nmax_sessions = 8")
        self.section.get("max_clients", count, 0)
        self.assertIn("over several lines", self.notes[0])

    def test_override(self) -> None:
        """An option replaces a value, even one that cannot be had, and is taken literally."""
        self.section.put("token", "${NOT_SET}")
        self.section.override({"token": " ${X} "}, "--{}".format)
        self.section.check()
        self.assertEqual(self.section.text("token"), "${X}")
        self.assertEqual(self.notes, [])


class ExpandTests(ConfigCase):
    """Values from the environment."""

    def test_expand(self) -> None:
        """Each variable is replaced once, and what comes of it is not looked at again."""
        self.environment({"A": "one", "B": "${A}", "EMPTY": ""})
        self.assertEqual(expand("${A}-${B}-$A-${EMPTY}$"), "one-${A}-$A-$")

    def test_unset(self) -> None:
        """A variable that is not set is an error that names it."""
        error = self.assertRaises(ValueError, expand, "x${NOT_SET}")
        self.assertIn("the environment variable NOT_SET is not set", str(error))

    def test_malformed(self) -> None:
        """What looks like a variable but is none is not taken as text."""
        for text in ("${", "${A", "${}", "${a b}", "${1}"):
            error = self.assertRaises(ValueError, expand, text)
            self.assertIn("must be followed by a variable's name", str(error))

    @given(st.text() | st.text(alphabet="${}A"))
    def test_only_value_errors(self, text: str) -> None:
        """Whatever the text, the only error is ValueError."""
        with contextlib.suppress(ValueError):
            expand(text)


class NamesTests(ConfigCase):
    """How names of keys and sections are shown."""

    def test_shown(self) -> None:
        """A key is shown only if it looks like one: it may be a secret on the wrong line."""
        self.assertEqual(shown("Client_ID"), "Client_ID")
        for text in ("a b", "", "relaytun://x@y", "a" * 31, "é"):
            self.assertEqual(shown(text), "(not a key)")

    def test_one_line(self) -> None:
        """A name cannot break the line or reach the terminal."""
        self.assertEqual(one_line("a\nb\x1bé"), "a?b?é")

    def test_unknown(self) -> None:
        """The nearest word is suggested whatever its case and hyphens; else all are told."""
        known = {"client_id": "client_id", "token": "token"}
        self.assertEqual(unknown("key", "Client-ID", known), "unknown key: did you mean client_id?")
        self.assertEqual(unknown("key", "zzz", known), "unknown key: there are client_id, token")
