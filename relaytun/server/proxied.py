"""
The PROXY protocol in front of a listening port: connections that a load balancer passes on count
as those of who made them.

Peers in the configured networks have to send a header, everybody else must not: they are taken as
they are, and a header of theirs is what the port's protocol makes of it.  Exactly the header is
read, so the socket is for splicing as ever.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..plane.oneway import ReadOnly
from ..wire.errors import WireError
from ..wire.proxyprotocol import MAX_V2, HeaderReader
from .admission import Admission, Bucket

#: Seconds for the whole header: a balancer sends it at once.
HEADER_TIMEOUT = 5.0
#: Log lines about connections without one.
NOTES_PER_SECOND = 1.0

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ProxyProtocol:
    """For an L{Acceptor<relaytun.plane.accept.Acceptor>}: C{accepted} with the header read."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        networks: Sequence[_Network],
        accepted: Callable[[socket.socket, Any], None],
        admission: Admission | None = None,
    ) -> None:
        """
        @param networks: of the peers that have to send a header.
        @param accepted: gets each socket, and the address that the header tells, or the peer's
            own.
        """
        self.reactor = reactor
        self._networks = networks
        self._accepted = accepted
        self.admission = Admission() if admission is None else admission
        self._notes = Bucket(NOTES_PER_SECOND, reactor.seconds())
        self._waiting: set[_Reading] = set()

    def __call__(self, sock: socket.socket, address: Any) -> None:
        """A connection."""
        if not self._must_tell(address):
            self._accepted(sock, address)
            return
        reading = _Reading(self, sock, address)
        self._waiting.add(reading)
        reading.doRead()

    def stop(self) -> None:
        """Close what has not told yet."""
        for reading in list(self._waiting):
            reading.close()

    def told(self, reading: _Reading, sock: socket.socket, address: Any) -> None:
        """The header is read."""
        self._waiting.discard(reading)
        try:
            self._accepted(sock, address)
        except Exception:  # As in an acceptor: one that goes wrong must not cost others.
            self._log.failure("a connection was dropped")
            sock.close()

    def dropped(self, reading: _Reading, peer: str, why: str) -> None:
        """There is none."""
        self._waiting.discard(reading)
        if why and self._notes.allow(self.reactor.seconds()):
            self._log.warn(
                "{peer} is in proxy_protocol_from, and its connection was dropped: {why}",
                peer=peer,
                why=why,
            )

    def _must_tell(self, address: Any) -> bool:
        if not isinstance(address, tuple):
            return False
        peer = ipaddress.ip_address(address[0].partition("%")[0])
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self._networks)


@implementer(IReadDescriptor)
class _Reading(ReadOnly):
    """A connection whose header is not whole yet."""

    def __init__(self, port: ProxyProtocol, sock: socket.socket, address: Any) -> None:
        self._port = port
        self._sock = sock
        self._address = address
        self._reader = HeaderReader()
        self._place = port.admission.enter(address[0], self.close)
        self._deadline = port.reactor.callLater(
            HEADER_TIMEOUT, self.close, f"no PROXY header within {HEADER_TIMEOUT:.0f} s"
        )
        self._watched = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "proxied"

    def doRead(self) -> None:
        """Read what there is of the header, and not a byte more."""
        try:
            data = self._sock.recv(MAX_V2, socket.MSG_PEEK)
            if not data:
                self.close("it was closed before it told where it came from")
                return
            self._sock.recv(self._reader.feed(data))
        except BlockingIOError:
            pass
        except WireError as error:
            self.close(str(error))
            return
        except OSError:
            self.close()
            return
        header = self._reader.header
        if header is None:
            if not self._watched:
                self._watched = True
                self._port.reactor.addReader(self)
            return
        self._stop()
        address = self._address if header.source is None else header.source
        self._port.told(self, self._sock, address)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw it die."""
        self.close()

    def close(self, why: str = "") -> None:
        """Drop it."""
        self._stop()
        self._sock.close()
        self._port.dropped(self, self._address[0], why)

    def _stop(self) -> None:
        self._place.leave()
        if self._deadline.active():
            self._deadline.cancel()
        if self._watched:
            self._watched = False
            self._port.reactor.removeReader(self)
