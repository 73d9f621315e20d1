"""Tests of L{relaytun.config.ini}."""

from __future__ import annotations

import contextlib

from hypothesis import given, strategies as st

from relaytun.config.ini import read_ini
from relaytun.config.section import Section
from relaytun.errors import ConfigError
from tests.config.support import ConfigCase


class IniTests(ConfigCase):
    """The form of an INI file."""

    def read(self, text: str) -> tuple[list[Section], list[str]]:
        notes: list[str] = []
        return read_ini("a.ini", text, notes), notes

    def broken(self, text: str) -> list[str]:
        return self.problems(lambda: self.read(text))

    def texts(self, text: str) -> dict[str, str | None]:
        (section,), notes = self.read(text)
        self.assertEqual(notes, [])
        return {key: section.text(key) for key in section.entries}

    @given(st.text() | st.lists(st.sampled_from("[]=:;#\n \ta${}")).map("".join))
    def test_only_config_errors(self, text: str) -> None:
        """Whatever the text, the only error is ConfigError."""
        for prefix in ("", "[server]\n", "[client]\ntoken = "):
            with contextlib.suppress(ConfigError):
                self.read(prefix + text)

    def test_sections(self) -> None:
        """Sections come in order, and those of which there are many carry their names."""
        text = "[client]\n[service:web]\n[connect:db]\n"
        sections, notes = self.read(text)
        self.assertEqual([each.kind for each in sections], ["client", "service", "connect"])
        self.assertEqual((sections[1].text("id"), sections[2].text("name")), ("web", "db"))
        self.assertEqual(notes, [])

    def test_comments(self) -> None:
        """A comment starts a line or follows a blank; elsewhere its sign is part of the value."""
        text = "; one\n# two\n[client]\ntoken = a;b#c ; three\nclient_id = d\t# four\n"
        self.assertEqual(self.texts(text), {"token": "a;b#c", "client_id": "d"})

    def test_environment(self) -> None:
        """Values from the environment are put in, and percent signs mean nothing."""
        self.environment({"T": " x%(y)s\n"})
        self.assertEqual(self.texts("[client]\ntoken = ${T}\n"), {"token": "x%(y)s"})

    def test_continued_list(self) -> None:
        """A value may go on to indented lines."""
        texts = self.texts("[service:web]\nallow = a,\n  b\n")
        self.assertEqual(texts["allow"], "a,\nb")

    def test_no_section(self) -> None:
        """A file must start with a section."""
        self.assertEqual(
            self.broken("\ntoken = s3cret\n"),
            [
                "a.ini: line 2: comes before any section: "
                "start with a line such as [server] or [client]"
            ],
        )

    def test_broken_lines(self) -> None:
        """Each broken line is told by its number and not repeated."""
        lines = self.broken("[client]\ns3cret\nclient_id = a\n= s3cret\n")
        problem = "not a [section], a key = value or a comment"
        self.assertEqual(lines, [f"a.ini: line 2: {problem}", f"a.ini: line 4: {problem}"])

    def test_duplicates(self) -> None:
        """A key or section that is there twice is told by its line, and the rest is still read."""
        _, notes = self.read("[client]\ntoken = a\ntoken = b\nfoo = 1\n")
        self.assertEqual(notes[0], "a.ini: line 3: [client] token: is there twice: remove one")
        self.assertIn("[client] foo: unknown key", notes[1])
        _, notes = self.read("[client]\n[client]\n")
        self.assertEqual(notes, ["a.ini: line 2: [client]: is there twice: put the two together"])

    def test_duplicate_and_broken(self) -> None:
        """A broken file tells its duplicates too."""
        self.assertEqual(len(self.broken("[client]\ntoken = a\ntoken = b\nx\n")), 2)

    def test_unknown_section(self) -> None:
        """An unknown section names the nearest one."""
        for header, saying in {
            "sever": "[sever]: unknown section: did you mean [server]?",
            "Client": "[Client]: unknown section: did you mean [client]?",
            "services:web": "[services:web]: unknown section: did you mean [service:ID]?",
            "server:x": "[server:x]: unknown section: did you mean [server]?",
            "DEFAULT": "[DEFAULT]: unknown section: there are [server], [public]",
        }.items():
            sections, notes = self.read(f"[{header}]\n")
            self.assertEqual((sections, len(notes)), ([], 1))
            self.assertIn(saying, notes[0])

    def test_unknown_key(self) -> None:
        """An unknown key names the nearest one, also where only the case is wrong."""
        _, notes = self.read("[client]\nClient_ID = a\nrelaytun://s3cret@a:1?fp=x\n")
        self.assertEqual(
            notes[0], "a.ini: [client] Client_ID: unknown key: did you mean client_id?"
        )
        self.assertNotIn("s3cret", notes[1])
