"""
Ports of the home's router for direct paths: asked for as long as somebody needs them, and not of a
router that has shown that it gives none.

How a router is asked is L{relaytun.nat.portmap}'s business.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..interfaces import IReactor
from ..nat.portmap import MappedPort, NoMapping, PortMapper
from ..nat.upnp import Upnp, is_installed

#: Seconds for which an attempt waits for a router that may help; UPnP may take so long.
PATIENCE = 1.0
UPNP_PATIENCE = 4.0
#: Seconds for which a router that gave nothing is not asked again.
SILENCE = 600.0


class Mappings:
    """
    Those of a client.

    @ivar known: whether the router has given a port before, or says that it gives some.
    """

    _log = Logger()

    def __init__(self, reactor: IReactor, mapper: PortMapper | None = None) -> None:
        """@param mapper: what talks to the router."""
        self.known = False
        self._reactor = reactor
        self._mapper = mapper or _mapper(reactor)
        self._slow = False
        self._silent_until: float | None = None
        self._searching: Deferred[bool] | None = None

    @property
    def patience(self) -> float:
        """Seconds for which it is worth while to wait for an answer."""
        return UPNP_PATIENCE if self._slow else PATIENCE

    def search(self) -> None:
        """Find out how the router is asked, where that takes long, before a port is needed."""
        if not self.known and self._searching is None:
            searching = self._searching = self._mapper.search()
            searching.addCallback(self._searched, searching)

    def ask(self, protocol: str, port: int) -> Mapping | None:
        """
        Have a port of the router's lead to C{port} of this host's, if there is hope.

        @param protocol: C{udp} or C{tcp}.
        """
        if self._silent_until is not None:
            if self._reactor.seconds() < self._silent_until:
                return None
            self._silent_until = None

        def release() -> None:
            self._mapper.unmap(protocol, port)

        mapping = Mapping(self._reactor, release)
        asked = self._mapper.map(protocol, port, changed=mapping.changed)
        asked.addCallbacks(self._got, self._nothing, callbackArgs=(mapping,))
        asked.addBoth(lambda _: mapping.over())
        return mapping

    def forget(self) -> None:
        """The network has changed: it may be another router."""
        self.known = self._slow = False
        self._silent_until = self._searching = None
        self.search()

    def close(self) -> Deferred[None]:
        """Give everything back."""
        return self._mapper.close()

    def _searched(self, found: bool, searching: Deferred[bool]) -> None:
        if searching is not self._searching:
            return  # That was in another network.
        self._searching = None
        if found:
            self.known = self._slow = True
            self._silent_until = None

    def _got(self, mapped: MappedPort, mapping: Mapping) -> None:
        self.known = True
        self._slow = mapped.by == "upnp"
        mapping.changed(mapped)

    def _nothing(self, failure: Failure) -> None:
        """A question that was given up tells nothing of the router; why it gave nothing does."""
        if failure.check(NoMapping):
            self._log.debug("no mapped port: {why}", why=failure.getErrorMessage())
            self._silent_until = self._reactor.seconds() + SILENCE
        elif not failure.check(CancelledError):
            self._log.failure("asking the router failed", failure)


class Mapping:
    """
    One port.

    @ivar mapped: where it leads to us, once that is known.
    """

    def __init__(self, reactor: IReactor, release: Callable[[], None]) -> None:
        self.mapped: MappedPort | None = None
        self._reactor = reactor
        self._release = release
        self._over = False
        self._waiting: Deferred[None] | None = None
        self._timer: IDelayedCall | None = None

    def within(self, seconds: float) -> Deferred[None]:
        """@return: fires when it is known, or after so many seconds; for one to wait for."""
        if self._over or seconds <= 0:
            return succeed(None)
        self._timer = self._reactor.callLater(seconds, self._wake)
        self._waiting = Deferred(lambda _: self._stop_waiting())
        return self._waiting

    def changed(self, mapped: MappedPort | None) -> None:
        """The router has given it, another one, or none any more."""
        self.mapped = mapped

    def over(self) -> None:
        """The router has answered, or will not."""
        self._over = True
        self._wake()

    def release(self) -> None:
        """Give it back."""
        self._release()

    def _wake(self) -> None:
        waiting = self._waiting
        self._stop_waiting()
        if waiting is not None:
            waiting.callback(None)

    def _stop_waiting(self) -> None:
        self._waiting = None
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


def _mapper(reactor: IReactor) -> PortMapper:
    return PortMapper(reactor, upnp=Upnp(reactor) if is_installed() else None)
