"""
What happens in a daemon, told to whoever wants to know: hooks, metrics, statistics.

An event is a word and fields that can be written as JSON; never a token, a key or a payload.
Nothing waits for those who listen, and none of them can harm the others.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.logger import Logger


class EventListener(Protocol):
    """Who wants to know."""

    def __call__(self, event: str, **fields: Any) -> None: ...


class Events:
    """
    @ivar listeners: each hears of every event from now on.
    """

    _log = Logger()

    def __init__(self) -> None:
        self.listeners: list[EventListener] = []

    def fire(self, event: str, **fields: Any) -> None:
        """C{event} happened."""
        for listener in list(self.listeners):
            try:
                listener(event, **fields)
            except Exception:
                self._log.failure("who listens to {event} failed", event=event)
