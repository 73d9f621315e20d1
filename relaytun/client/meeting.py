"""
How two clients meet on the network: by TCP and by UDP at once, the better way first.

TCP is tried from the very port that the reflectors have seen, UDP from the very socket; what UDP
finds carries QUIC, and the datagrams of a udp service.  Which of the connections leads to the other
client only the link's TLS tells.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from ..ends.directdatagrams import PunchedPath
from ..ends.directpath import Found, FoundPunched
from ..ends.legs import ClientSession
from ..ends.resolve import addresses_of
from ..errors import UserError
from ..interfaces import IReactor
from ..nat import quic
from ..nat.candidates import NoPath, first_hops
from ..nat.classify import NatKind, classify
from ..nat.guessing import Hard
from ..nat.interfaces import local_address_towards, local_addresses
from ..nat.path import UdpPath
from ..nat.punching import UdpPunch
from ..nat.reflection import Reflection, ask
from ..nat.sharing import Share, SharedPath
from ..nat.tcpopen import TcpOpen
from ..nat.tcpreflection import TCPReflection, reusable
from ..plane.accept import close_in_order, prepare, reset
from ..plane.pair import is_broken, pair
from ..wire.messages import Candidate, MeetingAnswer, MeetingOffer, RelayAddress
from ..wire.punch import session_of
from .direct import Direct, Gathered

#: Seconds that a UDP path waits for a TCP connection, which is the better one.
TCP_FIRST = 0.3
#: Candidates of one protocol.
_MOST = 8
_LOCAL = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)


class NoDirectPath(UserError):
    """The text says why there is none."""


class Meetings:
    """
    Makes the direct paths of a client's links: see L{relaytun.ends.directpath.Directs}.

    @ivar reflectors: of the servers that the client is signed in at.
    """

    def __init__(
        self,
        reactor: IReactor,
        reflectors: Callable[[], Sequence[RelayAddress]],
        lan_only: bool,
        hard_nat: str,
    ) -> None:
        """
        @param reflectors: gives those of a server that the client is signed in at.
        @param lan_only: whether only paths within one network are looked for.
        @param hard_nat: C{no}, C{predict} or C{birthday}.
        """
        self._network = ClientNetwork(reactor, reflectors, lan_only, hard_nat)
        self._reactor = reactor

    def make(
        self,
        visitor: bool,
        session: Callable[[], ClientSession | None],
        found: Found,
        punched: FoundPunched | None = None,
    ) -> Direct:
        """See L{relaytun.ends.directpath.Directs}."""
        return Direct(self._reactor, self._network, visitor, session, found, punched=punched)


class _Offer:
    """
    See L{Gathered}.

    @ivar udp: the socket that the reflectors have seen.
    @ivar tcp: keeps what the router has assigned to the TCP port.
    @ivar external: where the first reflector sees the UDP socket.
    """

    def __init__(self) -> None:
        self.candidates: tuple[Candidate, ...] = ()
        self.nat = "blocked"
        self.step = 0
        self.rtt = 0.0
        self.quic = quic.AVAILABLE
        self.udp: socket.socket | None = None
        self.tcp: TCPReflection | None = None
        self.tcp_port = 0
        self._held: socket.socket | None = None

    def hold(self, port: socket.socket) -> None:
        """Keep the TCP port ours where no reflector was asked."""
        self._held = port
        self.tcp_port = port.getsockname()[1]

    def take_udp(self) -> socket.socket | None:
        """The socket is the caller's from now on."""
        udp, self.udp = self.udp, None
        return udp

    def close(self) -> None:
        """See L{Gathered}."""
        for sock in (self.udp, self._held):
            if sock is not None:
                sock.close()
        self.udp = self._held = None
        if self.tcp is not None:
            self.tcp.close()


