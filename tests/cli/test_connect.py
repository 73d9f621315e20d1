"""Tests of the pure part of L{relaytun.cli.connect}."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from relaytun.cli.connect import status_line, usual
from relaytun.config import ClientConfig, ConnectConfig, parse_invite


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


class UsualTests(SynchronousTestCase):
    """What the configuration says of a service that the command line names."""

    def test_usual(self) -> None:
        """A [connect:...] to the same service counts, others do not."""
        pinned = ConnectConfig(
            name="web", target="a", service="web", local_port=1, peer_fingerprint="sha256:00"
        )
        config = ClientConfig(
            servers=(parse_invite("relaytun://t@host:1?fp=sha256:" + "0" * 64),),
            state_dir=Path("state"),
            connects=(pinned,),
        )
        self.assertIs(usual(config, "a", "web"), pinned)
        for target, service in (("a", "ssh"), ("b", "web")):
            other = usual(config, target, service)
            self.assertEqual((other.peer_fingerprint, other.mode), (None, "auto"))
