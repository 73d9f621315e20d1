"""Tests of L{relaytun.cli.id}."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from relaytun.cli.main import relaytun
from relaytun.link.identity import Identity
from tests.config.support import INVITE, ConfigCase


class IdTests(ConfigCase):
    """C{relaytun id}."""

    def setUp(self) -> None:
        super().setUp()
        self.state = self.folder / "state"

    def run_id(self, *arguments: str) -> Result:
        return CliRunner().invoke(relaytun, ["id", *arguments])

    def kept(self, directory: Path) -> str:
        """The fingerprint of the identity that is there."""
        return Identity.from_pem((directory / "identity.pem").read_bytes()).fingerprint

    def test_made(self) -> None:
        """It is the fingerprint of the identity that is there, or of one that is made."""
        first, again = (self.run_id("--state-dir", str(self.state)) for _ in range(2))
        expected = (0, f"{self.kept(self.state)}\n", "")
        for result in (first, again):
            self.assertEqual((result.exit_code, result.stdout, result.stderr), expected)

    def test_json(self) -> None:
        """JSON has the same by name."""
        output = self.run_id("--json", "--state-dir", str(self.state)).stdout
        self.assertEqual(json.loads(output), {"fingerprint": self.kept(self.state)})

    def test_config(self) -> None:
        """The client's file tells where the identity is; C{--state-dir} wins over it."""
        path = self.write("c.ini", f"[client]\ninvite = {INVITE}\nstate_dir = {self.state}\n")
        output = self.run_id("--config", path).stdout
        self.assertEqual(output, f"{self.kept(self.state)}\n")
        other = self.folder / "other"
        output = self.run_id("--config", path, "--state-dir", str(other)).stdout
        self.assertEqual(output, f"{self.kept(other)}\n")

    def test_default(self) -> None:
        """Without options it is the identity of a client that was told nothing."""
        self.environment({"XDG_STATE_HOME": str(self.folder)})
        self.assertEqual(self.run_id().stdout, f"{self.kept(self.folder / 'relaytun')}\n")

    def test_mistakes(self) -> None:
        """A server's file is exit 2, an identity that cannot be used exit 1; each is one line."""
        result = self.run_id("--config", self.write("s.ini", "[server]\n"))
        self.assertEqual((result.exit_code, result.stdout), (2, ""))
        self.assertIn("this is a server file", result.stderr)
        self.state.mkdir()
        (self.state / "identity.pem").write_text("nonsense")
        result = self.run_id("--state-dir", str(self.state))
        self.assertEqual((result.exit_code, result.stdout), (1, ""))
        self.assertEqual(len(result.stderr.splitlines()), 1)
        self.assertIn("identity.pem cannot be used", result.stderr)
