"""Tests of L{relaytun.frp.table} and L{relaytun.frp.notes}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relaytun.errors import ConfigError
from relaytun.frp.notes import Notes
from relaytun.frp.table import FOREIGN, Reason, Table, Tree


class TableTests(SynchronousTestCase):
    """Reading by dotted keys, and remarks on what was not read."""

    def table(self, tree: Tree, **spelling: str) -> Table:
        return Table("a.toml", "web", tree, spelling)

    def test_types(self) -> None:
        """A value comes in the type that it is taken for, from TOML as from INI."""
        table = self.table(
            {"a": {"text": " x ", "number": 1}, "number": "2", "words": "a, b,", "list": ["a"]}
            | {"on": True, "off": "No", "map": {"k": 1}}
        )
        self.assertEqual((table.text("a.text"), table.text("a.number")), ("x", "1"))
        self.assertEqual((table.number("a.number"), table.number("number")), (1, 2))
        self.assertEqual((table.words("words"), table.words("list")), (["a", "b"], ["a"]))
        self.assertEqual((table.switch("on"), table.switch("off", True)), (True, False))
        self.assertEqual(table.mapping("map"), {"k": "1"})

    def test_absent(self) -> None:
        """What is not there is empty, zero or the default."""
        table = self.table({"a": {"b": "x"}, "empty": ""})
        for key in ("no", "a.no", "a.b.c", "empty"):
            self.assertEqual((table.text(key), table.number(key)), ("", 0))
        self.assertEqual((table.switch("no", True), table.switch("empty")), (True, False))
        self.assertEqual((table.words("no"), table.mapping("no"), table.tables("no")), ([], {}, []))

    def test_any_case(self) -> None:
        """Keys are taken in any case, as frp's JSON reader takes them."""
        self.assertEqual(self.table({"Auth": {"TOKEN": "x"}}).text("auth.token"), "x")

    def test_wrong_types(self) -> None:
        """A value of the wrong type is an error with its place that does not repeat it."""
        table = self.table({"a": {"b": ["s3cret", 1]}, "s": "s3cret"}, s="the_s")
        for read, key, problem in (
            (table.text, "a.b", "a.b: not a text"),
            (table.words, "a.b", "a.b: not a list of texts"),
            (table.mapping, "s", "the_s: not a table of texts"),
            (table.tables, "a.b", "a.b: not a list of tables"),
            (table.number, "s", "the_s: not a whole number"),
            (table.switch, "s", "the_s: not true or false"),
        ):
            error = self.assertRaises(ConfigError, read, key)
            self.assertEqual(str(error), f"a.toml: web: {problem}")

    def finish(self, tree: Tree, *read: str, **spelling: str) -> list[str]:
        """Read some keys and get the remarks on the rest."""
        notes = Notes()
        table = self.table(tree, **spelling)
        for key in read:
            table.value(key)
        reasons = {"log": Reason("no log"), "log.level": Reason("no level", frozenset({"info"}))}
        table.finish(notes, {"localPort", "remotePort"}, reasons, "a thing")
        return notes.lines

    def test_rest(self) -> None:
        """A key that was not read has its reason, is idle, or is unknown; a read one is silent."""
        self.assertEqual(self.finish({"localPort": 1, "a": {"b": 1}}, "localPort", "a"), [])
        self.assertEqual(
            self.finish({"remotePort": 1, "log": {"to": "x", "other": "y"}}),
            ["web: remotePort: means nothing for a thing", "web: log: no log"],
        )
        self.assertEqual(self.finish({"remotePort": 0, "log": {"to": "", "level": "INFO"}}), [])
        self.assertEqual(self.finish({"log": {"level": ""}}), ["web: log.level: no level"])

    def test_unknown(self) -> None:
        """An unknown key has the nearest known one, in the spelling of the file."""
        (line,) = self.finish({"remote_prot": 1})
        self.assertIn("web: remote_prot: unknown to frp too, did you mean remotePort?", line)
        (line,) = self.finish({FOREIGN + "remote_prot": "1"}, remotePort="remote_port")
        self.assertIn("web: remote_prot: unknown to frp too, did you mean remote_port?", line)
        (line,) = self.finish({"s3cret on the wrong line": 1})
        self.assertEqual(line, "web: (not a key): unknown to frp too: left out")


class NotesTests(SynchronousTestCase):
    """Remarks."""

    def test_shared(self) -> None:
        """What many places or keys share is one line; the whole file's stands apart."""
        notes = Notes()
        for place in "abcdef":
            notes.add(place, "k", "why")
        notes.add("", "k", "why")
        notes.add("a", "x", "other")
        notes.add("a", "y", "other")
        notes.add("a", "", "left\nout")
        self.assertEqual(
            notes.lines,
            ["a, b, c, d and 2 more: k: why", "k: why", "a: x, y: other", "a: left?out"],
        )
