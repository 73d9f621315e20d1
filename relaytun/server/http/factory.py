"""
All connections of visitors to one HTTP port, and what they share.

Time is looked at for all of them together, once in a while: a timer for each request would cost
more than the request.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory
from zope.interface import implementer

from ...interfaces import IReactor
from .compose import Peer
from .frontend import Frontend
from .heads import Heads
from .parties import TimedVisitor
from .pool import Pool
from .routes import Routes
from .transport import SocketTransport

#: Between two looks at the time, at most; seconds.
_TICK = 1.0


@implementer(IProtocolNegotiationFactory)
class HttpFactory(Factory):
    """
    Connections come from L{serve}, or from Twisted by C{buildProtocol} (where TLS is ended); then
    the visitor's address may be set as the protocol's C{address} before its first byte.

    @ivar draining: connections end with their next answer.
    """

    noisy = False

    def __init__(
        self,
        reactor: IReactor,
        routes: Routes,
        *,
        secure: bool = False,
        response_timeout: float = 60.0,
        head_timeout: float = 10.0,
        idle_timeout: float = 60.0,
        stall_timeout: float = 300.0,
        trusted: Iterable[IPv4Network | IPv6Network] = (),
        own_page: Callable[[str], bytes | None] = lambda path: None,
        observe: Callable[[int], None] = lambda status: None,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """
        @param secure: visitors speak TLS, which somebody else ends.
        @param response_timeout: from the last byte of a request to the head of its answer; also
            between two pieces of a request's body; all in seconds.
        @param head_timeout: for the whole head of a request.
        @param idle_timeout: between two requests.
        @param stall_timeout: that a visitor may take to read anything of an answer.
        @param trusted: proxies whose X-Forwarded fields are believed.
        @param own_page: what this server itself answers at a path, whatever the host name;
            C{None} for what is for routes.
        @param observe: told of the status of each answer.
        @param has_room: whether there are descriptors for idle connections to services.
        """
        self.reactor = reactor
        self.routes = routes
        self.response_timeout = response_timeout
        self.head_timeout = head_timeout
        self.idle_timeout = idle_timeout
        self.stall_timeout = stall_timeout
        self.own_page = own_page
        self.observe = observe
        self.draining = False
        self.heads = Heads()
        self.pool = Pool(has_room=has_room)
        self.seconds = reactor.seconds
        self._secure = secure
        self._trusted = tuple(trusted)
        self._frontends: set[TimedVisitor] = set()
        least = min(response_timeout, head_timeout, idle_timeout)
        self._tick = max(0.01, min(_TICK, least / 4))
        self._timer: IDelayedCall | None = None
        routes.removed.append(self.pool.drop)

    def buildProtocol(self, addr: Any) -> Frontend:
        return Frontend(self)

    def acceptableProtocols(self) -> list[bytes]:
        """What TLS is to agree on; without this, Twisted refuses whoever offers anything."""
        return [b"http/1.1"]

    def serve(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """
        Take a connection over.

        @param sock: non-blocking and connected.
        @param address: the visitor's.
        """
        frontend = Frontend(self)
        frontend.address = address
        SocketTransport(self.reactor, sock, frontend)

    def drain(self) -> None:
        """Let what is being answered be answered, and end."""
        self.draining = True
        for frontend in tuple(self._frontends):
            frontend.drain()
        self.pool.drop_all()

    def stop(self) -> None:
        """End at once: what is not complete is seen to have broken."""
        self.draining = True
        for frontend in tuple(self._frontends):
            frontend.abort()
        self.pool.drop_all()
        if self.pool.drop in self.routes.removed:
            self.routes.removed.remove(self.pool.drop)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def doStop(self) -> None:
        """Twisted closes the port; the connections go on until L{drain} or L{stop}."""

    # For frontends.

    def peer(self, host: str) -> Peer:
        """Who a visitor is to services."""
        trusted = False
        if self._trusted:
            try:
                address = ip_address(host)
            except ValueError:
                pass
            else:
                trusted = any(address in network for network in self._trusted)
        return Peer(host, self._secure, trusted)

    def opened(self, visitor: TimedVisitor) -> None:
        self._frontends.add(visitor)
        if self._timer is None:
            self._timer = self.reactor.callLater(self._tick, self._look)

    def closed(self, visitor: TimedVisitor) -> None:
        self._frontends.discard(visitor)

    @property
    def visitors(self) -> int:
        """How many are connected."""
        return len(self._frontends)

    def _look(self) -> None:
        self._timer = None
        now = self.seconds()
        for frontend in [each for each in self._frontends if each.deadline <= now]:
            frontend.timed_out()
        self.pool.expire(now)
        if self._frontends or len(self.pool):
            self._timer = self.reactor.callLater(self._tick, self._look)
