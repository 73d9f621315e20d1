"""Tests of L{relaytun.cli.status}."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from relaytun.cli import status as module
from relaytun.cli.main import relaytun
from relaytun.errors import UserError
from tests.config.support import INVITE, ConfigCase

ANSWER: dict[str, Any] = {
    "role": "client",
    "version": "1.2",
    "uptime": 3725.0,
    "connected": True,
    "rtt": 0.0125,
    "clients": ["ann"],
    "services": ["web", "ssh"],
    "sessions": [
        {
            "id": "0123456789abcdef0123456789abcdef",
            "peer": "bob",
            "service": "web",
            "role": "provider",
            "mode": "raw",
            "path": "relay",
            "rtt": None,
            "streams": 2,
            "bytesIn": 1536,
            "bytesOut": 10,
            "since": 1000.0,
        }
    ],
}


class StatusTests(ConfigCase):
    """C{relaytun status}, with daemons that a dictionary plays."""

    def setUp(self) -> None:
        super().setUp()
        self.daemons: dict[Path, Any] = {}
        self.asked: list[Path] = []
        self.patch(module, "ask", self.ask)
        self.patch(module.time, "time", lambda: 1090.0)

    def ask(self, directory: Path, command: str, **arguments: Any) -> Any:
        self.assertEqual((command, arguments), ("status", {}))
        self.asked.append(directory)
        if directory not in self.daemons:
            raise UserError(f"nobody at {directory}")
        return self.daemons[directory]

    def status(self, *arguments: str) -> Result:
        return CliRunner().invoke(relaytun, ["status", *arguments])

    def test_json(self) -> None:
        """JSON is what the daemon answers, key by key and in its order."""
        self.daemons[Path("/state")] = ANSWER
        output = self.status("--json", "--state-dir", "/state").stdout
        self.assertEqual(json.loads(output), ANSWER)
        self.assertEqual(list(json.loads(output)), list(ANSWER))

    def test_people(self) -> None:
        """People get aligned lines, and a table of the sessions."""
        self.daemons[Path("/state")] = ANSWER
        output = self.status("--state-dir", "/state").stdout
        lines = [" ".join(line.split()) for line in output.splitlines()]
        self.assertEqual(
            lines,
            [
                "role client",
                "version 1.2",
                "uptime 1h 02m",
                "connected yes, round trip 12.5 ms",
                "clients ann",
                "services web, ssh",
                "sessions 1",
                "",
                "session peer service role mode path rtt streams in out since",
                "01234567 bob web provider raw relay - 2 1.5 KB 10 B 1m 30s",
            ],
        )

    def test_nothing(self) -> None:
        """A daemon that has nothing shows dashes and no table."""
        self.daemons[Path("/state")] = ANSWER | {
            "connected": False,
            "clients": [None],
            "services": [],
            "sessions": [],
        }
        output = self.status("--state-dir", "/state").stdout
        for line in ("connected no", "clients   -", "services  -", "sessions  0"):
            self.assertIn(f"{line}\n", output)
        self.assertNotIn("session ", output)

    def test_why_not_direct(self) -> None:
        """Below the table stands why a session goes through the relay, if that is known."""
        (session,) = ANSWER["sessions"]
        sessions = [session | {"whyNotDirect": why} for why in ("both\x1b sleep", None)]
        self.daemons[Path("/state")] = ANSWER | {"sessions": sessions}
        output = self.status("--state-dir", "/state").stdout
        self.assertTrue(output.endswith("\nthrough the relay:\n  01234567  both\\x1b sleep\n"))

    def test_many_names(self) -> None:
        """A line stays a line, however many there are."""
        self.assertEqual(module.names(["a\x1b"]), "a\\x1b")
        self.assertEqual(module.names([f"n{n}" for n in range(20)]).count(","), 19)
        self.assertTrue(module.names([f"n{n}" for n in range(25)]).endswith("n19 and 5 more"))

    def test_config(self) -> None:
        """The file of either side tells where to look."""
        server = self.write("server.ini", "[server]\nstate_dir = /s\n")
        client = self.write("client.ini", f"[client]\ninvite = {INVITE}\nstate_dir = /c\n")
        for path in (server, client):
            self.status("--config", path)
        self.assertEqual(self.asked, [Path("/s"), Path("/c")])

    def test_state_dir_wins(self) -> None:
        """C{--state-dir} wins over the file."""
        server = self.write("server.ini", "[server]\nstate_dir = /s\n")
        self.status("--config", server, "--state-dir", "~/x")
        self.assertEqual(self.asked, [Path("/home/ann/x")])

    def test_bad_config(self) -> None:
        """A file that is wrong is exit 2, as everywhere."""
        result = self.status("--config", self.write("a.ini", "[sevrer]\n"))
        self.assertEqual(result.exit_code, 2)
        self.assertIn("did you mean [server]?", result.stderr)

    def test_defaults(self) -> None:
        """Without options it looks where a client, then a server, keeps its state."""
        self.patch(module, "load_server", lambda path, options: ServerStandIn())
        self.daemons[Path("/server")] = ANSWER
        self.assertEqual(self.status().exit_code, 0)
        self.assertEqual(self.asked, [Path("/home/ann/.local/state/relaytun"), Path("/server")])

    def test_nobody(self) -> None:
        """Without a daemon it is one line on stderr and exit 1."""
        result = self.status("--state-dir", "/state")
        self.assertEqual(
            (result.exit_code, result.stdout, result.stderr),
            (1, "", "relaytun: nobody at /state\n"),
        )
        result = self.status()
        self.assertEqual(result.exit_code, 1)
        self.assertEqual(len(result.stderr.splitlines()), 1)


class ServerStandIn:
    """A server's configuration, as far as C{status} looks at it."""

    state_dir = Path("/server")
