"""Tests of L{relaytun.plane.pair}."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from relaytun.plane.accept import close_in_order, reset
from relaytun.plane.pair import is_broken, pair, tell_when_broken


class PairTests(SynchronousTestCase):
    """Two sockets that are each other's peer."""

    def setUp(self) -> None:
        self.near, self.far = pair()
        self.addCleanup(self.near.close)
        self.addCleanup(self.far.close)

    def test_bytes(self) -> None:
        """They do not block, and bytes pass both ways, ends of streams too."""
        self.assertRaises(BlockingIOError, self.far.recv, 1)
        self.near.send(b"there")
        self.far.send(b"back")
        self.near.shutdown(socket.SHUT_WR)
        self.assertEqual((self.far.recv(9), self.far.recv(9)), (b"there", b""))
        self.assertEqual(self.near.recv(9), b"back")

    def test_in_order(self) -> None:
        """An end that is closed in order is none that is broken."""
        close_in_order(self.near)
        self.assertEqual((self.far.recv(1), is_broken(self.far)), (b"", False))

    def test_reset(self) -> None:
        """One that is reset is: after the bytes that were on their way."""
        self.near.send(b"last")
        reset(self.near)
        self.assertEqual((self.far.recv(9), self.far.recv(9)), (b"last", b""))
        self.assertTrue(is_broken(self.far))

    def test_told(self) -> None:
        """Who asked for it is told of a reset at once, and of nothing after its own close."""
        told: list[str] = []
        tell_when_broken(self.far, lambda: told.append("far"))
        tell_when_broken(self.near, lambda: told.append("near"))
        reset(self.near)
        self.assertEqual(told, ["far"])
        reset(self.far)
        self.assertEqual(told, ["far"])

    def test_others(self) -> None:
        """A socket that is none of a pair is not broken by this."""
        left, right = socket.socketpair()
        with left, right:
            self.assertFalse(is_broken(left))
            tell_when_broken(left, self.fail)
            reset(right)
