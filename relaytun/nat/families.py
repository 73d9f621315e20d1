"""
Hole punching over IPv4 and IPv6 at once: the first path that is proven is taken.

The two sides come to the same one: who does not choose agrees to one alone, and stops the other
before it can agree there, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .path import UdpPath
from .punching import UdpPunch


class FirstPunch:
    """Attempts side by side, each over a socket of its own, as one."""

    def __init__(self, punches: Sequence[UdpPunch]) -> None:
        """@param punches: at least one; if there is no path the first one tells why."""
        self._punches = punches
        self._failures: dict[UdpPunch, Failure] = {}
        self._done: Deferred[UdpPath] = Deferred(lambda _: self.stop())

    def start(self) -> Deferred[UdpPath]:
        """See L{UdpPunch.start}."""
        for punch in self._punches:
            done = punch.start()
            done.addCallbacks(
                self._found, self._failed, callbackArgs=(punch,), errbackArgs=(punch,)
            )
        return self._done

    def stop(self) -> None:
        """See L{UdpPunch.stop}."""
        for punch in self._punches:
            punch.stop()

    def _found(self, path: UdpPath, punch: UdpPunch) -> None:
        for other in self._punches:
            if other is not punch:
                other.stop()
        self._done.callback(path)

    def _failed(self, failure: Failure, punch: UdpPunch) -> None:
        self._failures[punch] = failure
        if len(self._failures) == len(self._punches) and not self._done.called:
            self._done.errback(self._failures[self._punches[0]])
