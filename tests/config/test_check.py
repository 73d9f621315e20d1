"""Tests of L{relaytun.config.check}."""

from __future__ import annotations

from relaytun.config import check_file
from tests.config.support import INVITE, ConfigCase


class CheckTests(ConfigCase):
    """Validating a file without knowing whose it is."""

    def check(self, text: str) -> str:
        return check_file(self.write("a.ini", text))

    def test_good(self) -> None:
        """A good file is told apart by its sections or its form."""
        self.assertEqual(self.check("[server]\n"), "server")
        self.assertEqual(self.check("[http]\nvhost_http_port =\n"), "server")
        self.assertEqual(self.check(f"[client]\ninvite = {INVITE}\n"), "client")
        self.assertEqual(self.check(f'{{"invite": "{INVITE}"}}'), "client")

    def test_bad(self) -> None:
        """A file is validated as fully as its server or client would."""
        for text, saying in {
            "[server]\nmax_clients = 0\n": "max_clients: not a count",
            "[client]\n": "invite: missing",
            "[sevrer]\n": "did you mean [server]?",
            "; nothing\n": "has no section: start with [server] or [client]",
        }.items():
            (line,) = self.problems(lambda text=text: self.check(text))
            self.assertTrue(line.startswith("a.ini: "))
            self.assertIn(saying, line)
