"""
The server's heart: who is registered, which sessions there are, and who may open one.

It knows neither sockets nor WebSockets; L{Peer}s and the relay come to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Protocol

from msgspec import UNSET, structs
from twisted.internet.interfaces import IReactorTime

from ..events import Events
from ..wire import messages
from ..wire.messages import Code, Exposure, Service
from .meetings import Meetings
from .peer import Peer
from .registry import Owners, Registry
from .sessions import Sessions
from .users import Users, UserSettings


class PublicSide(Protocol):
    """What the broker tells of clients whose services are public."""

    def exposures_changed(self, peer: Peer, exposures: Iterable[Exposure]) -> None:
        """C{peer} has these services opened, and no others."""

    def client_left(self, peer: Peer) -> None:
        """C{peer}'s login is over."""

    def users_changed(self) -> None:
        """Users may have other things than before, or are users no more."""


class Broker:
    """
    @ivar users: who may come, and what he may do.
    @ivar ws_path: where legs over WebSockets are to be had, C{None} for nowhere.
    @ivar relay_port: the number that clients dial; known once the relay listens.
    @ivar reflector_port: the number of the reflector's own port, known once it listens; 0: there
        is no reflector.
    @ivar reflector_host: where that is, if not where the relay is.
    @ivar public: who opens services for the public, if anybody does.
    @ivar events: C{client_online}, C{client_offline}, C{service_online}, C{service_offline} of
        those that are listed, C{session_opened}, C{session_closed}, C{session_refused},
        C{login_refused}.
    @ivar going_away: the server is about to end, and takes no new sessions.
    """

    def __init__(
        self,
        clock: IReactorTime,
        owners: Owners,
        *,
        token: str | None,
        users: Iterable[UserSettings] = (),
        public_host: str | None = None,
        max_clients: int = 10000,
        max_sessions: int = 10000,
        max_bytes_per_session: int = 0,
        session_timeout: float = 300.0,
        heartbeat_timeout: float = 45.0,
        ws_path: str | None = None,
    ) -> None:
        """
        @param token: C{None} for an open server.
        @param users: those who have a token of their own.
        """
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
        self.meetings = Meetings(clock, self.sessions)
        self.relay_port = 0
        self.reflector_port = 0
        self.reflector_host: str | None = None
        self.public: PublicSide | None = None
        self.ws_path = ws_path
        self.heartbeat_timeout = heartbeat_timeout
        self.users = Users(clock, users, token)
        self.public_host = public_host

    @property
    def token(self) -> str | None:
        """The server's own token, C{None} for an open server; a new one is for who comes."""
        return self.users.token

    @token.setter
    def token(self, token: str | None) -> None:
        self.users.use_token(token)

    @property
    def is_open(self) -> bool:
        """Whether it lets in whoever comes."""
        return self.token is None

    def relay_address(self, peer: Peer) -> messages.RelayAddress:
        """Where C{peer} is to dial the relay: it got to the control port, so the same host."""
        host = peer.dialled_host if peer.public else self.public_host or peer.dialled_host
        return messages.RelayAddress(host=host, port=self.relay_port)

    def reflectors(self, peer: Peer) -> tuple[messages.RelayAddress, ...]:
        """Where C{peer} can ask how it is seen: on the relay port, and beside it."""
        if not self.reflector_port:
            return ()
        relay = self.relay_address(peer)
        beside = self.reflector_host or relay.host, self.reflector_port
        return tuple(
            messages.RelayAddress(host=host, port=port, protocol="udp")
            for host, port in ((relay.host, relay.port), beside)
            if port
        )

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

    def health_changed(self, peer: Peer, report: messages.ServiceHealth) -> None:
        """C{peer} says how one of its services is; of one that it has not any more, too late."""
        service = peer.services.get(report.service_id)
        if service is None or (service.healthy is not False) == report.healthy:
            return
        peer.services[service.id] = structs.replace(service, healthy=report.healthy)
        event = "service_online" if report.healthy else "service_offline"
        self.events.fire(event, client=peer.name, service=service.id, protocol=service.protocol)

    def replace_users(self, users: Iterable[UserSettings]) -> None:
        """
        From now on there are these users.

        Whoever is here by a token that is nobody's any more has to go, with all that he has;
        what others may not have any more is ended.
        """
        self.users.replace(users)
        for peer in self.registry.everyone():
            user, why = peer.user, ""
            if user.revoked:
                why = "the token does not let anybody in any more"
            elif not peer.transient and not user.may_use_client_id(peer.name):
                why = f"user {user.name} may not register as {peer.name} any more"
            if why:
                self.sessions.forbid(peer)
                peer.error(Code.UNAUTHORIZED, why)
                peer.said_good_bye = True  # Nothing is kept for it.
                self.leave(peer)
                peer.close()
        self.sessions.rights_changed()
        if self.public is not None:
            self.public.users_changed()

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
        self.sessions.services_changed(peer)
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

    def registered(self, peer: Peer) -> messages.RegisterResponse:
        """What C{peer} is told when it has registered."""
        return messages.RegisterResponse(
            success=True,
            assigned_id=peer.name,
            relay=self.relay_address(peer),
            heartbeat_timeout=self.heartbeat_timeout,
            ws_path=UNSET if self.ws_path is None else self.ws_path,
            reflectors=self.reflectors(peer),
        )

    def client_list(self, asking: Peer | None = None) -> messages.ClientList:
        """
        Everybody who is registered, by name.

        @param asking: who wants to know: only of what he offers himself or may visit.
        """
        return messages.ClientList(
            clients=tuple(
                messages.ClientEntry(
                    id=peer.name,
                    status="online",
                    services=tuple(
                        service
                        for service in peer.services.values()
                        if asking in (None, peer) or asking.user.may_visit(peer.name, service.id)
                    ),
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
        found = self._offered(visitor, request)
        if not isinstance(found, Peer):
            return found
        provider, target = found, found.name
        refusal = self.refusal(visitor, provider, request.service_id)
        if refusal is not None:
            return refusal
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

    def refusal(self, visitor: Peer, provider: Peer, service_id: str) -> tuple[Code, str] | None:
        """@return: why C{visitor} may not have a session with this service now, if so."""
        if not visitor.user.may_visit(provider.name, service_id):
            return (
                Code.FORBIDDEN,
                f"user {visitor.user.name} may not visit {provider.name}/{service_id}",
            )
        for user in (visitor.user, provider.user):
            why = self.sessions.accounts.refusal(user)
            if why is not None:
                return Code.BYTE_LIMIT, why
        return None

    def _offered(self, visitor: Peer, request: messages.ConnectRequest) -> Peer | tuple[Code, str]:
        """@return: who is to provide the service, or why nobody can."""
        wanted, target = request.service_id, request.to_client_id
        if target is UNSET:
            there = [
                peer
                for peer in self.registry
                if wanted in peer.services and visitor.user.may_visit(peer.name, wanted)
            ]
            offering = [peer for peer in there if peer.provides(wanted)]
            if there and not offering:
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
    changeable = {
        "description": None, "healthy": UNSET, "bandwidth_up": UNSET, "bandwidth_down": UNSET
    }  # fmt: skip
    return structs.replace(old, **changeable) == structs.replace(new, **changeable)


def _as_healthy_as(service: Service, before: Service | None) -> Service:
    """What its health check said last still holds, if it says nothing new."""
    if before is None or service.healthy is not UNSET:
        return service
    return structs.replace(service, healthy=before.healthy)
