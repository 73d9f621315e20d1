"""
The server as a tree of services::

    Server
    |-- AdminService      control.sock: status, stats, reload
    |-- Accounts          traffic.db: what has moved, and quotas of it
    |-- ListeningPort     metrics: /metrics and /healthz, if there is to be one
    |-- ListeningPort     control: WebSocket signalling, TLS and plain
    |-- ListeningPort     relay: legs
    |-- DatagramRelay     relay: datagrams, on the same number
    |-- Public            ports and host names of clients' services
    `-- Vhosts            the ports for HTTP and HTTPS host names

The state directory is locked before anything listens, and the invite is written when all does.
"""

from __future__ import annotations

import resource
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from .. import __version__
from ..adminsocket import AdminService
from ..config import ServerAddress, ServerConfig, format_invite
from ..draining import until_idle
from ..ends.machinery import Machinery
from ..errors import UserError
from ..hooks import Hooks
from ..interfaces import IReactor
from ..link.handshake import LinkTLS
from ..link.identity import Identity, der, fingerprint
from ..plane.accept import reset
from ..plane.carriers import CarrierPool
from ..plane.dial import Dialer
from ..reloading import Reloader, apply_changes
from ..statedir import StateDir
from ..tls import options_of_files, options_of_identity
from .access import Access
from .accounts import Accounts
from .adminhttp import admin_port
from .admission import IN_ALL, Admission
from .broker import Broker
from .datagrams import DatagramRelay
from .firstbyte import ControlFactory
from .ledger import Ledger
from .metrics import Metrics
from .port import LOGINS_AT_ONCE, ListeningPort, hand_to_twisted
from .proxied import ProxyProtocol
from .public.claims import Claims
from .public.leases import Leases
from .public.openers import Openers
from .public.ports import Accepted
from .public.service import Public
from .public.visiting import Visiting
from .registry import Owners
from .relay import Relay
from .signalling import SignallingFactory
from .users import UserSettings
from .vhosts import Vhosts
from .websocketlegs import FirstLineFactory


