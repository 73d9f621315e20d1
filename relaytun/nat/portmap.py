"""
Ports of the home's router that lead to ports of ours: PCP (RFC 6887), NAT-PMP (RFC 6886) where the
router does not know that, and UPnP where it is installed and wished for.

What is asked for is renewed when half of its time is over, and given back at the end.  A router
that answers none of it costs a second (and UPnP another one or two).  So UPnP comes first where its
router is found already (L{PortMapper.search}).

It says where a port is mapped to, and not whether somebody can reach it there: behind a second NAT
nobody outside can (L{MappedPort.private}).
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..interfaces import IReactor
from ..wire import natpmp, pcp
from .conversation import Conversation
from .gateway import default_gateway
from .interfaces import source_address

#: Seconds that a mapping is asked for.
LIFETIME = 600
#: A router may give less than it can renew; seconds between two questions at least.
SHORTEST = 5.0

#: What no host of the public Internet has: home networks and those of carriers.
_PRIVATE = [
    ipaddress.ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
        *("169.254.0.0/16", "127.0.0.0/8", "fc00::/7", "fe80::/10", "::1/128"),
    )
]


class NoMapping(Exception):
    """There is no port to be had; the text says why."""


@dataclass(frozen=True, slots=True)
class MappedPort:
    """
    @ivar host: the router's outer address.
    @ivar port: its port there.
    @ivar by: C{pcp}, C{natpmp} or C{upnp}.
    @ivar lifetime: seconds that it was given.
    """

    host: str
    port: int
    by: str
    lifetime: int

    @property
    def place(self) -> tuple[str, int]:
        """Where it is."""
        return self.host, self.port

    @property
    def private(self) -> bool:
        """
        Whether there is another NAT behind this one, so that only its other customers get there.
        """
        address = ipaddress.ip_address(self.host)
        return any(address in network for network in _PRIVATE)


class IUpnp(Protocol):
    """
    What maps ports by UPnP (L{relaytun.nat.upnp.Upnp}).

    @ivar ready: whether the router is found already; to find it takes long.
    """

    @property
    def ready(self) -> bool: ...

    def search(self) -> Deferred[bool]: ...

    def map(
        self, protocol: str, internal_port: int, external_port: int, lifetime: int
    ) -> Deferred[MappedPort]: ...

    def unmap(self, protocol: str, external_port: int) -> Deferred[None]: ...


Changed = Callable[[MappedPort | None], object]


class PortMapper:
    """All ports that this client has mapped."""

    def __init__(
        self,
        reactor: IReactor,
        gateway: Callable[[], str | None] = default_gateway,
        *,
        upnp: IUpnp | None = None,
        port: int = natpmp.PORT,
    ) -> None:
        """
        @param gateway: says where the router is, when a port is to be mapped.
        @param upnp: what is tried after the other protocols.
        @param port: where the router listens.
        """
        self._reactor = reactor
        self._gateway = gateway
        self._upnp = upnp
        self._port = port
        self._leases: set[_Lease] = set()
        self._closed = False

    def search(self) -> Deferred[bool]:
        """
        Find what takes long to be found, or find it again: the router that does UPnP.

        @return: whether there is one; it asks for nothing else.
        """
        return succeed(False) if self._upnp is None else self._upnp.search()

    def map(
        self,
        protocol: str,
        internal_port: int,
        lifetime: int = LIFETIME,
        changed: Changed = lambda _: None,
    ) -> Deferred[MappedPort]:
        """
        Have a port of the router's lead to one of this host's, until L{close}.

        @param protocol: C{udp} or C{tcp}.
        @param lifetime: seconds to ask for; it is renewed all the time.
        @param changed: called with the new place when a renewal brings another one, with C{None}
            when the mapping is lost; it is not asked for again then.
        @return: fails with L{NoMapping}; may be cancelled.
        """
        if self._closed:
            return fail(NoMapping("it is closed"))
        gateway = self._gateway()
        if gateway is None:
            return fail(NoMapping("there is no default gateway"))
        try:
            own = source_address(gateway)
            conversation = Conversation(self._reactor, gateway, self._port, own)
        except (OSError, CannotListenError) as error:
            return fail(NoMapping(f"the router cannot be reached: {error}"))
        lease = _Lease(self._reactor, conversation, protocol, internal_port, lifetime)
        lease.upnp = self._upnp
        lease.changed = changed
        lease.lost = lambda: self._leases.discard(lease)
        self._leases.add(lease)
        return lease.begin()

    def unmap(self, protocol: str, internal_port: int) -> Deferred[None]:
        """Give back what leads to that port, or stop asking for it; nothing, if there is none."""
        leases = [each for each in self._leases if each.leads_to(protocol, internal_port)]
        self._leases.difference_update(leases)
        return gatherResults([lease.close() for lease in leases]).addCallback(lambda _: None)

    def close(self) -> Deferred[None]:
        """Give everything back; fires when all sockets are closed."""
        self._closed = True
        leases, self._leases = self._leases, set()
        return gatherResults([lease.close() for lease in leases]).addCallback(lambda _: None)


class _Lease:
    """One mapping, from its first question on."""

    _log = Logger()

    upnp: IUpnp | None = None
    changed: Changed
    lost: Callable[[], None]

    def __init__(
        self,
        reactor: IReactorTime,
        conversation: Conversation,
        protocol: str,
        internal_port: int,
        lifetime: int,
    ) -> None:
        self._reactor = reactor
        self._conversation = conversation
        self._protocol = protocol
        self._internal = internal_port
        self._lifetime = lifetime
        self._nonce = secrets.token_bytes(pcp.NONCE_SIZE)
        self._mapped: MappedPort | None = None
        self._expires = 0.0
        self._asking: Deferred[Any] | None = None
        self._timer: IDelayedCall | None = None
        self._over = False
        #: How to give back what may have been given, by each way that was tried.
        self._give_back: dict[str, Callable[[], object]] = {}
        self._ways: list[Callable[[], Awaitable[MappedPort | str | None]]]
        self._ways = [self._by_pcp, self._by_natpmp, self._by_upnp]

    def leads_to(self, protocol: str, internal_port: int) -> bool:
        """Whether it is that port's."""
        return (protocol, internal_port) == (self._protocol, self._internal)

    def begin(self) -> Deferred[MappedPort]:
        """Get it for the first time."""
        if self.upnp is not None and self.upnp.ready:
            self._ways.insert(0, self._ways.pop())
        done = Deferred.fromCoroutine(self._obtain())
        self._asking = done

        def over(result: MappedPort | Failure) -> Any:
            self._asking = None
            if isinstance(result, Failure):
                self.lost()
                return self.close().addBoth(lambda _: result)
            return result

        return done.addBoth(over)

    def close(self) -> Deferred[None]:
        """Give it back.  A second time does nothing."""
        if self._over:
            return succeed(None)
        self._over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
        for give_back in self._give_back.values():
            give_back()
        return self._conversation.close()

    async def _obtain(self) -> MappedPort:
        why = "the router does not answer"
        for way in self._ways:
            answer = await way()
            if isinstance(answer, MappedPort):
                self._ways = [way]
                self._mapped = answer
                self._expires = self._reactor.seconds() + answer.lifetime
                self._renew_in(answer.lifetime / 2)
                return answer
            why = answer or why
        raise NoMapping(why)

    def _renew_in(self, seconds: float) -> None:
        self._timer = self._reactor.callLater(max(seconds, SHORTEST), self._renew)

    def _renew(self) -> None:
        before = self._mapped
        asking = self._asking = Deferred.fromCoroutine(self._obtain())
        asking.addCallbacks(self._renewed, self._failed, callbackArgs=(before,))
        asking.addErrback(lambda failure: self._log.failure("a renewal failed", failure))

    def _renewed(self, mapped: MappedPort, before: MappedPort) -> None:
        self._asking = None
        if mapped.place != before.place:
            self.changed(mapped)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        failure.trap(NoMapping)
        self._asking = None
        left = self._expires - self._reactor.seconds()
        if left > SHORTEST:
            self._renew_in(left / 2)
            return
        self._log.info(
            "the router's mapping of {protocol} port {port} is lost: {reason}",
            protocol=self._protocol,
            port=self._internal,
            reason=failure.getErrorMessage(),
        )
        self.lost()
        self.close()
        self.changed(None)

    # --- The ways: each returns what it got, or why not, or C{None} when nobody answers ----------

    async def _by_pcp(self) -> MappedPort | str | None:
        def packet(lifetime: int) -> bytes:
            return pcp.encode_mapping_request(
                self._nonce,
                self._conversation.own_address,
                self._protocol,
                self._internal,
                self._mapped.place if self._mapped and lifetime else None,
                lifetime,
            )

        def read(data: bytes) -> MappedPort | str | None:
            if data[:1] == b"\0":
                natpmp.decode(data)
                return "the router does not speak PCP"
            answer = pcp.decode(data)
            if isinstance(answer, pcp.Refusal):
                return pcp.reason(answer.code)
            theirs = answer.nonce, answer.protocol, answer.internal_port
            if theirs != (self._nonce, self._protocol, self._internal):
                return None
            if answer.code:
                return pcp.reason(answer.code)
            place = answer.external_address, answer.external_port
            return _granted(*place, "pcp", answer.lifetime)

        self._give_back["pcp"] = lambda: self._conversation.tell([packet(0)])
        return await self._conversation.ask([packet(self._lifetime)], read)

    async def _by_natpmp(self) -> MappedPort | str | None:
        wish = self._mapped.port if self._mapped else self._internal
        protocol, internal = self._protocol, self._internal
        addresses: list[natpmp.Address] = []
        mappings: list[natpmp.Mapping] = []

        def read(data: bytes) -> MappedPort | str | None:
            answer = natpmp.decode(data)
            if isinstance(answer, natpmp.Refusal):
                return answer.reason
            if isinstance(answer, natpmp.Address):
                addresses.append(answer)
            elif (answer.protocol, answer.internal_port) == (protocol, internal):
                mappings.append(answer)
            if not addresses or not mappings:
                return None
            mapping = mappings[-1]
            place = addresses[-1].address, mapping.external_port
            return _granted(*place, "natpmp", mapping.lifetime)

        packets = [
            natpmp.encode_address_request(),
            natpmp.encode_mapping_request(protocol, internal, wish, self._lifetime),
        ]
        no_more = natpmp.encode_mapping_request(protocol, internal, 0, 0)
        self._give_back["natpmp"] = lambda: self._conversation.tell([no_more])
        return await self._conversation.ask(packets, read)

    async def _by_upnp(self) -> MappedPort | str | None:
        upnp = self.upnp
        if upnp is None:
            return None
        wish = self._mapped.port if self._mapped else self._internal
        try:
            mapped = await upnp.map(self._protocol, self._internal, wish, self._lifetime)
        except NoMapping as error:
            return str(error)
        self._give_back["upnp"] = lambda: upnp.unmap(self._protocol, mapped.port)
        return mapped


def _granted(host: str, port: int, by: str, lifetime: int) -> MappedPort | str:
    """What an answer gives, if that is anything."""
    address = ipaddress.ip_address(host)
    if not port or not lifetime or address.is_unspecified or address.is_multicast:
        return "the router gives no place that could be reached"
    return MappedPort(host, port, by, lifetime)
