"""
The server's heart: who is registered, which sessions there are, and who may open one.

It knows neither sockets nor WebSockets; L{Peer}s and the relay come to it.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from msgspec import UNSET, UnsetType, structs
from twisted.internet.interfaces import IReactorTime

from ..events import Events
from ..wire import messages
from ..wire.messages import Code, Exposure, Service
from .peer import Peer
from .registry import Owners, Registry
from .sessions import Sessions


class PublicSide(Protocol):
    """What the broker tells of clients whose services are public."""

    def exposures_changed(self, peer: Peer, exposures: Iterable[Exposure]) -> None:
        """C{peer} has these services opened, and no others."""

    def client_left(self, peer: Peer) -> None:
        """C{peer}'s login is over."""


class Broker:
    """
    @ivar token: what lets one in; C{None} for an open server.
    @ivar ws_path: where legs over WebSockets are to be had, C{None} for nowhere.
    @ivar relay_port: the number that clients dial; known once the relay listens.
    @ivar public: who opens services for the public, if anybody does.
    @ivar events: C{client_online}, C{client_offline}, C{service_online}, C{service_offline} of
        those that are listed, C{session_opened}, C{session_closed}, C{session_refused},
        C{login_refused}.
    @ivar going_away: the server is about to end, and takes no new sessions.
    @ivar service_health_changed: each is called with a peer and the id of a service of its, which
        has become healthy or is not any more.
    """

    def __init__(
        self,
        clock: IReactorTime,
        owners: Owners,
        *,
        token: str | None,
        public_host: str | None = None,
        max_clients: int = 10000,
        max_sessions: int = 10000,
        max_bytes_per_session: int = 0,
        session_timeout: float = 300.0,
        heartbeat_timeout: float = 45.0,
        ws_path: str | None = None,
    ) -> None:
        """@param token: C{None} for an open server."""
        self.clock = clock
        self.events = Events()
        self.going_away = False
        self.registry = Registry(owners, max_clients)
        self.sessions = Sessions(
            clock,
            self.relay_address,
            max_sessions,
            max_bytes_per_session,
            session_timeout,
            self.events,
        )
        self.relay_port = 0
        self.public: PublicSide | None = None
        self.ws_path = ws_path
        self.heartbeat_timeout = heartbeat_timeout
        self.token = token
        self.service_health_changed: list[Callable[[Peer, str], None]] = []
        self.public_host = public_host

    @property
    def is_open(self) -> bool:
        """Whether it lets in whoever comes."""
        return self.token is None

    def is_token(self, given: str | UnsetType) -> bool:
        """Whether C{given} lets one in; takes the same time whatever it is."""
        if self.token is None:
            return True
        if given is UNSET:
            return False
        return hmac.compare_digest(str(given).encode("utf-8", "replace"), self.token.encode())

    def relay_address(self, peer: Peer) -> messages.RelayAddress:
        """Where C{peer} is to dial the relay: it got to the control port, so the same host."""
        host = peer.dialled_host if peer.public else self.public_host or peer.dialled_host
        return messages.RelayAddress(host=host, port=self.relay_port)

    def leave(self, peer: Peer) -> None:
        """C{peer}'s connection is closed, or it has unregistered; once is enough."""
        if not peer.gone:
            peer.gone = True
            listed = peer.client_id is not None and not peer.transient
            self.registry.remove(peer)
            self.sessions.client_left(peer)
            if listed and self.registry.find(peer.name) is None:
                self._services_changed(peer, peer.services, {})
                self.events.fire("client_offline", client=peer.name, address=peer.address)
            if self.public is not None:
                self.public.client_left(peer)

    def expose(self, peer: Peer, exposures: Iterable[Exposure]) -> None:
        """These of the services of C{peer} are to be public."""
        if self.public is not None and not peer.transient:
            self.public.exposures_changed(peer, exposures)

    def displace(self, peer: Peer) -> None:
        """A newer login of the same identity has C{peer}'s place."""
        peer.error(Code.ID_IN_USE, f"a newer login of the same identity took over {peer.name}")
        self.leave(peer)
        peer.close()

    def came(self, peer: Peer, before: Mapping[str, Service] | None) -> None:
        """
        C{peer} is listed, with the services that it has now.

        @param before: those that it, or the login whose place it took, had; C{None}: it is new.
        """
        if before is None:
            self.events.fire("client_online", client=peer.name, address=peer.address)
        self._services_changed(peer, before or {}, peer.services)

    def update_services(
        self, peer: Peer, services: dict[str, Service], exposures: tuple[Exposure, ...]
    ) -> None:
        """C{peer} offers these from now on; sessions of those that are as they were go on."""
        before = peer.services
        peer.services = {
            name: _as_healthy_as(service, before.get(name)) for name, service in services.items()
        }
        gone = [name for name, old in before.items() if not _same(old, services.get(name))]
        self.sessions.withdrawn(peer, gone)
        self._services_changed(peer, before, peer.services)
        self.expose(peer, exposures)

    def go_away(self, seconds: float) -> None:
        """The server ends in at most C{seconds}: no new sessions."""
        self.going_away = True
        for peer in self.registry.everyone():
            peer.send(messages.GoingAway(seconds=seconds))

    def _services_changed(
        self, peer: Peer, before: Mapping[str, Service], after: Mapping[str, Service]
    ) -> None:
        for event, services, others in (
            ("service_offline", before, after),
            ("service_online", after, before),
        ):
            for service in services.values():
                if service.id not in others:
                    self.events.fire(
                        event, client=peer.name, service=service.id, protocol=service.protocol
                    )

    def health_changed(self, peer: Peer, report: messages.ServiceHealth) -> None:
        """C{peer} says how one of its services is; of one that it has not any more, too late."""
        service = peer.services.get(report.service_id)
        if service is None or (service.healthy is not False) == report.healthy:
            return
        peer.services[service.id] = structs.replace(service, healthy=report.healthy)
        for changed in self.service_health_changed:
            changed(peer, service.id)

    def registered(self, peer: Peer) -> messages.RegisterResponse:
        """What C{peer} is told when it has registered."""
        return messages.RegisterResponse(
            success=True,
            assigned_id=peer.name,
            relay=self.relay_address(peer),
            heartbeat_timeout=self.heartbeat_timeout,
            ws_path=UNSET if self.ws_path is None else self.ws_path,
        )

    def client_list(self) -> messages.ClientList:
        """Everybody who is registered, by name."""
        return messages.ClientList(
            clients=tuple(
                messages.ClientEntry(
                    id=peer.name, status="online", services=tuple(peer.services.values())
                )
                for peer in sorted(self.registry, key=lambda peer: peer.name)
            )
        )

    def connect(self, visitor: Peer, request: messages.ConnectRequest) -> tuple[Code, str] | None:
        """
        C{visitor} wants a session.

        @return: why not, or C{None}: the provider is being asked.
        """
        if self.going_away:
            return Code.INTERNAL, "the server is ending; try again later"
        found = self._offered(request)
        if not isinstance(found, Peer):
            return found
        provider, target = found, found.name
        service = provider.services[request.service_id]
        if service.mode == "link" and visitor.fingerprint is None:
            return (
                Code.FORBIDDEN,
                f"{target} offers {service.id} over links only, and a link needs an identity at "
                "both ends: register with one",
            )
        if service.mode == "link" and request.mode != "link":
            return (
                Code.FORBIDDEN,
                f"{target} offers {service.id} over links only: a visitor that can do them says "
                'mode "link"',
            )
        if self.sessions.full:
            return (
                Code.SESSION_LIMIT,
                f"the server has its max_sessions = {self.sessions.max_sessions}; try again later",
            )
        self.sessions.open(visitor, provider, service, request)
        return None

    def _offered(self, request: messages.ConnectRequest) -> Peer | tuple[Code, str]:
        """@return: who is to provide the service, or why nobody can."""
        wanted, target = request.service_id, request.to_client_id
        if target is UNSET:
            offering = [peer for peer in self.registry if peer.provides(wanted)]
            if not offering and any(wanted in peer.services for peer in self.registry):
                return Code.CLIENT_OFFLINE, f"whoever offers {wanted} says that it is not healthy"
            if not offering:
                return Code.UNKNOWN_SERVICE, f"no client that is online offers a service {wanted}"
            busy = Counter(session.provider for session in self.sessions)
            return min(offering, key=lambda peer: (busy[peer], peer.name))
        provider = self.registry.find(str(target))
        if provider is None:
            if self.registry.is_known(str(target)):
                return Code.CLIENT_OFFLINE, f"{target} is not online"
            return Code.UNKNOWN_CLIENT, f"there is no client {target}"
        if wanted not in provider.services:
            return Code.UNKNOWN_SERVICE, f"{target} offers no service {wanted}"
        if not provider.provides(wanted):
            return Code.CLIENT_OFFLINE, f"{target}'s health check of {wanted} fails"
        return provider


def _same(old: Service, new: Service | None) -> bool:
    """Whether sessions can go on when C{new} is offered instead of C{old}."""
    if new is None:
        return False
    return structs.replace(old, description=None, healthy=UNSET) == structs.replace(
        new, description=None, healthy=UNSET
    )


def _as_healthy_as(service: Service, before: Service | None) -> Service:
    """What its health check said last still holds, if it says nothing new."""
    if before is None or service.healthy is not UNSET:
        return service
    return structs.replace(service, healthy=before.healthy)
