"""Tests of L{relaytun.cli.check}."""

from __future__ import annotations

from click.testing import CliRunner

from relaytun.cli.main import relaytun
from tests.config.support import INVITE, ConfigCase


class CheckTests(ConfigCase):
    """C{relaytun check}."""

    def check(self, text: str) -> tuple[int, str, str]:
        path = self.write("a.ini", text)
        result = CliRunner().invoke(relaytun, ["check", "--config", path])
        prefix = f"{self.folder}/"
        return (
            result.exit_code,
            result.stdout.replace(prefix, ""),
            result.stderr.replace(prefix, ""),
        )

    def test_valid(self) -> None:
        """A valid file is exit 0 and one line that says whose it is."""
        self.assertEqual(self.check("[server]\n"), (0, "a.ini: a valid server configuration\n", ""))
        self.assertEqual(
            self.check(f"[client]\ninvite = {INVITE}\n"),
            (0, "a.ini: a valid client configuration\n", ""),
        )

    def test_invalid(self) -> None:
        """A wrong file is exit 2 and a line on stderr for each thing that is wrong."""
        code, out, err = self.check("[server]\nmax_clients = 0\nsession_timeout = soon\n")
        self.assertEqual((code, out), (2, ""))
        first, second = err.splitlines()
        self.assertIn("a.ini: [server] max_clients: not a count", first + second)
        self.assertIn("a.ini: [server] session_timeout: not a time", first + second)

    def test_no_file(self) -> None:
        """A file that is not there is exit 2 and one line."""
        result = CliRunner().invoke(relaytun, ["check", "--config", f"{self.folder}/no.ini"])
        self.assertEqual(result.exit_code, 2)
        (line,) = result.stderr.splitlines()
        self.assertIn("No such file", line)
