"""
Where this client may be reached without the relay, for one attempt: its own addresses, where
reflectors see its sockets, and what the router was asked for.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError

from ..ends.resolve import addresses_of
from ..interfaces import IReactor
from ..nat import quic
from ..nat.classify import NatKind, classify, next_places
from ..nat.guessing import Policy
from ..nat.interfaces import local_address_towards, local_addresses
from ..nat.reflection import Reflection, ask
from ..nat.tcpopen import share_port
from ..nat.tcpreflection import TCPReflection, reusable
from ..wire.messages import Candidate, RelayAddress
from .mapping import Mapping, Mappings

#: Candidates of one protocol that are known, and of all that are offered, predicted ones too.
MOST = 6
MOST_IN_ALL = 16
#: Where only a mapped port helps for certain, so that the router is waited for.
_DIFFICULT = {NatKind.HARD.value, NatKind.BLOCKED.value}


class Offer:
    """
    See L{relaytun.client.direct.Gathered}.  It owns the sockets and the mapped ports.

    @ivar asked: reflectors were, so that C{nat} is what they told.
    @ivar udp: the socket that the reflectors have seen.
    @ivar udp6: the one of IPv6: in front of it is no NAT, so that nobody is asked.
    @ivar tcp_port: the IPv4 port; 0 if there is none.
    @ivar tcp6_port: the IPv6 one.
    """

    def __init__(self) -> None:
        self.candidates: tuple[Candidate, ...] = ()
        self.nat = NatKind.BLOCKED.value
        self.hard_nat: Policy = "no"
        self.rtt = 0.0
        self.quic = quic.AVAILABLE
        self.asked = False
        self.udp: socket.socket | None = None
        self.udp6: socket.socket | None = None
        self.tcp_port = self.tcp6_port = 0
        self.mappings: dict[str, Mapping] = {}
        self._reflection: TCPReflection | None = None
        self._held: list[socket.socket] = []

    def take_udp(self) -> list[socket.socket]:
        """The sockets that there are, of IPv4 and of IPv6, are the caller's from now on."""
        taken = [sock for sock in (self.udp, self.udp6) if sock is not None]
        self.udp = self.udp6 = None
        return taken

    def take_mapping(self, protocol: str) -> Mapping | None:
        """The mapped port, if there is one, is the caller's from now on."""
        return self.mappings.pop(protocol, None)

    def hold_tcp(self) -> None:
        """Have a TCP port where no reflector is asked."""
        self._held.append(reusable("0.0.0.0"))
        self.tcp_port = self._held[-1].getsockname()[1]

    def hold_ipv6(self) -> None:
        """Have ports of IPv6, too, if there is any here."""
        with suppress(OSError):
            sock = only_ipv6()
            self._held.append(sock)
            share_port(sock)
            sock.bind(("::", 0))
            self.tcp6_port = sock.getsockname()[1]
            self.udp6 = only_ipv6(kind=socket.SOCK_DGRAM)
            self.udp6.setblocking(False)
            self.udp6.bind(("::", 0))

    def reflect_tcp(self, reactor: IReactor, places: Sequence[tuple[str, int]]) -> TCPReflection:
        """Have a TCP port, and reflectors tell how it is seen."""
        self._reflection = TCPReflection(reactor, places)
        self.tcp_port = self._reflection.port
        return self._reflection

    def close(self) -> None:
        """See L{relaytun.client.direct.Gathered}."""
        for sock in (*self.take_udp(), *self._held):
            sock.close()
        self._held.clear()
        if self._reflection is not None:
            self._reflection.close()
        mappings, self.mappings = self.mappings, {}
        for mapping in mappings.values():
            mapping.release()


