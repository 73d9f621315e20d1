"""Tests of L{relaytun.frp.parts}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relaytun.frp.notes import Notes
from relaytun.frp.parts import Part


class PartTests(SynchronousTestCase):
    """Sections of ours, as text."""

    def test_text(self) -> None:
        """Comments, the header, and the keys in their order; several lines are indented."""
        part = Part("service:web", "web")
        part.put("local_port", "80")
        part.put("request_headers", "A: b", "C: d")
        part.put("empty", "")
        part.comment("one\nline")
        self.assertEqual(
            part.text,
            "; one?line\n[service:web]\nlocal_port = 80\nrequest_headers =\n    A: b\n    C: d\n",
        )

    def test_unwritable(self) -> None:
        """What an INI file of ours would read as something else is left out, with a remark."""
        for value in ("a ;b", "#a", "a # b", "${HOME}", "a\nb", " a", "a\x00"):
            part = Part("service:web", "web")
            notes = Notes()
            part.put("description", value)
            self.assertTrue(part.unwritable(notes))
            self.assertEqual(part.keys, [])
            (line,) = notes.lines
            self.assertTrue(line.startswith("web: description: "), line)
            self.assertTrue(line.endswith(": left out"), line)

    def test_needed(self) -> None:
        """Without a key that keeps others out, the section does not stay."""
        for key in ("http_password", "http_user", "allow", "local_port", "locations", "group_key"):
            part = Part("service:web", "web")
            notes = Notes()
            part.put(key, "a ;b")
            self.assertFalse(part.unwritable(notes))
            self.assertIn("the whole section is left out", notes.lines[0])

    def test_writable(self) -> None:
        """Other signs are no comments and stay."""
        part = Part("server", "")
        part.put("token", "a;b#c$d{e}")
        self.assertTrue(part.unwritable(Notes()))
        self.assertEqual(part.text, "[server]\ntoken = a;b#c$d{e}\n")
