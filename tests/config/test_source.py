"""Tests of L{relaytun.config.source}."""

from __future__ import annotations

from relaytun.config.source import Source, texts
from tests.config.support import ConfigCase


class SourceTests(ConfigCase):
    """Which file it is, and which form it has."""

    def test_role(self) -> None:
        """The sections tell whose file it is; one section of a server is enough."""
        for text, role in {
            "": None,
            "[foo]\n": None,
            "[client]\n": "client",
            "[connect:x]\n": "client",
            "[public]\n": "server",
            "[client]\n[http]\n": "server",
            " \n{}": "client",
        }.items():
            self.assertEqual((text, Source(self.write("a", text)).role), (text, role))
        self.assertIs(Source(None).role, None)

    def test_unreadable(self) -> None:
        """A file that cannot be read is one line with its name."""
        lines = self.problems(lambda: Source(str(self.folder / "none.ini")))
        self.assertEqual(lines, ["none.ini: cannot read the file: No such file or directory"])
        lines = self.problems(lambda: Source(self.write("a.ini", b"\xff")))
        self.assertEqual(lines, ["a.ini: line 1 is not UTF-8: save the file as UTF-8"])
        lines = self.problems(lambda: Source("a\0\nb"))
        self.assertEqual(lines, ["a??b: cannot read the file: not a path"])

    def test_texts(self) -> None:
        """Switches become words, and an option that does not exist is our own mistake."""
        keys = {"open": "open", "control": "control_port"}
        self.assertEqual(
            texts({"open": False, "control": "1"}, keys), {"open": "no", "control_port": "1"}
        )
        self.assertRaises(KeyError, texts, {"foo": "1"}, keys)
