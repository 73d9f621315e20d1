"""Which streams the other side is to hear of, and when: at once, or together a little later."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from .stream import Stream

#: Seconds after which the other side hears at the latest what was received.
DELAY = 0.05


class Acks:
    """Those of one link."""

    def __init__(self, clock: IReactorTime, due: Callable[[], None]) -> None:
        """@param due: called when it is time to L{take} them."""
        self._clock = clock
        self._due = due
        self._streams: dict[Stream, None] = {}
        self._call: IDelayedCall | None = None

    def add(self, stream: Stream, now: bool) -> None:
        """C{stream} has something to be told, C{now} or within L{DELAY}."""
        self._streams[stream] = None
        call = self._call
        if call is None:
            self._call = self._clock.callLater(0 if now else DELAY, self._due)
        elif now and call.getTime() > self._clock.seconds():
            call.reset(0)

    def owe(self, stream: Stream) -> None:
        """What C{stream} was told last may be lost: tell it with the next ones."""
        self._streams[stream] = None

    def forget(self, stream: Stream) -> None:
        """It is over."""
        self._streams.pop(stream, None)

    def take(self) -> list[Stream]:
        """@return: the streams that are to be told of, now."""
        streams = list(self._streams)
        self._streams.clear()
        return streams

    def stop(self) -> None:
        """No more calls, until something is added."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()
