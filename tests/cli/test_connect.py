"""Tests of the pure part of L{relaytun.cli.connect}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relaytun.cli.connect import status_line


class StatusLineTests(SynchronousTestCase):
    """The live line."""

    def test_line(self) -> None:
        """It has the open streams and the bytes of both directions."""
        self.assertEqual(status_line(True, 1, 0, 2048), "1 stream, 0 B up, 2.0 KB down")
        self.assertEqual(status_line(True, 2, 10, 0), "2 streams, 10 B up, 0 B down")

    def test_away(self) -> None:
        """It says so while there is no control connection."""
        self.assertEqual(
            status_line(False, 0, 0, 0),
            "0 streams, 0 B up, 0 B down; the server is away, trying again",
        )
