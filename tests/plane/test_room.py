"""Tests for L{relaytun.plane.room}."""

from __future__ import annotations

import os
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from relaytun.plane.room import Room


class RoomTests(SynchronousTestCase):
    def test_left(self) -> None:
        """Whoever takes a descriptor, there is one less."""
        room = Room()
        before = room.left
        taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(10)]
        self.assertLessEqual(room.left, before - 10)
        for each in taken:
            os.close(each)
        self.assertEqual(room.left, before)

    def test_none(self) -> None:
        """Without a descriptor there is no room, and no error."""
        room = Room()
        with mock.patch.object(os, "dup", side_effect=OSError):
            self.assertEqual(room.left, 0)
            self.assertFalse(room.for_visitors() or room.for_streams() or room.for_legs())

    def test_order(self) -> None:
        """The later something comes in a stream's life, the longer there is room for it."""
        for limit in (64, 256, 1024, 20000):
            room, seen = Room(limit), []
            for left in range(limit, -1, -1):
                with mock.patch.object(Room, "left", left):
                    seen.append((room.for_visitors(), room.for_streams(), room.for_legs()))
            visitors, streams, legs = (sum(each) for each in zip(*seen, strict=True))
            self.assertTrue(0 < visitors < streams < legs < limit, (limit, visitors, streams, legs))