class ClientNetwork:
    """See L{relaytun.client.direct.Network}."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        reflectors: Callable[[], Sequence[RelayAddress]],
        lan_only: bool,
        hard_nat: str,
    ) -> None:
        self._reactor = reactor
        self._reflectors = reflectors
        self._lan_only = lan_only
        self._hard_nat = hard_nat

    def gather(self) -> Deferred[Gathered]:
        """See L{relaytun.client.direct.Network}."""
        return Deferred.fromCoroutine(self._gather())

    def meet(
        self,
        ours: Gathered,
        theirs: MeetingOffer | MeetingAnswer,
        key: bytes,
        visitor: bool,
        found: Found,
        punched: Callable[[PunchedPath], None] | None,
    ) -> Deferred[None]:
        """See L{relaytun.client.direct.Network}."""
        assert isinstance(ours, _Offer)
        meeting = _Meeting(
            self._reactor, ours, theirs, key, visitor, found, punched, self._hard_nat
        )
        return meeting.start()

    async def _gather(self) -> Gathered:
        offer = _Offer()
        try:
            await self._fill(offer)
        except BaseException:
            offer.close()
            raise
        return offer

    async def _fill(self, offer: _Offer) -> None:
        places = [] if self._lan_only else await self._places()
        local = [each for each in local_addresses() if ":" not in each]
        offer.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        offer.udp.setblocking(False)
        offer.udp.bind(("0.0.0.0", 0))
        udp_port = offer.udp.getsockname()[1]
        seen, seen_tcp = Reflection(), Reflection()
        if places:
            offer.tcp = TCPReflection(self._reactor, places)
            offer.tcp_port = offer.tcp.port
            seen = await ask(self._reactor, offer.udp, places)
            seen_tcp = await offer.tcp.done
            here = local_address_towards(places[0][0]) or "0.0.0.0"
            nat = classify((here, udp_port), seen.external)
            offer.nat, offer.step = nat.kind.value, nat.step
            offer.rtt = min(60.0, seen.rtt or seen_tcp.rtt or 0.0)
        else:
            offer.hold(reusable("0.0.0.0"))
        udp = _candidates("udp", [(host, udp_port) for host in local], seen)
        tcp = _candidates("tcp", [(host, offer.tcp_port) for host in local], seen_tcp)
        offer.candidates = (*tcp, *udp)

    async def _places(self) -> list[tuple[str, int]]:
        places: list[tuple[str, int]] = []
        for each in self._reflectors():
            with suppress(DNSLookupError):
                found = await addresses_of(self._reactor, each.host)
                places += [(host, each.port) for family, host in found if ":" not in host][:1]
        return places


class _Meeting:
    """One attempt of one side."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        ours: _Offer,
        theirs: MeetingOffer | MeetingAnswer,
        key: bytes,
        visitor: bool,
        found: Found,
        datagrams: Callable[[PunchedPath], None] | None,
        hard_nat: str,
    ) -> None:
        self._reactor = reactor
        self._ours = ours
        self._theirs = theirs
        self._key = key
        self._visitor = visitor
        self._found = found
        self._datagrams = datagrams
        self._hard_nat = hard_nat
        self._done: Deferred[None] = Deferred(lambda _: self._stop())
        self._tcp: TcpOpen | None = None
        self._punch: UdpPunch | None = None
        self._path: Share | None = None
        self._handed = False
        self._waiting: IDelayedCall | None = None
        self._proving = 0
        self._left = 0
        self._why = "no way was found"
        self._won = False

    def start(self) -> Deferred[None]:
        """Begin."""
        self._left = 2
        self._with_quic = self._theirs.quic and quic.AVAILABLE
        tcp = self._of("tcp")
        if tcp and self._ours.tcp_port:
            local = "0.0.0.0", self._ours.tcp_port
            self._tcp = TcpOpen(self._reactor, local, tcp, self._connected)
            self._tcp.start().addBoth(self._way_over)
        else:
            self._way_over(None)
        sock = self._ours.take_udp()
        udp = self._of("udp")
        if sock is not None and udp and (self._with_quic or self._datagrams is not None):
            session = session_of(
                bytes.fromhex(self._theirs.session_id), self._theirs.attempt.to_bytes(8, "big")
            )
            self._punch = UdpPunch(
                self._reactor,
                sock,
                self._key,
                session,
                self._visitor,
                udp,
                hard=self._hard(),
                first_hops=first_hops(self._theirs.attempt),
            )
            self._punch.start().addCallbacks(self._punched, self._way_over)
        else:
            if sock is not None:
                sock.close()
            self._way_over(None)
        return self._done

    def _of(self, protocol: str) -> list[tuple[str, int]]:
        return [
            (each.address, each.port)
            for each in self._theirs.candidates
            if each.protocol == protocol
        ][:_MOST]

    def _hard(self) -> Hard | None:
        """What is to be guessed, if exactly one side is behind a hard NAT."""
        hard = NatKind.HARD.value
        mine, other = self._ours.nat == hard, self._theirs.nat == hard
        reflexive = [
            (each.address, each.port)
            for each in self._theirs.candidates
            if each.protocol == "udp" and each.kind == "reflexive"
        ]
        if mine == other or not reflexive or self._hard_nat == "no":
            return None
        step = self._ours.step if mine else self._theirs.step
        return Hard(mine, reflexive[-1], step, self._hard_nat)  # type: ignore[arg-type]

    def _connected(self, sock: socket.socket) -> None:
        """A TCP connection to somebody."""
        prepare(sock)
        host = sock.getpeername()[0]
        self._prove(sock, "lan" if _is_local(host) else "tcp-direct")

    def _punched(self, path: UdpPath) -> None:
        shared = SharedPath(path)
        if self._datagrams is not None:
            self._handed = True
            self._datagrams(shared.sealed)
        else:
            shared.sealed.close()
        self._path = shared.quic
        if self._won or not self._with_quic:
            self._leave_path()
        else:
            self._waiting = self._reactor.callLater(TCP_FIRST, self._carry, shared.quic)

    def _leave_path(self) -> None:
        """No QUIC over it."""
        path, self._path = self._path, None
        if self._waiting is not None and self._waiting.active():
            self._waiting.cancel()
        if path is not None:
            path.close()
            self._way_over(None)

    def _carry(self, path: Share) -> None:
        """A UDP path is there, and no TCP connection."""
        near, far = pair()
        pipe = quic.QuicPipe(
            self._reactor,
            path.send,
            far,
            client=self._visitor,
            key=self._key,
            close_in_order=close_in_order,
            reset=reset,
            is_broken=is_broken,
        )
        path.received = pipe.received
        path.lost = pipe.close

        def over(result: Any) -> None:
            path.close()

        pipe.closed.addBoth(over)
        pipe.start()
        self._path = None
        self._prove(near, "quic")
        self._way_over(None)

    def _prove(self, sock: socket.socket, path: str) -> None:
        self._proving += 1
        self._found(sock, path).addBoth(self._proved, sock)

    def _proved(self, result: Any, sock: socket.socket) -> None:
        self._proving -= 1
        if result is True and not self._won:
            self._won = True
            if self._tcp is not None:
                self._tcp.stop(sock)
            self._leave_path()
            if self._punch is not None and self._datagrams is None:
                self._punch.stop()
        self._end_if_over()

    def _way_over(self, result: Any) -> None:
        self._left -= 1
        error = getattr(result, "value", None)
        if isinstance(error, NoPath):
            self._why = str(error)
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self._left or self._done.called or (self._proving and not self._won):
            return
        if self._won or (self._handed and not (self._tcp or self._with_quic)):
            self._done.callback(None)
        else:
            self._done.errback(NoDirectPath(self._why))

    def _stop(self) -> None:
        if self._tcp is not None:
            self._tcp.stop()
        if self._punch is not None:
            self._punch.stop()
        self._leave_path()


def _is_local(host: str) -> bool:
    """Whether an address is of a network of one's own (RFC 1918, RFC 4193)."""
    address = ipaddress.ip_address(host)
    return any(address in network for network in _LOCAL if network.version == address.version)


def _candidates(
    protocol: str, hosts: Sequence[tuple[str, int]], seen: Reflection
) -> tuple[Candidate, ...]:
    """Own addresses, and where reflectors see them, each place once."""
    kinds: dict[tuple[str, int], str] = {place: "host" for place in hosts}
    for place in seen.external:
        kinds[place] = "reflexive"
    return tuple(
        Candidate(kind=kind, protocol=protocol, address=place[0], port=place[1])  # type: ignore[arg-type]
        for place, kind in kinds.items()
        if place[1]
    )[:_MOST]
