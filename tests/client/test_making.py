"""Tests of L{relaytun.client.making}: what of a configuration decides about direct paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import UNSET
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.client import making as module
from relaytun.config import ClientConfig, ServerAddress
from relaytun.statedir import StateDir
from relaytun.wire.messages import RelayAddress

from .support import IDENTITY


class Connection:
    """To a server that has told about its reflectors."""

    def __init__(self, reflectors: Any) -> None:
        self.changes = 0
        self.control = None if reflectors is None else self
        self.response = self
        self.reflectors = reflectors

    def network_changed(self) -> None:
        self.changes += 1


class DirectTests(SynchronousTestCase):
    """The ways without the relay."""

    def setUp(self) -> None:
        self.made: list[tuple[Any, ...]] = []
        self.patch(module, "Meetings", self.meetings)

    def meetings(self, *arguments: Any) -> object:
        self.made.append(arguments)
        return self

    def make(self, *connections: Connection, **config: str) -> object:
        """@return: what makes them."""
        loaded = ClientConfig(
            servers=(ServerAddress(host="a", port=1),), state_dir=Path(self.mktemp()), **config
        )
        state = StateDir(loaded.state_dir)
        clock: Any = Clock()
        made = module.machinery_of(clock, loaded, IDENTITY, state, connections)  # type: ignore[arg-type]
        return made.directs

    def test_off(self) -> None:
        """With C{direct = off}, and without servers, there are none."""
        self.assertIsNone(self.make(Connection(()), direct="off"))
        self.assertIsNone(self.make())
        self.assertEqual(self.made, [])

    def test_on(self) -> None:
        """By default all are looked for, and with C{direct = lan} those within a network."""
        for direct, lan in (("auto", False), ("lan", True)):
            self.assertIs(self.make(Connection(()), direct=direct, hard_nat="no"), self)
            self.assertEqual(self.made[-1][2:4], (lan, "no"))

    def test_network_changed(self) -> None:
        """With other addresses, each connection to a server looks whether it still has its own."""
        connections = Connection(None), Connection(())
        self.make(*connections)
        self.made[-1][4]()
        self.assertEqual([connection.changes for connection in connections], [1, 1])

    def test_reflectors(self) -> None:
        """Asked are those of a server at which the client is signed in, at that moment."""
        away, old, there = Connection(None), Connection(UNSET), Connection(("there",))
        reflector = RelayAddress(host="there", port=3478)
        there.reflectors = (reflector,)
        self.make(away, there, old)
        reflectors = self.made[-1][1]
        self.assertEqual(reflectors(), (reflector,))
        there.control = None
        self.assertEqual(reflectors(), ())
        old.control = None
        self.assertEqual(reflectors(), ())
