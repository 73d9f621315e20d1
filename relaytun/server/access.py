"""
Who may connect to what is public, by address: networks that are allowed or denied, and a number
of connections for each address.

Unlike L{relaytun.server.admission}, which makes strangers give way to each other, it turns away:
a public connection may be there for hours.
"""

from __future__ import annotations

import ipaddress
import socket
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from ..plane.accept import reset
from .admission import Bucket, address_key

#: Log lines about those that were turned away.
NOTES_PER_SECOND = 2.0

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Access:
    """
    The rule for public connections, on however many ports.

    @ivar refused: how many connections it has turned away.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        allow: Sequence[Network] = (),
        deny: Sequence[Network] = (),
        max_per_address: int = 0,
    ) -> None:
        """@param allow, deny, max_per_address: as for L{change}."""
        self.refused = 0
        self._clock = clock
        self._notes = Bucket(NOTES_PER_SECOND, clock.seconds())
        self._connections: Counter[str] = Counter()
        self.change(allow, deny, max_per_address)

    def change(
        self, allow: Sequence[Network], deny: Sequence[Network], max_per_address: int
    ) -> None:
        """
        From now on this is the rule; connections that are there stay.

        @param allow: who may connect; empty: everybody.
        @param deny: who may not, even if allowed.
        @param max_per_address: connections at once from one IPv4 address or IPv6 /64; 0: any
            number.
        """
        self._allow = [_unmapped(network) for network in allow]
        self._deny = [_unmapped(network) for network in deny]
        self._max_per_address = max_per_address

    def admits(self, address: str) -> bool:
        """
        Whether the networks let this address connect.

        @param address: an IPv4 address mapped into IPv6 counts as the IPv4 address; what is no
            IP address (the peer of a UNIX socket) is in no network.
        """
        if not self._allow and not self._deny:
            return True
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return not self._allow
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        if any(parsed in network for network in self._deny):
            return False
        return not self._allow or any(parsed in network for network in self._allow)

    def enter(self, address: str) -> Visit | None:
        """
        A connection from there.

        @return: what to tell when it ends; L{None} if it may not be: it is to be reset.
        """
        why = ""
        key = address_key(address)
        if not self.admits(address):
            why = "its network may not"
        elif key and 0 < self._max_per_address <= self._connections[key]:
            why = f"it has max_connections_per_address = {self._max_per_address}"
        if why:
            self.refused += 1
            if self._notes.allow(self._clock.seconds()):
                self._log.info(
                    "{address} may not connect: {why}; turned away so far: {count}",
                    address=address,
                    why=why,
                    count=self.refused,
                )
            return None
        self._connections[key] += 1
        return Visit(self, key)

    def accepted(
        self, inner: Callable[[socket.socket, Any], None]
    ) -> Callable[[socket.socket, Any], None]:
        """
        Guard a port.

        @param inner: what to do with a connection that may be.  It counts until the socket that
            C{inner} gets is closed, by whomever.
        @return: what to do with any, as a L{ListeningPort} calls it.
        """

        def accepted(sock: socket.socket, address: Any) -> None:
            visit = self.enter(address[0] if isinstance(address, tuple) else "")
            if visit is None:
                reset(sock)
            else:
                inner(_Counted.of(sock, visit), address)

        return accepted

    def _left(self, key: str) -> None:
        self._connections[key] -= 1
        if not self._connections[key]:
            del self._connections[key]


class Visit:
    """A connection that may be, as far as it counts."""

    __slots__ = ("_access", "_key")

    def __init__(self, access: Access, key: str) -> None:
        self._access: Access | None = access
        self._key = key

    def leave(self) -> None:
        """It has ended; once is enough."""
        access, self._access = self._access, None
        if access is not None:
            access._left(self._key)


class _Counted(socket.socket):
    """A socket that tells when it is closed, or forgotten."""

    __slots__ = ("_tell",)

    _tell: weakref.finalize[Any, _Counted]

    @classmethod
    def of(cls, sock: socket.socket, visit: Visit) -> _Counted:
        """Take C{sock} over."""
        counted = cls(sock.family, sock.type, sock.proto, fileno=sock.detach())
        counted.setblocking(False)
        counted._tell = weakref.finalize(counted, visit.leave)
        return counted

    def dup(self) -> socket.socket:  # type: ignore[override]
        """Only the one counts."""
        return socket.fromfd(self.fileno(), self.family, self.type, self.proto)

    def hand_on(self, to: socket.socket) -> None:
        """C{to} counts instead."""
        told = self._tell.detach()
        if told is not None:
            weakref.finalize(to, told[1])

    def close(self) -> None:
        super().close()
        self._tell()


def hand_on(sock: socket.socket, to: socket.socket) -> None:
    """
    C{to} is the same connection as C{sock}, which is about to be closed: if that one counts, C{to}
    does from now on, until it is forgotten.
    """
    if isinstance(sock, _Counted):
        sock.hand_on(to)


def _unmapped(network: Network) -> Network:
    """An IPv4 network that is written as one of IPv6 (C{::ffff:192.0.2.0/120})."""
    mapped = network.network_address
    if isinstance(mapped, ipaddress.IPv6Address) and network.prefixlen >= 96:
        inner = mapped.ipv4_mapped
        if inner is not None:
            return ipaddress.IPv4Network((inner, network.prefixlen - 96))
    return network