class Gathering:
    """Makes them."""

    def __init__(
        self,
        reactor: IReactor,
        reflectors: Callable[[], Sequence[RelayAddress]],
        mappings: Mappings | None,
        lan_only: bool,
        hard_nat: Policy,
    ) -> None:
        """
        @param mappings: of the router's ports, if that is to be asked for any.
        @param lan_only: whether only this client's own addresses are wanted.
        @param hard_nat: what this client lets be guessed; the ports that a hard NAT will give next
            are offered only if that is allowed.
        """
        self._reactor = reactor
        self._reflectors = reflectors
        self._mappings = mappings
        self._lan_only = lan_only
        self._hard_nat: Policy = "no" if lan_only else hard_nat

    async def offer(self) -> Offer:
        """Find out where this client may be reached."""
        offer = Offer()
        offer.hard_nat = self._hard_nat
        try:
            await self._fill(offer)
        except BaseException:
            offer.close()
            raise
        return offer

    async def _fill(self, offer: Offer) -> None:
        places = [] if self._lan_only else await self._places()
        began = self._reactor.seconds()
        offer.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        offer.udp.setblocking(False)
        offer.udp.bind(("0.0.0.0", 0))
        udp_port, udp6_port = offer.udp.getsockname()[1], 0
        local = local_addresses()
        predicted: list[tuple[str, int]] = []
        seen, seen_tcp = Reflection(), Reflection()
        if any(":" in host for host in local):
            offer.hold_ipv6()
        if offer.udp6 is not None:
            udp6_port = offer.udp6.getsockname()[1]
        if places:
            reflection = offer.reflect_tcp(self._reactor, places)
            self._ask_router(offer, udp_port)
            seen = await ask(self._reactor, offer.udp, places)
            seen_tcp = await reflection.done
            here = local_address_towards(places[0][0]) or "0.0.0.0"
            nat = classify((here, udp_port), seen.external)
            offer.asked = True
            offer.nat = nat.kind.value
            if offer.hard_nat != "no" and seen.external:
                predicted = next_places(nat, seen.external[-1])
            offer.rtt = min(60.0, seen.rtt or seen_tcp.rtt or 0.0)
        else:
            offer.hold_tcp()
            self._ask_router(offer, udp_port)
        for mapping in list(offer.mappings.values()):
            passed = self._reactor.seconds() - began
            await mapping.within(self._patience(offer) - passed)
        known = (
            *_candidates("tcp", _hosts(local, offer.tcp_port, offer.tcp6_port), seen_tcp, offer),
            *_candidates("udp", _hosts(local, udp_port, udp6_port), seen, offer),
        )
        guessed = (
            Candidate(kind="predicted", protocol="udp", address=host, port=port)
            for host, port in predicted
        )
        offer.candidates = (*known, *guessed)[:MOST_IN_ALL]

    def _ask_router(self, offer: Offer, udp_port: int) -> None:
        if self._mappings is None:
            return
        for protocol, port in (("udp", udp_port), ("tcp", offer.tcp_port)):
            mapping = self._mappings.ask(protocol, port) if port else None
            if mapping is not None:
                offer.mappings[protocol] = mapping

    def _patience(self, offer: Offer) -> float:
        """Seconds for which the router is waited for."""
        if self._mappings is None or not (self._mappings.known or offer.nat in _DIFFICULT):
            return 0.0  # It may do without, and meanwhile one learns whether the router answers.
        return self._mappings.patience

    async def _places(self) -> list[tuple[str, int]]:
        places: list[tuple[str, int]] = []
        for each in self._reflectors():
            with suppress(DNSLookupError):
                found = await addresses_of(self._reactor, each.host)
                places += [(host, each.port) for family, host in found if ":" not in host][:1]
        return places


def gathered(gathering: Gathering) -> Deferred[Offer]:
    """Begin."""
    return Deferred.fromCoroutine(gathering.offer())


def only_ipv6(family: int = socket.AF_INET6, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket that has nothing to do with IPv4, so that another one can have that port."""
    sock = socket.socket(family, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _hosts(local: Sequence[str], port: int, port6: int) -> list[tuple[str, int]]:
    """Own addresses, each with the port of its family."""
    return [(host, port6 if ":" in host else port) for host in local]


def _candidates(
    protocol: str, hosts: Sequence[tuple[str, int]], seen: Reflection, offer: Offer
) -> tuple[Candidate, ...]:
    """Own addresses, where reflectors see them, and the router's port, each place once."""
    kinds: dict[tuple[str, int], str] = {}
    mapping = offer.mappings.get(protocol)
    if mapping is not None and mapping.mapped is not None:
        kinds[mapping.mapped.place] = "mapped"
    for place in seen.external:
        kinds.setdefault(place, "reflexive")
    own = [place for place in hosts if place[1]]
    for place in own[: MOST - len(kinds)]:
        kinds.setdefault(place, "host")
    return tuple(
        Candidate(kind=kind, protocol=protocol, address=place[0], port=place[1])  # type: ignore[arg-type]
        for place, kind in sorted(kinds.items(), key=lambda item: item[1])
    )
