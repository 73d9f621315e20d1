"""Tests of L{relaytun.link.records}."""

from __future__ import annotations

import gc
import random
from typing import Any

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from relaytun.link.handshake import Peer
from relaytun.link.records import RECORD, RecordConnection, Space

from .sockets import PROVIDER, TLS, VISITOR

BLOCK = random.Random(4).randbytes(6 * RECORD)


class RecordTests(SynchronousTestCase):
    """Two connections, after their handshake."""

    def setUp(self) -> None:
        self.visitor, self.provider = self.new(), self.new(visitor=False)
        ends = self.visitor, self.provider
        for _ in range(4):
            for one, other in (ends, ends[::-1]):
                with_nothing(one.do_handshake)
                self.carry(one, other)
        self.space = Space(4 * RECORD)

    def new(self, visitor: bool = True) -> RecordConnection:
        own, other = (VISITOR, PROVIDER) if visitor else (PROVIDER, VISITOR)
        return TLS[own.fingerprint].connection(visitor, Peer(other.fingerprint))

    def carry(self, one: RecordConnection, other: RecordConnection, but: int = 0) -> None:
        """What C{one} has written arrives; C{but} the last so many bytes."""
        data = with_nothing(lambda: one.bio_read(1024 * 1024))
        if data:
            other.bio_write(data[: len(data) - but])

    def send(self, data: bytes, but: int = 0) -> None:
        """The visitor says C{data}."""
        self.visitor.send(data)
        self.carry(self.visitor, self.provider, but)

    def read(self) -> tuple[bytes, SSL.Error | None]:
        """What the provider reads."""
        filled, error = self.provider.read_records(self.space)
        return bytes(self.space.view[:filled]), error

    def test_all(self) -> None:
        """All records that are there are read at once."""
        self.send(BLOCK[: 2 * RECORD + 5])
        data, error = self.read()
        self.assertEqual(data, BLOCK[: 2 * RECORD + 5])
        self.assertIsInstance(error, SSL.WantReadError)
        data, error = self.read()
        self.assertEqual(data, b"")
        self.assertIsInstance(error, SSL.WantReadError)

    def test_more_than_fits(self) -> None:
        """If there may be more than fits, nothing is wrong, and the rest comes next."""
        self.send(BLOCK)
        data, error = self.read()
        self.assertEqual(data, BLOCK[: 4 * RECORD])
        self.assertIsNone(error)
        data, error = self.read()
        self.assertEqual(data, BLOCK[4 * RECORD :])
        self.assertIsInstance(error, SSL.WantReadError)

    def test_part_of_one(self) -> None:
        """A record that has not come as a whole is not read."""
        self.send(BLOCK[: RECORD + 100], but=1)
        data, error = self.read()
        self.assertEqual(data, BLOCK[:RECORD])
        self.assertIsInstance(error, SSL.WantReadError)

    def test_end(self) -> None:
        """What was said before the end is read, and the end is told."""
        self.visitor.send(b"last")
        self.visitor.shutdown()
        self.carry(self.visitor, self.provider)
        data, error = self.read()
        self.assertEqual(data, b"last")
        self.assertIsInstance(error, SSL.ZeroReturnError)

    def test_forged(self) -> None:
        """Behind what is real the first record that is not is told, and no other one suffers."""
        self.visitor.send(b"real")
        self.carry(self.visitor, self.provider)
        self.visitor.send(b"forged")
        forged = bytearray(self.visitor.bio_read(1000))
        forged[-1] ^= 1
        self.provider.bio_write(bytes(forged))
        data, error = self.read()
        self.assertEqual(data, b"real")
        self.assertIs(type(error), SSL.Error)
        self.assertIn("record mac", str(error))
        with self.assertRaises(SSL.WantReadError):
            self.visitor.recv(1)


class SpaceTests(SynchronousTestCase):
    """What the garbage collector makes of a space."""

    def test_collected(self) -> None:
        """One that is only in a circle goes, in whatever order its parts do."""
        for _ in range(20):
            space: Any = Space(100)
            view = space.view
            space.circle = [space, view]
            del space, view
            gc.collect()


def with_nothing(call: object) -> bytes | None:
    """What C{call} returns, or None if it wants more."""
    try:
        return call()  # type: ignore[operator, no-any-return]
    except SSL.WantReadError:
        return None
