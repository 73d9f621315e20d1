"""
The server's heart: who is registered, which sessions there are, and who may open one.

It knows neither sockets nor WebSockets; L{Peer}s and the relay come to it.
"""

from __future__ import annotations

from msgspec import UNSET, UnsetType
from twisted.internet.interfaces import IReactorTime

from ..wire import messages
from ..wire.messages import Code
from .peer import Peer, same_token
from .registry import Owners, Registry
from .sessions import Sessions


class Broker:
    """
    @ivar relay_port: the number that clients dial; known once the relay listens.
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
    ) -> None:
        """@param token: C{None} for an open server."""
        self.clock = clock
        self.registry = Registry(owners, max_clients)
        self.sessions = Sessions(
            clock, self.relay_address, max_sessions, max_bytes_per_session, session_timeout
        )
        self.relay_port = 0
        self.heartbeat_timeout = heartbeat_timeout
        self._token = token
        self._public_host = public_host
        self._peers: dict[Peer, str] = {}

    @property
    def is_open(self) -> bool:
        """Whether it lets in whoever comes."""
        return self._token is None

    def is_token(self, given: str | UnsetType) -> bool:
        """Whether C{given} lets one in."""
        if self._token is None:
            return True
        return given is not UNSET and same_token(str(given), self._token)

    def token_text(self, given: str | UnsetType) -> str:
        """The token as it stands in a login statement."""
        return self._token or ""

    def relay_address(self, peer: Peer) -> messages.RelayAddress:
        """Where C{peer} is to dial the relay: it got to the control port, so the same host."""
        host = self._public_host or peer.dialled_host
        return messages.RelayAddress(host=host, port=self.relay_port)

    def connected(self, peer: Peer, address: str) -> None:
        """A control connection is open."""
        self._peers[peer] = address

    def describe(self, peer: Peer) -> str:
        """The address C{peer} comes from, for the log."""
        return self._peers.get(peer, "?")

    def left(self, peer: Peer) -> None:
        """It is closed, or has unregistered."""
        self._peers.pop(peer, None)
        self.registry.remove(peer)
        self.sessions.client_left(peer)

    def registered(self, peer: Peer) -> messages.RegisterResponse:
        """What C{peer} is told when it has registered."""
        return messages.RegisterResponse(
            success=True,
            assigned_id=peer.name,
            relay=self.relay_address(peer),
            heartbeat_timeout=self.heartbeat_timeout,
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
        target = request.to_client_id
        provider = self.registry.find(target)
        if provider is None:
            if self.registry.is_known(target):
                return Code.CLIENT_OFFLINE, f"{target} is not online"
            return Code.UNKNOWN_CLIENT, f"there is no client {target}"
        service = provider.services.get(request.service_id)
        if service is None:
            return Code.UNKNOWN_SERVICE, f"{target} offers no service {request.service_id}"
        if service.protocol == "udp":
            return Code.UNKNOWN_SERVICE, "udp services are not yet available on this server"
        if self.sessions.full:
            return (
                Code.SESSION_LIMIT,
                f"the server has its max_sessions = {self.sessions.max_sessions}; try again later",
            )
        self.sessions.open(visitor, provider, service, request)
        return None
