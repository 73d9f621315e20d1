"""
The client as a tree of services::

    Client
    |-- ServerConnection ...  signs in, again and again; one for each server
    |-- AdminService        control.sock: status
    |-- HealthChecks        of the services that have one
    `-- _Listener ...       one for each [connect:...]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import UNSET
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from .. import __version__
from ..adminsocket import AdminService
from ..config import ClientConfig, ServerAddress, ServiceConfig
from ..ends.machinery import Machinery
from ..errors import UserError
from ..interfaces import IReactor
from ..knownpeers import KnownPeers
from ..link.handshake import LinkTLS
from ..link.identity import Identity
from ..plane import zstd
from ..plane.carriers import CarrierPool
from ..plane.dial import Dialer
from ..statedir import StateDir
from ..wire import messages
from .connection import ServerConnection
from .health import HealthChecks
from .localport import LocalPort
from .provider import Provider
from .providerlink import Links
from .signalling import Control, LoginError, login
from .visitor import Visitor

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
    reactor: IReactor, config: ClientConfig, identity: Identity, *, transient: bool
) -> list[ServerConnection]:
    """
    The client's standing with each of the servers of C{config}.

    @param transient: a visitor of short life, beside the daemon of the same client; it gives up
        if it cannot sign in at once.
    """
    services = tuple(
        messages.Service(
            id=service.id,
            protocol=service.protocol,  # type: ignore[arg-type]
            local_port=service.local_port,
            local_host=service.local_host,
            description=service.description or None,
            mode=service.mode,  # type: ignore[arg-type]
            compression=service.compression or UNSET,  # type: ignore[arg-type]
        )
        for service in config.services
        if not transient
    )

    def attempt(server: ServerAddress) -> Deferred[Control]:
        return Deferred.fromCoroutine(
            login(reactor, server, identity, config.client_id, services, transient)
        )

    return [
        ServerConnection(
            reactor,
            partial(attempt, server),
            heartbeat_interval=config.heartbeat_interval,
            reconnect_interval=config.reconnect_interval,
            auto_reconnect=config.auto_reconnect,
            first_must_succeed=transient,
        )
        for server in config.servers
    ]


def machinery_of(
    reactor: IReactor, config: ClientConfig, identity: Identity, state: StateDir
) -> Machinery:
    """What the sessions of this client share."""
    return Machinery(
        reactor=reactor,
        dialer=Dialer(reactor),
        pool=CarrierPool(),
        tls=LinkTLS(identity),
        known=KnownPeers(state, lambda why: _log.warn("{why}", why=why)),
        resume_timeout=config.resume_timeout,
    )


class Client(MultiService):
    """The whole daemon."""

    _log = Logger()

    def __init__(
        self, reactor: IReactor, config: ClientConfig, give_up: Callable[[str], None]
    ) -> None:
        """
        @param give_up: called with a sentence when the client cannot go on (only without
            C{auto_reconnect}).
        @raise UserError: if the state directory cannot be used, or a library is missing.
        """
        super().__init__()
        for service in config.services:
            check_compression(service)
        self._config = config
        self._since = time.monotonic()
        self._state = StateDir(config.state_dir)
        self._identity = identity_of(self._state)
        self._machinery = machinery_of(reactor, config, self._identity, self._state)
        self._connections = connections_to(reactor, config, self._identity, transient=False)
        self._links = Links(self._machinery)
        self._providers = [
            Provider(self._machinery, connection, config.services, self._links)
            for connection in self._connections
        ]
        self._visitors = [
            Visitor(self._machinery, self._connections, connect) for connect in config.connects
        ]
        AdminService(reactor, config.state_dir, {"status": self.status}).setServiceParent(self)
        for connect, visitor in zip(config.connects, self._visitors, strict=True):
            LocalPort(reactor, connect, visitor).setServiceParent(self)
        self._health = HealthChecks(reactor, config.services, self._health_changed)
        self._health.setServiceParent(self)
        for connection in self._connections:
            connection.add_listener(self._health)
            connection.setServiceParent(self)
            connection.hurries.append(self._links.hurry)
            connection.finished.addCallback(self._finished)
        self._give_up = give_up

    def privilegedStartService(self) -> None:
        """@raise UserError: if the state directory is in use or a port is busy."""
        self._state.lock()
        super().privilegedStartService()

    def stopService(self) -> Deferred[Any]:
        for visitor in self._visitors:
            visitor.close()
        self._links.close()
        for provider in self._providers:
            for session in list(provider.sessions.values()):
                session.cut()
        stopped: Deferred[Any] = super().stopService()

        def done(result: Any) -> Any:
            self._machinery.close()
            self._state.unlock()
            return result

        return stopped.addBoth(done)

    def status(self) -> dict[str, Any]:
        """What C{relaytun status --json} prints."""
        up = [connection for connection in self._connections if connection.control is not None]
        rtt = up[0].rtt if up else None
        sessions = [
            held.session for provider in self._providers for held in provider.sessions.values()
        ]
        sessions += [
            known.session
            for known in self._links
            if known.session is not None and known.session not in sessions
        ]
        for visitor in self._visitors:
            sessions.extend(visitor.reports())
        control = up[0].control if up else None
        return {
            "role": "client",
            "version": __version__,
            "uptime": round(time.monotonic() - self._since, 3),
            "connected": bool(up),
            "rtt": rtt,
            "clients": [control.client_id if control is not None else self._config.client_id],
            "services": [service.id for service in self._config.services],
            "sessions": [session.report(rtt) for session in sessions],
            "fingerprint": self._identity.fingerprint,
        }

    def _health_changed(self, service_id: str, healthy: bool) -> None:
        for connection in self._connections:
            connection.send(messages.ServiceHealth(service_id=service_id, healthy=healthy))

    def _finished(self, error: LoginError) -> None:
        """One of the servers is given up: when all are, so is the client."""
        if all(connection.finished.called for connection in self._connections):
            self._give_up(str(error))
