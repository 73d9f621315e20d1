"""Tests of L{relaytun.cli.reload}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from relaytun.cli import status as module
from relaytun.cli.main import relaytun
from relaytun.errors import UserError
from tests.config.support import ConfigCase


class ReloadTests(ConfigCase):
    """C{relaytun reload}, with a daemon that a list plays."""

    def setUp(self) -> None:
        super().setUp()
        self.answer: Any = []
        self.asked: list[Any] = []
        self.patch(module, "ask", self.ask)

    def ask(self, directory: Path, command: str) -> Any:
        self.asked.append((directory, command))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def reload(self) -> Result:
        return CliRunner().invoke(relaytun, ["reload", "--state-dir", "/x"])

    def test_lines(self) -> None:
        """Each change is a line, escaped; no change is said, too."""
        self.assertEqual(self.reload().output, "nothing has changed\n")
        self.answer = ["service web: added", "a\x1b[31m"]
        self.assertEqual(self.reload().output, "service web: added\na\\x1b[31m\n")
        self.assertEqual(self.asked, [(Path("/x"), "reload")] * 2)

    def test_refused(self) -> None:
        """What is wrong with the file is said in a line each, and is an error."""
        self.answer = UserError("x.ini: one\nx.ini: two")
        done = self.reload()
        self.assertEqual(done.exit_code, 1)
        self.assertEqual(done.output, "relaytun: x.ini: one\nrelaytun: x.ini: two\n")
