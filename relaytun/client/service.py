"""
The client as a tree of services::

    Client
    |-- ServerConnection    signs in, again and again
    |-- AdminService        control.sock: status
    `-- _Listener ...       one for each [connect:...]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from .. import __version__
from ..adminsocket import AdminService
from ..config import ClientConfig, ConnectConfig
from ..errors import UserError
from ..interfaces import IReactor
from ..link.identity import Identity
from ..plane.accept import Acceptor
from ..plane.carriers import CarrierPool
from ..plane.dial import Dialer
from ..statedir import StateDir
from ..wire import messages
from .connection import ServerConnection
from .provider import Provider
from .signalling import Control, LoginError, login
from .visitor import Visitor, wait_for_service


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


def connection_to(
    reactor: IReactor, config: ClientConfig, identity: Identity, *, transient: bool
) -> ServerConnection:
    """
    The client's standing with the server of C{config}.

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
            mode="raw",
        )
        for service in config.services
        if not transient
    )

    def attempt() -> Deferred[Control]:
        return Deferred.fromCoroutine(
            login(reactor, config.server, identity, config.client_id, services, transient)
        )

    return ServerConnection(
        reactor,
        attempt,
        heartbeat_interval=config.heartbeat_interval,
        reconnect_interval=config.reconnect_interval,
        auto_reconnect=config.auto_reconnect,
        first_must_succeed=transient,
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
        @raise UserError: if the state directory cannot be used.
        """
        super().__init__()
        self._config = config
        self._since = time.monotonic()
        self._state = StateDir(config.state_dir)
        self._identity = identity_of(self._state)
        self._pool = CarrierPool()
        dialer = Dialer(reactor)
        self._connection = connection_to(reactor, config, self._identity, transient=False)
        self._connection.finished.addCallback(lambda error: give_up(str(error)))
        self._provider = Provider(reactor, self._connection, dialer, self._pool, config.services)
        self._visitors = [
            Visitor(reactor, self._connection, dialer, self._pool, connect.target, connect.service)
            for connect in config.connects
        ]
        AdminService(reactor, config.state_dir, {"status": self.status}).setServiceParent(self)
        for connect, visitor in zip(config.connects, self._visitors, strict=True):
            LocalPort(reactor, connect, visitor).setServiceParent(self)
        self._connection.setServiceParent(self)

    def privilegedStartService(self) -> None:
        """@raise UserError: if the state directory is in use or a port is busy."""
        self._state.lock()
        super().privilegedStartService()

    def stopService(self) -> Deferred[Any]:
        for visitor in self._visitors:
            visitor.close()
        for session in list(self._provider.sessions.values()):
            session.cut()
        stopped: Deferred[Any] = super().stopService()

        def done(result: Any) -> Any:
            self._pool.close()
            self._state.unlock()
            return result

        return stopped.addBoth(done)

    def status(self) -> dict[str, Any]:
        """What C{relaytun status --json} prints."""
        connection = self._connection
        sessions = [held.session for held in self._provider.sessions.values()]
        for visitor in self._visitors:
            sessions.extend(visitor.sessions.values())
        control = connection.control
        return {
            "role": "client",
            "version": __version__,
            "uptime": round(time.monotonic() - self._since, 3),
            "connected": control is not None,
            "rtt": connection.rtt,
            "clients": [control.client_id if control is not None else self._config.client_id],
            "services": [service.id for service in self._config.services],
            "sessions": [session.report(connection.rtt) for session in sessions],
            "fingerprint": self._identity.fingerprint,
        }


class LocalPort(Service):
    """
    The local end of a [connect:...]: a port whose connections are streams to the service.

    @ivar number: the port number; known once it listens.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactor, connect: ConnectConfig, visitor: Visitor, wait: bool = True
    ) -> None:
        """@param wait: whether to look out for the service from the start."""
        self._reactor = reactor
        self._connect = connect
        self._visitor = visitor
        self._wait = wait
        self._port: IListeningPort | None = None
        self._acceptor: Acceptor | None = None
        self._waiting: Deferred[None] | None = None
        self.number = connect.local_port

    def privilegedStartService(self) -> None:
        """@raise UserError: if the port cannot be had."""
        connect = self._connect
        try:
            self._port = self._reactor.listenTCP(
                connect.local_port, ServerFactory(), interface=connect.local_host
            )
        except CannotListenError as error:
            why = getattr(error.socketError, "strerror", None) or error.socketError
            place = f"[connect:{connect.name}] " if connect.name else ""
            raise UserError(
                f"{place}cannot listen on {connect.local_host}:{connect.local_port}: {why}; "
                "choose another local port"
            ) from None
        self.number = self._port.getHost().port  # type: ignore[attr-defined]
        self._acceptor = Acceptor(self._reactor, self._port, self._visitor.serve)

    def startService(self) -> None:
        super().startService()
        connect = self._connect
        self._log.info(
            "{host}:{port} leads to {target}/{service}",
            host=connect.local_host,
            port=self.number,
            target=connect.target,
            service=connect.service,
        )
        if self._wait:
            waiting = wait_for_service(self._visitor, self._reactor, self._say)
            self._waiting = Deferred.fromCoroutine(waiting)
            self._waiting.addErrback(lambda failure: failure.trap(CancelledError, LoginError))

    def stopService(self) -> Deferred[Any] | None:
        super().stopService()
        if self._waiting is not None:
            self._waiting.cancel()
        if self._acceptor is not None:
            self._acceptor.stop()
        if self._port is None:
            return None
        stopped: Deferred[Any] | None = self._port.stopListening()
        return stopped

    def _say(self, why: str) -> None:
        connect = self._connect
        self._log.info(
            "waiting for {target}/{service}: {why}",
            target=connect.target,
            service=connect.service,
            why=why,
        )
