"""
Connections to services that wait for their next request.

They are kept by route, the last used first out, and closed after a while; while descriptors are
scarce none is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakSet

from .backend import Backend
from .routes import Route

#: Most idle connections of one route, and for how long each is kept, seconds.
MOST = 32
PATIENCE = 60.0


class Pool:
    """Idle connections."""

    def __init__(
        self,
        most: int = MOST,
        patience: float = PATIENCE,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """@param has_room: whether there are descriptors to be kept from others."""
        self._most = most
        self._patience = patience
        self._has_room = has_room
        self._idle: dict[Route, list[Backend]] = {}
        self._gone: WeakSet[Route] = WeakSet()

    def __len__(self) -> int:
        return sum(map(len, self._idle.values()))

    def take(self, route: Route, surely: bool) -> Backend | None:
        """
        A connection that is there, as far as is known.

        @param surely: look whether its end has come in this moment; what is sent on it cannot be
            sent again.
        """
        idle = self._idle.get(route)
        while idle:
            backend = idle.pop()
            if not (surely and backend.transport.has_input()):
                return backend
            backend.abort()
        return None

    def put(self, backend: Backend) -> None:
        """Keep one that is idle now."""
        idle = self._idle.setdefault(backend.route, [])
        wanted = len(idle) < self._most and backend.route not in self._gone
        if wanted and self._has_room():
            idle.append(backend)
        else:
            backend.transport.loseConnection()

    def forget(self, backend: Backend) -> None:
        """It is over."""
        idle = self._idle.get(backend.route, [])
        if backend in idle:
            idle.remove(backend)

    def drop(self, route: Route) -> None:
        """Nobody will ask for this route again."""
        self._gone.add(route)
        for backend in self._idle.pop(route, ()):
            backend.transport.loseConnection()

    def drop_all(self) -> None:
        """Nobody will ask again: keep none from now on."""
        self._most = 0
        for route in list(self._idle):
            for backend in self._idle.pop(route):
                backend.transport.loseConnection()

    def expire(self, now: float) -> None:
        """Close those that are in the way, or have waited long; to be called now and then."""
        patience = self._patience if not self._idle or self._has_room() else 0.0
        for route, idle in list(self._idle.items()):
            while idle and now - idle[0].idle_since >= patience:
                idle.pop(0).transport.loseConnection()
            if not idle:
                del self._idle[route]
