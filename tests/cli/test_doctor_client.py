"""Tests of the pure part of L{relaytun.cli.doctor_client}."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relaytun.cli.doctor_client import MOST_NAMES, paths


class PathsTests(SynchronousTestCase):
    """Which way the daemon's sessions take."""

    def session(self, **fields: Any) -> dict[str, Any]:
        """What a daemon tells of one."""
        return {"peer": "bob", "service": "web", "path": "relay", **fields}

    def test_none(self) -> None:
        """Without sessions nothing is said."""
        self.assertEqual(paths([]), "")

    def test_some(self) -> None:
        """Each has its way, and why it is not another one, in printable letters."""
        sessions = [
            self.session(path="quic", whyNotDirect=None),
            self.session(whyNotDirect="it\x1b sleeps"),
            self.session(peer="a\x1b"),
        ]
        self.assertEqual(
            paths(sessions),
            "; bob/web by quic; bob/web by relay (it\\x1b sleeps); a\\x1b/web by relay",
        )

    def test_many(self) -> None:
        """A line stays a line."""
        self.assertTrue(paths([self.session()] * (MOST_NAMES + 2)).endswith("; and 2 more"))
