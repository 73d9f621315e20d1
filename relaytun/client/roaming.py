"""
What becomes of direct paths when this client gets other addresses: those from an address that is
gone end at once, and what failed is tried again.

The addresses are looked at every few seconds, as long as there is a link.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from ..nat.interfaces import local_addresses
from .direct import Direct
from .mapping import Mapping

#: Seconds from one look to the next.
EVERY = 5.0


@dataclass(eq=False)
class Way:
    """
    A direct connection, of whatever kind.

    @ivar sock: what a link's channel has of it; closed when that is over.
    @ivar protocol: C{tcp} or C{udp}.
    @ivar local: this client's address there.
    @ivar end: ends the connection, so that the channel sees that.
    @ivar mapping: the router's port that it needs.
    """

    sock: socket.socket
    protocol: str
    local: str
    end: Callable[[], None]
    mapping: Mapping | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.sock.fileno() < 0

    def over(self) -> None:
        """Nobody needs its port any more."""
        mapping, self.mapping = self.mapping, None
        if mapping is not None:
            mapping.release()


class Roaming:
    """Those of all links of a client."""

    def __init__(
        self,
        clock: IReactorTime,
        changed: Callable[[], None],
        addresses: Callable[[], Sequence[str]] = local_addresses,
        is_ours: Callable[[str], bool] | None = None,
    ) -> None:
        """
        @param changed: called when there are other addresses than before.
        @param addresses: those that this client tells others.
        @param is_ours: whether this machine has an address.
        """
        self._clock = clock
        self._changed = changed
        self._addresses = addresses
        self._is_ours = is_ours or is_own_address
        self._known: set[str] = set()
        self._directs: set[Direct] = set()
        self._ways: list[Way] = []
        self._timer: IDelayedCall | None = None

    def add(self, direct: Direct) -> None:
        """One more link."""
        self._directs.add(direct)
        if self._timer is None:
            with contextlib.suppress(OSError):
                self._known = set(self._addresses())
            self._timer = self._clock.callLater(EVERY, self._look)

    def remove(self, direct: Direct) -> None:
        """A link has ended; what it had is noticed when its sockets are closed."""
        self._directs.discard(direct)

    def use(self, way: Way) -> None:
        """A link uses this from now on."""
        self._ways.append(way)

    def close(self) -> None:
        """It is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ways, self._ways = self._ways, []
        for way in ways:
            way.over()

    def _look(self) -> None:
        self._timer = None
        now = self._known
        with contextlib.suppress(OSError):  # There may be no descriptor left; later there is.
            now = set(self._addresses())
        before, self._known = self._known, now
        for way in list(self._ways):
            if not way.is_over and not self._is_ours(way.local):
                way.end()
        for way in [way for way in self._ways if way.is_over]:
            self._ways.remove(way)
            way.over()
        if now != before:
            self._changed()
            for direct in list(self._directs):
                direct.hurry()
        if self._directs or self._ways:
            self._timer = self._clock.callLater(EVERY, self._look)


def is_own_address(host: str) -> bool:
    """Whether this machine has a literal address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.bind((host, 0))
        return True
    return False
