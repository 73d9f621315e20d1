"""
What every connection from the Internet passes before it is anybody's::

    PROXY header of a load balancer --> networks, connections of the address --> still open?
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from ..config import ServerConfig
from ..interfaces import IReactor
from ..plane.accept import reset
from .access import Access
from .proxied import ProxyProtocol

Accepted = Callable[[socket.socket, Any], None]


class Door:
    """
    One for all public ports.

    @ivar access: who may connect.
    @ivar is_closed: the server is about to end, and takes nobody any more.
    """

    def __init__(self, reactor: IReactor, config: ServerConfig) -> None:
        self.access = Access(reactor)
        self.is_closed = False
        self._reactor = reactor
        self._balancers = config.proxy_protocol_from
        self._proxied: list[ProxyProtocol] = []
        self.use(config)

    def use(self, config: ServerConfig) -> None:
        """These networks, and this number for each address, hold from now on."""
        self.access.change(
            config.allow_networks, config.deny_networks, config.max_connections_per_address
        )

    def guarded(self, accepted: Accepted) -> Accepted:
        """Put all of it in front of C{accepted}."""
        return self.behind_balancers(self.admitted(accepted))

    def admitted(self, accepted: Accepted) -> Accepted:
        """The same for connections whose PROXY header has been read."""

        def open_or_not(sock: socket.socket, address: Any) -> None:
            if self.is_closed:
                reset(sock)
            else:
                accepted(sock, address)

        return self.access.accepted(open_or_not)

    def behind_balancers(self, accepted: Accepted) -> Accepted:
        """Only the PROXY header: for connections of clients, which prove themselves."""
        if not self._balancers:
            return accepted
        self._proxied.append(ProxyProtocol(self._reactor, self._balancers, accepted))
        return self._proxied[-1]

    def stop(self) -> None:
        """Close connections whose header has not come."""
        for proxied in self._proxied:
            proxied.stop()
