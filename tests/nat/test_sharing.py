"""Tests of L{relaytun.nat.sharing}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relaytun.nat.sharing import SharedPath
from relaytun.wire.datagram import PUNCHED
from relaytun.wire.punch import MAGIC


class FakePath:
    """What there is of a path."""

    address = ("192.0.2.2", 5000)
    round_trip = 0.25

    def __init__(self) -> None:
        self.received: Callable[[bytes], None] = lambda data: None
        self.lost: Callable[[], None] = lambda: None
        self.sent: list[bytes] = []
        self.closed = 0

    def send(self, data: bytes) -> bool:
        self.sent.append(data)
        return len(data) < 1500

    def close(self) -> None:
        self.closed += 1


class SharedPathTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = FakePath()
        path: Any = self.path
        self.shared = SharedPath(path)
        self.quic: list[bytes] = []
        self.sealed: list[bytes] = []
        self.shared.quic.received = self.quic.append
        self.shared.sealed.received = self.sealed.append

    def test_told_apart(self) -> None:
        """The first byte says whose a datagram is; an empty one is nobody's."""
        for data in (b"\x40", b"\x7f", b"\xc0long", b"\xff", PUNCHED.to_bytes(4, "big"), b""):
            self.path.received(data)
        self.assertEqual(self.quic, [b"\x40", b"\x7f", b"\xc0long", b"\xff"])
        self.assertEqual(self.sealed, [b"\x20\0\0\0"])
        self.assertNotEqual(MAGIC[0], PUNCHED >> 24)

    def test_send(self) -> None:
        """Both send over the same path."""
        self.assertTrue(self.shared.quic.send(b"\x40"))
        self.assertFalse(self.shared.sealed.send(bytes(1500)))
        self.assertEqual(len(self.path.sent), 2)
        for share in (self.shared.quic, self.shared.sealed):
            self.assertEqual((share.address, share.round_trip), (FakePath.address, 0.25))

    def test_one_goes_on(self) -> None:
        """The path stays as long as one of the two needs it; the other hears nothing more."""
        self.shared.quic.close()
        self.shared.quic.close()
        self.path.received(b"\x40")
        self.path.received(b"\x20")
        self.assertEqual((self.quic, self.sealed, self.path.closed), ([], [b"\x20"], 0))
        self.shared.sealed.close()
        self.assertEqual(self.path.closed, 1)

    def test_lost(self) -> None:
        """Whoever uses it still hears that it is lost."""
        lost: list[str] = []
        self.shared.quic.lost = lambda: lost.append("quic")
        self.shared.sealed.lost = lambda: lost.append("sealed")
        self.shared.quic.close()
        self.path.lost()
        self.assertEqual(lost, ["sealed"])
