"""Tests of L{relaytun.cli.stats}."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from relaytun.cli import status as status_module
from relaytun.cli.main import relaytun
from relaytun.errors import UserError
from tests.config.support import INVITE, ConfigCase

ROWS: dict[str, list[dict[str, Any]]] = {
    "client": [
        {"client": "a", "bytesIn": 10, "bytesOut": 0},
        {"client": "b\x1b[2J", "bytesIn": 2048, "bytesOut": 1024},
    ],
    "service": [{"client": "a", "service": "ssh", "bytesIn": 1, "bytesOut": 2}],
    "user": [
        {"user": "", "bytesIn": 1, "bytesOut": 2, "quota": 0, "usedThisMonth": 3},
        {"user": "alice", "bytesIn": 7, "bytesOut": 8, "quota": 1048576, "usedThisMonth": 15},
    ],
    "day": [
        {"day": "2026-01-01", "bytesIn": 1, "bytesOut": 0},
        {"day": "2026-01-02", "bytesIn": 100, "bytesOut": 0},
    ],
}


class StatsTests(ConfigCase):
    """C{relaytun stats}, with a server that a dictionary plays."""

    def setUp(self) -> None:
        super().setUp()
        self.asked: list[tuple[Path, dict[str, Any]]] = []
        self.patch(status_module, "ask", self.ask)

    def ask(self, directory: Path, command: str, **arguments: Any) -> Any:
        self.assertEqual(command, "stats")
        self.asked.append((directory, arguments))
        if "nobody" in str(directory):
            raise UserError("nobody is there")
        rows = ROWS[arguments["by"]]
        return {"rows": rows, "bytesIn": 5, "bytesOut": 2048, "notWritten": 0, **arguments}

    def stats(self, *arguments: str) -> Result:
        return CliRunner().invoke(relaytun, ["stats", "--state-dir=here", *arguments])

    def lines(self, *arguments: str) -> list[list[str]]:
        """What it prints, in words."""
        result = self.stats(*arguments)
        self.assertEqual(result.exit_code, 0, result.output)
        return [line.split() for line in result.output.splitlines()]

    def test_table(self) -> None:
        """The largest traffic is first; what a stranger chose is escaped; a line sums it up."""
        head, *rows, empty, total = self.lines()
        self.assertEqual(head, ["client", "in", "out"])
        self.assertEqual(
            rows, [["b\\x1b[2J", "2.0", "KB", "1.0", "KB"], ["a", "10", "B", "0", "B"]]
        )
        self.assertEqual(
            (empty, total), ([], ["5", "B", "in,", "2.0", "KB", "out", "in", "30", "days"])
        )
        self.assertEqual(self.asked, [(Path("here"), {"days": 30, "by": "client"})])

    def test_service(self) -> None:
        """A service is named with its client."""
        head, row, *_ = self.lines("--by=service")
        self.assertEqual((head, row[:2]), (["client", "service", "in", "out"], ["a", "ssh"]))

    def test_user(self) -> None:
        """Of users one sees the quota as well."""
        head, alice, nobody, *_ = self.lines("--by=user")
        self.assertEqual(head, ["user", "in", "out", "this", "month", "quota"])
        self.assertEqual(alice[-4:], ["15", "B", "1.0", "MB"])
        self.assertEqual((nobody[:2], nobody[-1]), (["(server's", "token)"], "-"))

    def test_day(self) -> None:
        """Days come in their order."""
        _, first, second, *_, total = self.lines("--by=day", "--days=1")
        self.assertEqual([first[0], second[0]], ["2026-01-01", "2026-01-02"])
        self.assertEqual(total[-2:], ["1", "day"])

    def test_nothing(self) -> None:
        """Without traffic there is no table."""
        self.patch(
            status_module,
            "ask",
            lambda *_, **__: {"rows": [], "bytesIn": 0, "bytesOut": 0, "by": "day"},
        )
        self.assertEqual(self.lines(), [["0", "B", "in,", "0", "B", "out", "in", "30", "days"]])

    def test_json(self) -> None:
        """JSON is the server's answer."""
        answer = json.loads(self.stats("--json", "--by=day").output)
        self.assertEqual(answer["rows"], ROWS["day"])

    def test_config(self) -> None:
        """The server is found by its configuration; a client has no traffic to tell of."""
        path = self.write("server.ini", "[server]\nstate_dir = /there\n")
        result = CliRunner().invoke(relaytun, ["stats", "--config", path])
        self.assertEqual((result.exit_code, self.asked[0][0]), (0, Path("/there")))
        path = self.write("client.ini", f"[client]\ninvite = {INVITE}\n")
        result = CliRunner().invoke(relaytun, ["stats", "--config", path])
        self.assertEqual(result.exit_code, 1)
        self.assertIn("is a client's", result.output)

    def test_wrong(self) -> None:
        """What cannot be asked is refused before anybody is."""
        for wrong in ("--days=0", "--days=401", "--by=visitor"):
            self.assertEqual(self.stats(wrong).exit_code, 2)
        self.assertEqual(self.asked, [])

    def test_nobody(self) -> None:
        """Where no server runs that is said."""
        result = CliRunner().invoke(relaytun, ["stats", "--state-dir=nobody"])
        self.assertEqual((result.exit_code, result.output), (1, "relaytun: nobody is there\n"))
