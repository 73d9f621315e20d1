"""Tests of L{relaytun.events}."""

from __future__ import annotations

from typing import Any

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from relaytun.events import Events


class EventsTests(SynchronousTestCase):
    """What happens is told to whoever wants to know."""

    def test_all_hear(self) -> None:
        """Each listener hears of every event, also when another one fails, which is logged."""
        events, heard = Events(), []

        def broken(event: str, **fields: Any) -> None:
            raise ZeroDivisionError

        events.listeners += [broken, lambda event, **fields: heard.append((event, fields))]
        with capturedLogs() as logged:
            events.fire("client_online", client="a")
        self.assertEqual(heard, [("client_online", {"client": "a"})])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(logged), 1)
