"""Tests of L{relaytun.client.roaming}: what becomes of direct paths when addresses change."""

from __future__ import annotations

import socket

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.client.roaming import EVERY, Roaming, Way, is_own_address

HOME, CAFE = "192.168.1.2", "10.0.0.7"


class FakeDirect:
    """A link's way, as far as it is told to hurry."""

    def __init__(self) -> None:
        self.hurries = 0

    def hurry(self) -> None:
        self.hurries += 1


class FakeMapping:
    """A router's port."""

    released = 0

    def release(self) -> None:
        self.released += 1


class RoamingTests(SynchronousTestCase):
    """
    @ivar addresses: this machine's.
    @ivar changes: how often others were told of.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.addresses = [HOME]
        self.changes = 0
        self.looks = 0
        self.roaming = Roaming(
            self.clock, self.changed, self.look, lambda host: host in self.addresses
        )
        self.direct = FakeDirect()

    def changed(self) -> None:
        self.changes += 1

    def look(self) -> list[str]:
        self.looks += 1
        if not self.addresses:
            raise OSError("too many open files")
        return self.addresses

    def begin(self) -> None:
        """There is a link."""
        self.roaming.add(self.direct)  # type: ignore[arg-type]

    def end(self) -> None:
        """There is none any more."""
        self.roaming.remove(self.direct)  # type: ignore[arg-type]

    def way(self, local: str = HOME) -> tuple[Way, FakeMapping]:
        """A direct connection that is in use."""
        near, far = socket.socketpair()
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        mapping = FakeMapping()
        way = Way(near, "tcp", local, near.close, mapping)  # type: ignore[arg-type]
        self.roaming.use(way)
        return way, mapping

    def test_only_with_links(self) -> None:
        """Without a link nobody looks."""
        self.clock.advance(EVERY)
        self.assertEqual(self.looks, 0)
        self.begin()
        self.roaming.add(FakeDirect())  # type: ignore[arg-type]
        self.clock.advance(EVERY)
        self.clock.advance(EVERY)
        self.assertEqual((self.looks, self.changes, self.direct.hurries), (3, 0, 0))

    def test_last_link(self) -> None:
        """It ends with the last link, when that one's connection is closed and given back."""
        self.begin()
        way, mapping = self.way()
        self.end()
        self.clock.advance(EVERY)
        self.assertEqual(mapping.released, 0)
        way.sock.close()
        self.clock.advance(EVERY)
        self.assertEqual(mapping.released, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.begin()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_moved(self) -> None:
        """With another address paths of the old one end, and all links try again."""
        self.begin()
        old, mapping = self.way()
        other, _ = self.way(CAFE)
        self.addresses = [CAFE]
        self.clock.advance(EVERY)
        self.assertEqual((old.is_over, other.is_over, mapping.released), (True, False, 1))
        self.assertEqual((self.changes, self.direct.hurries), (1, 1))
        self.clock.advance(EVERY)
        self.assertEqual((self.changes, self.direct.hurries), (1, 1))

    def test_one_more(self) -> None:
        """With one more address nothing ends."""
        self.begin()
        way, _ = self.way()
        self.addresses = [HOME, CAFE]
        self.clock.advance(EVERY)
        self.assertEqual((way.is_over, self.direct.hurries), (False, 1))

    def test_cannot_look(self) -> None:
        """If it cannot be seen, nothing has changed."""
        self.addresses = []
        self.begin()
        self.addresses = [HOME]
        self.clock.advance(EVERY)
        self.assertEqual(self.changes, 1)
        self.addresses = []
        self.clock.advance(EVERY)
        self.assertEqual(self.changes, 1)

    def test_close(self) -> None:
        """At the end what the router keeps is given back."""
        self.roaming.close()
        self.begin()
        way, mapping = self.way()
        self.roaming.close()
        self.assertEqual(mapping.released, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(way.is_over)

    def test_own_address(self) -> None:
        """This machine knows its own addresses."""
        self.assertTrue(is_own_address("127.0.0.1"))
        self.assertFalse(is_own_address("192.0.2.55"))
        self.assertFalse(is_own_address("2001:db8::55"))
