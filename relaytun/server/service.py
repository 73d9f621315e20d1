"""
The server as a tree of services::

    Server
    |-- AdminService      control.sock: status, stats, reload
    |-- Accounts          traffic.db: what has moved, and quotas of it
    |-- ListeningPort     metrics: /metrics and /healthz, if there is to be one
    |-- ListeningPort     control: WebSocket signalling, TLS and plain
    |-- ListeningPort     relay: legs
    |-- DatagramRelay     relay: datagrams, on the same number
    |-- PublicSide        ports and host names of clients' services
    `-- Reflector         tells clients how they are seen, UDP and TCP, unless it is off

The state directory is locked before anything listens, and the invite is written when all does.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from .. import __version__
from ..adminsocket import AdminService
from ..config import ServerConfig
from ..draining import until_idle
from ..errors import UserError
from ..hooks import Hooks
from ..interfaces import IReactor
from ..plane.carriers import CarrierPool
from ..reloading import Reloader, apply_changes
from ..statedir import StateDir
from .accounts import Accounts
from .adminhttp import admin_port
from .admission import IN_ALL, Admission
from .broker import Broker
from .credentials import Credentials
from .datagrams import DatagramRelay
from .door import Door
from .firstbyte import ControlFactory
from .ledger import Ledger
from .metrics import Metrics
from .port import LOGINS_AT_ONCE, ListeningPort, hand_to_twisted
from .public.side import PublicSide
from .reflector import Answering, Reflector
from .registry import Owners
from .relay import Relay
from .signalling import SignallingFactory
from .users import UserSettings
from .websocketlegs import FirstLineFactory


class Server(MultiService):
    """
    The whole server.

    @ivar reloader: reads the configuration again.
    @ivar reloadable: the fields of the configuration that can change while it runs, and what makes
        each of them hold.
    @ivar accounts: what has moved, and quotas of it.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        config: ServerConfig,
        load: Callable[[], ServerConfig] | None = None,
        use_log_format: Callable[[str], None] = lambda format: None,
    ) -> None:
        """
        @param load: reads the configuration again; the one that there is by default.
        @param use_log_format: changes that of the log.
        @raise UserError: if the state directory or the certificate cannot be used.
        """
        super().__init__()
        self._config: ServerConfig = config
        self.reloader = Reloader(load or (lambda: self._config), self._reload)
        self.reloadable: dict[str, Callable[[ServerConfig], Any]] = {
            "session_timeout": self._use_limits,
            "max_sessions": self._use_limits,
            "max_bytes_per_session": self._use_limits,
            "max_clients": self._use_limits,
            "heartbeat_timeout": self._use_heartbeat,
            "heartbeat_interval": self._use_heartbeat,
            "plaintext": self._use_access,
            "public_host": self._use_access,
            "token": self._use_access,
            "open": self._use_access,
            "users": lambda config: self.apply_users(config.users),
            "allow_networks": self._use_door,
            "deny_networks": self._use_door,
            "max_connections_per_address": self._use_door,
            "certificate": self._use_nothing,  # The files are always looked at.
            "key": self._use_nothing,
            "hooks": self._use_hooks,
            "drain_timeout": self._use_nothing,  # Looked at when it is needed.
            "log_format": lambda config: use_log_format(config.log_format),
            "allow_ports": self._use_public,
            "max_ports_per_client": self._use_public,
        }
        self._admin_port: ListeningPort | None = None
        self._reflector: Reflector | None = None
        self._invited = ""
        self._reactor = reactor
        self._since = 0.0
        self._state = StateDir(config.state_dir)
        self._credentials = Credentials(self._state, config)

    def privilegedStartService(self) -> None:
        """@raise UserError: if another server has the state directory, or a port is busy."""
        config = self._config
        self._state.lock()
        ws_path = config.ws_path.rstrip("/")
        self._owners = Owners(config.state_dir / "owners.db")
        self.broker = Broker(
            self._reactor,
            self._owners,
            token=self._credentials.token,
            users=config.users,
            public_host=config.public_host,
            max_clients=config.max_clients,
            max_sessions=config.max_sessions,
            max_bytes_per_session=config.max_bytes_per_session,
            session_timeout=config.session_timeout,
            heartbeat_timeout=config.heartbeat_timeout,
            ws_path=ws_path,
        )
        self.accounts = Accounts(
            self._reactor,
            self.broker.sessions,
            self.broker.users,
            Ledger(config.state_dir / "traffic.db"),
        )
        self._door = Door(self._reactor, config)
        self.hooks = Hooks(self._reactor, config.hooks)
        self.broker.events.listeners.append(self.hooks.fire)
        self._pool = CarrierPool()
        self._relay = Relay(self._reactor, self.broker.sessions, self._pool)
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        admission = Admission(in_all=min(IN_ALL, descriptors // 4))
        self.metrics = Metrics(
            self._reactor,
            self.broker,
            lambda: self._relay.open_legs,
            lambda: self._public.connections,
            lambda: self.hooks.dropped,
        )
        self._signalling = SignallingFactory(
            self._reactor, self.broker, admission, config.heartbeat_interval
        )
        first_line = FirstLineFactory(
            self._reactor,
            self._signalling,
            admission,
            ws_path,
            self._relay.accepted,
            self._relay.has_room,
        )
        self._control = ControlFactory(
            self._reactor, first_line, admission, self._credentials.tls, config.plaintext
        )
        self._relay_port = ListeningPort(
            self._reactor,
            config.relay,
            config.host,
            self._door.behind_balancers(self._relay.accepted),
            has_room=self._relay.has_room,
        )
        self._public = PublicSide(
            self._reactor,
            config,
            self.broker,
            self._relay,
            self._pool,
            self._credentials.identity,
            admission,
            self._door,
            self.metrics.observe,
            lambda: (self._control_port.number, self._relay_port.number),
        )
        datagrams = DatagramRelay(self._reactor, self.broker.sessions, self._relay_port)
        if config.reflector is not None:
            answering = Answering(self._reactor)
            datagrams.reflect = answering.answer
            self._reflector = Reflector(
                self._reactor,
                answering,
                config.reflector_address or config.host,
                None if config.reflector == "auto" else int(config.reflector),
                self._relay_port,
            )
            self._relay.reflect = self._reflector.streams.accepted
        control = hand_to_twisted(self._reactor, self._control)
        self._control_port = ListeningPort(
            self._reactor,
            config.control,
            config.host,
            self._door.behind_balancers(self._public.on_control_port(control)),
            at_once=LOGINS_AT_ONCE,
        )
        admin = AdminService(
            self._reactor,
            config.state_dir,
            {
                "status": self.status,
                "stats": self.accounts.stats,
                "reload": self.reloader.reload,
            },
        )
        if config.metrics is not None:
            hosts = [config.public_host] if config.public_host else []
            self._admin_port = admin_port(
                self._reactor, config.metrics, self.metrics, self.unhealthy, hosts
            )
            self._admin_port.setServiceParent(self)
        children = (
            admin,
            self.accounts,
            self._relay_port,
            datagrams,
            self._public,
            self._control_port,
        )
        for child in children:
            child.setServiceParent(self)
        if self._reflector is not None:
            self._reflector.setServiceParent(self)
        super().privilegedStartService()

    def startService(self) -> None:
        super().startService()
        self._since = time.monotonic()
        self.broker.relay_port = self._relay_port.number
        if self._reflector is not None:
            self.broker.reflector_port = self._reflector.number
            self.broker.reflector_host = self._config.reflector_address
        self.broker.sessions.start()
        self.metrics.start()
        self._reactor.callWhenRunning(self._announce)

    def _announce(self) -> None:
        """Only now does SIGTERM end the process in order, and only now may anybody come."""
        invite = self._credentials.invite(self._config, self._control_port.number)
        if invite == self._invited:
            return
        self._invited = invite
        try:
            self._state.write("invite", invite.encode() + b"\n")
        except UserError as error:  # Such as a full disk: no reason not to serve.
            self._log.error("{error}; the invite is in this log only", error=str(error))
        self._log.info("invite: {invite}", invite=invite)

    def unhealthy(self) -> str | None:
        """Why it does not serve, if so."""
        if self._door.is_closed:
            return "draining"
        for name, port in (("control", self._control_port), ("relay", self._relay_port)):
            if not port.is_listening:
                return f"the {name} port does not listen"
        return None

    def drain(self) -> Deferred[None]:
        """
        Before the end: nothing new begins, and what cannot outlive the server has time to end.

        Streams of links go on with whichever server is there next, so they are not waited for.

        @return: fires when that is so; cancel it to have it at once.
        """

        def busy() -> int:
            return self._public.ending(self.broker.sessions.raw_channels)

        seconds = self._config.drain_timeout
        self._door.is_closed = True
        if seconds:
            self._public.close()
        if busy() and seconds:
            self._control_port.close()
            self._relay_port.close()
            self.broker.go_away(seconds)
        return until_idle(self._reactor, busy, seconds)

    def stopService(self) -> Deferred[Any]:
        self.metrics.stop()
        self.broker.sessions.stop()
        self._relay.stop()
        self._door.stop()
        stopped: Deferred[Any] = super().stopService()
        stopped.addBoth(lambda _: self.hooks.stop())

        def done(result: Any) -> Any:
            self._pool.close()
            self._owners.close()
            self.accounts.close()
            self._state.unlock()
            return result

        return stopped.addBoth(done)

    def status(self) -> dict[str, Any]:
        """What C{relaytun status --json} prints."""
        broker = self.broker
        return {
            "role": "server",
            "version": __version__,
            "uptime": round(time.monotonic() - self._since, 3),
            "connected": True,
            "rtt": None,
            "clients": [entry.id for entry in broker.client_list().clients],
            "services": [
                f"{entry.id}/{service.id}"
                for entry in broker.client_list().clients
                for service in entry.services
            ],
            "sessions": [
                {
                    "id": session.id,
                    "peer": f"{session.visitor.name} to {session.provider.name}",
                    "service": session.service.id,
                    "role": "relay",
                    "mode": session.mode,
                    "path": "relay",
                    "rtt": None,
                    "streams": len(session.channels),
                    "bytesIn": session.meter.forward,
                    "bytesOut": session.meter.backward,
                    "since": session.since,
                }
                for session in broker.sessions
            ],
            "public": self._public.status(),
            "openLegs": self._relay.open_legs,
            "listening": {
                name: port.address
                for name, port in (
                    ("control", self._control_port),
                    ("relay", self._relay_port),
                    ("metrics", self._admin_port),
                    ("reflector", self._reflector),
                    *self._public.ports,
                    ("https", self._control_port if self._public.shares_control else None),
                )
                if port is not None
            },
        }

    async def _reload(self, config: ServerConfig) -> list[str]:
        other_certificate = self._credentials.use(config)
        self._config, lines = apply_changes(self._config, config, self.reloadable)
        if other_certificate:
            lines.append("a new certificate: for connections from now on")
        self.broker.token = self._credentials.token
        self._control.use_certificate(self._credentials.tls)
        self._announce()
        return lines

    def _use_limits(self, config: ServerConfig) -> None:
        self.broker.registry.limit(config.max_clients)
        self.broker.sessions.limit(
            config.max_sessions, config.max_bytes_per_session, config.session_timeout
        )

    def _use_heartbeat(self, config: ServerConfig) -> None:
        self.broker.heartbeat_timeout = config.heartbeat_timeout
        self._signalling.beat_every(config.heartbeat_interval)

    def _use_access(self, config: ServerConfig) -> None:
        self._control.plaintext = config.plaintext
        self.broker.public_host = config.public_host

    def apply_users(self, users: Iterable[UserSettings]) -> None:
        """There are these users from now on; what they may not have any more ends at once."""
        self.broker.replace_users(users)
        self.accounts.quotas_changed()

    def _use_door(self, config: ServerConfig) -> None:
        self._door.use(config)

    def _use_public(self, config: ServerConfig) -> None:
        self._public.use(config)

    def _use_hooks(self, config: ServerConfig) -> None:
        self.hooks.urls = dict(config.hooks)

    def _use_nothing(self, config: ServerConfig) -> None:
        """What is looked at in the configuration itself."""