class Server(MultiService):
    """
    The whole server.

    @ivar reloader: reads the configuration again.
    @ivar reloadable: the fields of the configuration that can change while it runs, and what makes
        each of them hold.
    @ivar accounts: what has moved, and quotas of it.
    @ivar access: who may connect to what is public.
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
            "allow_networks": self._use_networks,
            "deny_networks": self._use_networks,
            "max_connections_per_address": self._use_networks,
            "certificate": self._use_nothing,  # The files are always looked at.
            "key": self._use_nothing,
            "hooks": self._use_hooks,
            "drain_timeout": self._use_nothing,  # Looked at when it is needed.
            "log_format": lambda config: use_log_format(config.log_format),
            "allow_ports": self._use_ports,
            "max_ports_per_client": self._use_ports,
        }
        self._admin_port: ListeningPort | None = None
        self._draining = False
        self._invited = ""
        self._reactor = reactor
        self._since = 0.0
        self._state = StateDir(config.state_dir)
        self._token = self._token_of(config)
        self._tls, self._fingerprint = self._certificate(config)
        self._identity = self._kept_identity("identity.pem")

    def privilegedStartService(self) -> None:
        """@raise UserError: if another server has the state directory, or a port is busy."""
        config = self._config
        self._state.lock()
        ws_path = config.ws_path.rstrip("/")
        self._owners = Owners(config.state_dir / "owners.db")
        self.broker = Broker(
            self._reactor,
            self._owners,
            token=self._token,
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
        self.access = Access(self._reactor)
        self._use_networks(config)
        self.hooks = Hooks(self._reactor, config.hooks)
        self.broker.events.listeners.append(self.hooks.fire)
        self._pool = CarrierPool()
        self._proxied: list[ProxyProtocol] = []
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
            self._reactor, first_line, admission, self._tls, config.plaintext
        )
        self._relay_port = ListeningPort(
            self._reactor,
            config.relay,
            config.host,
            self._with_proxies(self._relay.accepted),
            has_room=self._relay.has_room,
        )
        self._vhosts = Vhosts(
            self._reactor,
            config,
            admission,
            guarded=self._guarded,
            admitted=self._admitted,
            has_room=self._relay.room.for_visitors,
            observe=self.metrics.observe,
        )
        self._public = self._public_side()
        datagrams = DatagramRelay(self._reactor, self.broker.sessions, self._relay_port)
        control = hand_to_twisted(self._reactor, self._control)
        self._control_port = ListeningPort(
            self._reactor,
            config.control,
            config.host,
            self._with_proxies(
                self._vhosts.https(control) if self._vhosts.shares_control else control
            ),
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
            self._vhosts,
            self._control_port,
        )
        for child in children:
            child.setServiceParent(self)
        super().privilegedStartService()

    def _public_side(self) -> Public:
        config, broker, vhosts = self._config, self.broker, self._vhosts
        machinery = Machinery(
            reactor=self._reactor,
            dialer=Dialer(self._reactor),
            pool=self._pool,
            tls=LinkTLS(self._identity),
        )
        here = config.host if config.host not in ("0.0.0.0", "::") else "127.0.0.1"
        visiting = Visiting(broker, self._relay, machinery, self._identity.fingerprint, here)
        openers = Openers(
            self._reactor,
            config.host,
            machinery,
            self._relay.room,
            self._guarded,
            self.access.admits,
            vhosts.routes,
            vhosts.passed_through,
            lambda host: vhosts.bases(host, self._control_port.number),
            lambda: vhosts.https_port(self._control_port.number),
        )
        self._claims = claims = Claims(
            Leases(self._reactor, config.state_dir / "leases.db"),
            openers.title,
            allow_ports=config.allow_ports,
            own_ports=self._own_ports,
            own_hosts=self._own_hosts,
            max_ports_per_client=config.max_ports_per_client,
            subdomain_host=config.subdomain_host,
            serves_http=vhosts.has_http,
            serves_tls=vhosts.has_https,
        )
        claims.names_changed = vhosts.names_changed
        public = broker.public = Public(self._reactor, visiting, claims)
        return public

    def _guarded(self, accepted: Accepted) -> Accepted:
        """What a public port does with a connection before it is anybody's."""
        return self._with_proxies(self._admitted(accepted))

    def _admitted(self, accepted: Accepted) -> Accepted:
        def guarded(sock: socket.socket, address: Any) -> None:
            if self._draining:
                reset(sock)
            else:
                accepted(sock, address)

        return self.access.accepted(guarded)

    def _own_ports(self) -> set[int]:
        own = [self._control_port, self._relay_port, *dict(self._vhosts.ports).values()]
        return {port.number for port in own}

    def _own_hosts(self) -> set[str]:
        """Names under which clients reach this server."""
        dialled = {peer.dialled_host.lower() for peer in self.broker.registry}
        return dialled | {(self._config.public_host or "").lower()}

    def _with_proxies(
        self, accepted: Callable[[socket.socket, Any], None]
    ) -> Callable[[socket.socket, Any], None]:
        networks = self._config.proxy_protocol_from
        if not networks:
            return accepted
        proxied = ProxyProtocol(self._reactor, networks, accepted)
        self._proxied.append(proxied)
        return proxied

    def startService(self) -> None:
        super().startService()
        self._since = time.monotonic()
        self.broker.relay_port = self._relay_port.number
        self.broker.sessions.start()
        self.metrics.start()
        self._reactor.callWhenRunning(self._announce)

    def _announce(self) -> None:
        """Only now does SIGTERM end the process in order, and only now may anybody come."""
        invite = self._invite()
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
        if self._draining:
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
            streams = self.broker.sessions.raw_channels + self._public.link_streams
            return max(streams, self._vhosts.connections)

        seconds = self._config.drain_timeout
        self._draining = True
        if seconds:
            self._vhosts.close()
        if busy() and seconds:
            self._control_port.close()
            self._relay_port.close()
            self.broker.go_away(seconds)
        return until_idle(self._reactor, busy, seconds)

    def stopService(self) -> Deferred[Any]:
        self.metrics.stop()
        self.broker.sessions.stop()
        self._relay.stop()
        for proxied in self._proxied:
            proxied.stop()
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
                    *self._vhosts.ports,
                    ("https", self._control_port if self._vhosts.shares_control else None),
                )
                if port is not None
            },
        }

    async def _reload(self, config: ServerConfig) -> list[str]:
        token = self._token_of(config)
        tls, shown = self._certificate(config)
        self._config, lines = apply_changes(self._config, config, self.reloadable)
        if shown != self._fingerprint:
            lines.append("a new certificate: for connections from now on")
        self._token, self._tls, self._fingerprint = token, tls, shown
        self.broker.token = token
        self._control.use_certificate(tls)
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

    def _use_networks(self, config: ServerConfig) -> None:
        self.access.change(
            config.allow_networks, config.deny_networks, config.max_connections_per_address
        )

    def _use_ports(self, config: ServerConfig) -> None:
        self._claims.allow_ports = config.allow_ports
        self._claims.max_ports_per_client = config.max_ports_per_client
        for peer in list(self.broker.registry):
            self._public.rights_changed(peer)

    def _use_hooks(self, config: ServerConfig) -> None:
        self.hooks.urls = dict(config.hooks)

    def _use_nothing(self, config: ServerConfig) -> None:
        """What is looked at in the configuration itself."""

    def _token_of(self, config: ServerConfig) -> str | None:
        return None if config.open else config.token or self._kept_token()

    def _kept_token(self) -> str:
        kept = self._state.read_or_make("token", lambda: secrets.token_urlsafe(32).encode())
        token = kept.decode("ascii", "replace").strip()
        if not token:
            raise UserError(
                f"{self._state.path / 'token'} is empty: remove it to have a new token made"
            )
        return token

    def _certificate(self, config: ServerConfig) -> tuple[Any, str]:
        if config.certificate is not None and config.key is not None:
            options, shown = options_of_files(config.certificate, config.key)
            return options, fingerprint(der(shown))
        identity = self._kept_identity("server.pem", " (every client then needs the new invite)")
        return options_of_identity(identity), identity.fingerprint

    def _kept_identity(self, name: str, consequence: str = "") -> Identity:
        pem = self._state.read_or_make(name, lambda: Identity.make("relaytun").to_pem())
        try:
            return Identity.from_pem(pem)
        except ValueError as error:
            raise UserError(
                f"{self._state.path / name} cannot be used: {error}; remove it to have a new "
                f"certificate made{consequence}"
            ) from None

    def _invite(self) -> str:
        config = self._config
        host = config.public_host or (
            config.host if config.host not in ("0.0.0.0", "::") else outward_address()
        )
        return format_invite(
            ServerAddress(
                host=host,
                port=self._control_port.number,
                secure=True,
                token=self._token,
                fingerprint=self._fingerprint,
            )
        )


def outward_address() -> str:
    """
    The address of this machine that others most likely reach, for the invite.

    Asks the routing table only: connecting a UDP socket sends nothing.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
