"""
UPnP's port mapping, by the library miniupnpc: for home routers that know neither PCP nor NAT-PMP.

The library blocks for a second and longer, so all of it happens in threads, one call at a time; a
process that ends does not wait for them, as it would for those of the reactor's pool.
Most of that is the search for the router, which can be begun before a port is needed (L{search}).
Only a router that is this host's gateway is asked: others on the LAN can answer a search, too.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from .gateway import default_gateway
from .portmap import MappedPort, NoMapping

#: Milliseconds for which answers to the search are gathered.
SEARCH = 1000
#: What the router's list of mappings shows.
_DESCRIPTION = "relaytun"


def is_installed() -> bool:
    """Whether the library is there: it is the extra C{upnp}."""
    try:
        import miniupnpc  # noqa: F401
    except ImportError:
        return False
    return True


def _library() -> Any:
    import miniupnpc

    return miniupnpc.UPnP()


def _start(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="upnp", daemon=True).start()


class Upnp:
    """What L{relaytun.nat.portmap.PortMapper} takes for C{upnp}."""

    def __init__(
        self,
        reactor: IReactorFromThreads,
        library: Callable[[], Any] = _library,
        gateway: Callable[[], str | None] = default_gateway,
        start: Callable[[Callable[[], None]], None] = _start,
    ) -> None:
        """
        @param library: makes what has the methods of C{miniupnpc.UPnP}.
        @param start: has something done in a thread.
        """
        self._reactor = reactor
        self._start = start
        self._make = library
        self._gateway = gateway
        self._router: Any = None
        self._lock = DeferredLock()

    @property
    def ready(self) -> bool:
        """Whether the router is found, so that it answers soon."""
        return self._router is not None

    def search(self) -> Deferred[bool]:
        """
        Look for the router anew: it may be another one.

        @return: whether there is one.
        """
        return self._in_thread(self._search)

    def map(
        self, protocol: str, internal_port: int, external_port: int, lifetime: int
    ) -> Deferred[MappedPort]:
        """
        Have a port; one that is taken is replaced by another one.

        @return: fails with L{NoMapping}.
        """
        return self._in_thread(self._map, protocol.upper(), internal_port, external_port, lifetime)

    def unmap(self, protocol: str, external_port: int) -> Deferred[None]:
        """Give it back; whether the router heard it nobody knows."""
        done = self._in_thread(self._unmap, protocol.upper(), external_port)
        return done.addErrback(lambda _: None)

    def _in_thread(self, act: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return self._lock.run(self._run, act, *arguments)

    def _run(self, act: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()

        def work() -> None:
            try:
                result = act(*arguments)
            except Exception:
                result = Failure()
            with contextlib.suppress(OSError):  # The reactor has ended.
                self._reactor.callFromThread(done.callback, result)

        self._start(work)
        return done

    # --- In the thread --------------------------------------------------------------------------

    def _search(self) -> bool:
        self._router = None
        try:
            self._found()
        except Exception:  # Whatever it is: there is no router that could be asked.
            return False
        return True

    def _map(self, protocol: str, internal: int, external: int, lifetime: int) -> MappedPort:
        try:
            router = self._found()
            host = str(router.externalipaddress())
            words = internal, _DESCRIPTION, "", lifetime
            try:
                router.addportmapping(external, protocol, router.lanaddr, *words)
            except Exception:
                # Taken by another host, or the router wants to choose.
                external = int(router.addanyportmapping(0, protocol, router.lanaddr, *words))
        except NoMapping:
            raise
        except Exception as error:  # The library raises nothing more special.
            self._router = None
            raise NoMapping(f"UPnP: {error}") from None
        if not host or host == "0.0.0.0" or not external:
            raise NoMapping("UPnP: the router gives no place that could be reached")
        return MappedPort(host, external, "upnp", lifetime)

    def _unmap(self, protocol: str, external: int) -> None:
        self._found().deleteportmapping(external, protocol)

    def _found(self) -> Any:
        """The router; it is searched for once."""
        if self._router is None:
            router = self._make()
            router.discoverdelay = SEARCH
            if not router.discover():
                raise NoMapping("no router answers UPnP")
            where = urlsplit(str(router.selectigd())).hostname
            if where != self._gateway():
                raise NoMapping("UPnP: the answer is not from the gateway")
            self._router = router
        return self._router
