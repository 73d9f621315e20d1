"""
The public side of the server::

    PublicSide
    |-- Vhosts            the ports for HTTP and HTTPS host names
    `-- Public            which services are public now, and at which ports and names
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.application.service import MultiService

from ...config import ServerConfig
from ...ends.machinery import Machinery
from ...interfaces import IReactor
from ...link.handshake import LinkTLS
from ...link.identity import Identity
from ...plane.carriers import CarrierPool
from ...plane.dial import Dialer
from ..admission import Admission
from ..broker import Broker
from ..door import Accepted, Door
from ..port import ListeningPort
from ..relay import Relay
from ..vhosts import Vhosts
from .claims import Claims
from .leases import Leases
from .openers import Openers
from .service import Public
from .visiting import Visiting


class PublicSide(MultiService):
    """Made from the configuration; L{use} takes another one."""

    def __init__(
        self,
        reactor: IReactor,
        config: ServerConfig,
        broker: Broker,
        relay: Relay,
        pool: CarrierPool,
        identity: Identity,
        admission: Admission,
        door: Door,
        observe: Callable[[int], None],
        control_and_relay: Callable[[], tuple[int, int]],
    ) -> None:
        """
        @param pool: for raw streams.
        @param identity: what the links of public visits show.
        @param observe: told of the status of each answer of the HTTP ports.
        @param control_and_relay: gives the numbers of the server's two ports.
        @raise UserError: if a file or a library cannot be used.
        """
        super().__init__()
        self._config = config
        self._broker = broker
        self._control_and_relay = control_and_relay
        self._vhosts = vhosts = Vhosts(
            reactor,
            config,
            admission,
            guarded=door.guarded,
            admitted=door.admitted,
            has_room=relay.room.for_visitors,
            observe=observe,
        )
        machinery = Machinery(
            reactor=reactor, dialer=Dialer(reactor), pool=pool, tls=LinkTLS(identity)
        )
        here = config.host if config.host not in ("0.0.0.0", "::") else "127.0.0.1"
        visiting = Visiting(broker, relay, machinery, identity.fingerprint, here)
        openers = Openers(
            reactor,
            config.host,
            machinery,
            relay.room,
            door.guarded,
            door.access.admits,
            vhosts.routes,
            vhosts.passed_through,
            lambda host: vhosts.bases(host, control_and_relay()[0]),
            lambda: vhosts.https_port(control_and_relay()[0]),
        )
        self._claims = Claims(
            Leases(reactor, config.state_dir / "leases.db"),
            openers.title,
            allow_ports=config.allow_ports,
            own_ports=self._own_ports,
            own_hosts=self._own_hosts,
            max_ports_per_client=config.max_ports_per_client,
            subdomain_host=config.subdomain_host,
            serves_http=vhosts.has_http,
            serves_tls=vhosts.has_https,
        )
        self._claims.names_changed = vhosts.names_changed
        self._public = broker.public = Public(reactor, visiting, self._claims)
        self._public.setServiceParent(self)
        vhosts.setServiceParent(self)

    @property
    def ports(self) -> Iterator[tuple[str, ListeningPort]]:
        """Those for host names that are not the control port, by what they are for."""
        return self._vhosts.ports

    @property
    def shares_control(self) -> bool:
        """Whether the control port is the HTTPS port, too."""
        return self._vhosts.shares_control

    @property
    def connections(self) -> int:
        """How many streams there are now."""
        return self._public.connections

    def ending(self, raw_channels: int) -> int:
        """
        What would be broken by an end of the server.

        @param raw_channels: of all sessions.
        """
        return max(raw_channels + self._public.link_streams, self._vhosts.connections)

    def on_control_port(self, accepted: Accepted) -> Accepted:
        """What takes the connections of the control port, where C{accepted} takes clients."""
        return self._vhosts.https(accepted) if self.shares_control else accepted

    def use(self, config: ServerConfig) -> None:
        """These ports may be had from now on."""
        self._claims.allow_ports = config.allow_ports
        self._claims.max_ports_per_client = config.max_ports_per_client
        for peer in list(self._broker.registry):
            self._public.rights_changed(peer)

    def close(self) -> None:
        """Take no new requests; let what is being answered be answered."""
        self._vhosts.close()

    def status(self) -> list[dict[str, Any]]:
        """For C{relaytun status --json}."""
        return self._public.status()

    def _own_ports(self) -> set[int]:
        return {*self._control_and_relay(), *(port.number for _, port in self.ports)}

    def _own_hosts(self) -> set[str]:
        """Names under which clients reach this server."""
        dialled = {peer.dialled_host.lower() for peer in self._broker.registry}
        return dialled | {(self._config.public_host or "").lower()}
