"""
What the daemon and the commands make alike of a client's configuration: its identity, its standing
with each server, and what its sessions share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..config import ClientConfig, ServerAddress, ServiceConfig
from ..errors import UserError
from ..interfaces import IReactor
from ..knownpeers import KnownPeers
from ..link.handshake import LinkTLS
from ..link.identity import Identity
from ..nat.guessing import Policy
from ..plane import zstd
from ..plane.carriers import CarrierPool
from ..plane.dial import Dialer
from ..statedir import StateDir
from ..wire.messages import RelayAddress
from .connection import ServerConnection
from .httpproxy import proxy_for
from .legdialer import ServerLegs
from .machinery import ClientMachinery
from .meeting import Meetings
from .offering import Offer
from .route import Route
from .signalling import Control, login

_log = Logger()


def identity_of(state: StateDir) -> Identity:
    """
    The identity in a client's state directory; made if there is none.

    @raise UserError: if the file cannot be used.
    """
    pem = state.read_or_make("identity.pem", lambda: Identity.make("relaytun").to_pem())
    try:
        return Identity.from_pem(pem)
    except ValueError as error:
        raise UserError(
            f"{state.path / 'identity.pem'} cannot be used: {error}; restore it, or remove it to "
            "become a new identity (clientIds of the old one are then lost)"
        ) from None


def check_compression(service: ServiceConfig) -> None:
    """@raise UserError: if C{service} is to be compressed, and there is no library for it."""
    if service.compression and not zstd.AVAILABLE:
        raise UserError(
            f"[service:{service.id}] compression = {service.compression} needs a library that is "
            f"not installed: {zstd.INSTALL}, or remove the key"
        )


def connections_to(
    reactor: IReactor,
    config: ClientConfig,
    identity: Identity,
    *,
    transient: bool,
    first_must_succeed: bool | None = None,
    offer: Offer | None = None,
) -> list[ServerConnection]:
    """
    The client's standing with each of the servers of C{config}.

    @param transient: a visitor of short life, beside the daemon of the same client.
    @param first_must_succeed: whether to give up if it cannot sign in at once; by default, if
        C{transient}.
    @param offer: what each login registers; by default the services of C{config}, and none if
        C{transient}.
    """
    offered = offer or Offer(() if transient else config.services)

    async def attempt(route: Route, legs: ServerLegs) -> Control:
        control = await login(
            route, identity, config.client_id, offered.services, offered.exposures, transient
        )
        legs.learn(control.response)
        return control

    def connection_to(server: ServerAddress) -> ServerConnection:
        route = route_to(reactor, config, server)
        legs = ServerLegs(route, Dialer(reactor), config.transport)
        return ServerConnection(
            reactor,
            lambda: Deferred.fromCoroutine(attempt(route, legs)),
            dialer=legs,
            heartbeat_interval=config.heartbeat_interval,
            reconnect_interval=config.reconnect_interval,
            auto_reconnect=config.auto_reconnect,
            first_must_succeed=transient if first_must_succeed is None else first_must_succeed,
        )

    return [connection_to(server) for server in config.servers]


def route_to(reactor: IReactor, config: ClientConfig, server: ServerAddress) -> Route:
    """
    How to get to one of the servers of C{config}.

    @raise UserError: if the proxy that is to be used is none.
    """
    try:
        proxy = proxy_for(server.host, config.proxy)
    except ValueError as error:
        raise UserError(str(error)) from None
    return Route(reactor, server, proxy, config.ws_path.rstrip("/"))


def machinery_of(
    reactor: IReactor,
    config: ClientConfig,
    identity: Identity,
    state: StateDir,
    connections: Sequence[ServerConnection] = (),
) -> ClientMachinery:
    """
    What the sessions of this client share.

    @param connections: to the servers, whose reflectors tell how this client is seen; without any,
        its links have no way without the relay.
    """

    def reflectors() -> Sequence[RelayAddress]:
        for connection in connections:
            if connection.control is not None:
                return connection.control.response.reflectors or ()
        return ()

    def network_changed() -> None:
        for connection in connections:
            connection.network_changed()

    directs = None
    if connections and config.direct != "off":
        lan_only = config.direct == "lan"
        hard_nat = cast(Policy, config.hard_nat)  # That it is one the configuration has checked.
        directs = Meetings(reactor, reflectors, lan_only, hard_nat, network_changed)
    return ClientMachinery(
        reactor=reactor,
        dialer=Dialer(reactor),
        pool=CarrierPool(),
        tls=LinkTLS(identity),
        known=KnownPeers(state, lambda why: _log.warn("{why}", why=why)),
        resume_timeout=config.resume_timeout,
        directs=directs,
    )
