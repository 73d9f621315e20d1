"""
The client as a tree of services::

    Client
    |-- ServerConnection ...  signs in, again and again; one for each server
    |-- AdminService        control.sock: status, reload
    |-- HealthChecks        of the services that have one
    `-- _Listener ...       one for each [connect:...]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from msgspec import structs
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from .. import __version__
from ..adminsocket import AdminService
from ..config import ClientConfig, ConnectConfig, ServerAddress, ServiceConfig
from ..draining import until_idle
from ..errors import UserError
from ..events import Events
from ..hooks import Hooks
from ..interfaces import IReactor
from ..reloading import Reloader, apply_changes
from ..statedir import StateDir
from ..wire.messages import Message, ServiceHealth
from .health import HealthChecks
from .localport import LocalPort
from .making import check_compression, connections_to, identity_of, machinery_of
from .offering import Offer
from .provider import Provider, goes_on
from .providerlink import Links
from .publicity import Publicity
from .signalling import Control, LoginError
from .visitor import Visitor


class Client(MultiService):
    """
    The whole daemon.

    @ivar reloader: reads the configuration again.
    @ivar reloadable: the fields of the configuration that can change while it runs, beside services
        and connects, and what makes each of them hold.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        config: ClientConfig,
        give_up: Callable[[str], None],
        load: Callable[[], ClientConfig] | None = None,
        use_log_format: Callable[[str], None] = lambda format: None,
    ) -> None:
        """
        @param give_up: called with a sentence when the client cannot go on (only without
            C{auto_reconnect}).
        @param load: reads the configuration again; the one that there is by default.
        @param use_log_format: changes that of the log.
        @raise UserError: if the state directory cannot be used, or a library is missing.
        """
        super().__init__()
        for service in config.services:
            check_compression(service)
        self._config: ClientConfig = config
        self.reloader = Reloader(load or (lambda: self._config), self._reload)
        self.reloadable: dict[str, Callable[[ClientConfig], Any]] = {
            "auto_reconnect": self._use_intervals,
            "reconnect_interval": self._use_intervals,
            "heartbeat_interval": self._use_intervals,
            "drain_timeout": lambda config: None,  # Looked at when it is needed.
            "hooks": self._use_hooks,
            "log_format": lambda config: use_log_format(config.log_format),
        }
        self._reactor = reactor
        self._since = time.monotonic()
        self._state = StateDir(config.state_dir)
        self._identity = identity_of(self._state)
        self._offer = Offer(config.services)
        self._connections = connections_to(
            reactor, config, self._identity, transient=False, offer=self._offer
        )
        self._machinery = machinery_of(
            reactor, config, self._identity, self._state, self._connections
        )
        self._hooks = Hooks(reactor, config.hooks)
        self._machinery.events.listeners += [self._hooks.fire, self._prepare]
        self._links = Links(self._machinery)
        self._providers = [
            Provider(self._machinery, connection, config.services, self._links)
            for connection in self._connections
        ]
        self._publicity = [Publicity(connection) for connection in self._connections]
        self._connects: dict[str, _Connect] = {}
        AdminService(
            reactor, config.state_dir, {"status": self.status, "reload": self.reloader.reload}
        ).setServiceParent(self)
        for connect in config.connects:
            self._connects[connect.name] = made = self._make_connect(connect)
            made.port.setServiceParent(self)
        self._health = HealthChecks(reactor, config.services, self._health_changed)
        self._health.setServiceParent(self)
        for server, connection in zip(config.servers, self._connections, strict=True):
            connection.add_listener(self._health)
            connection.setServiceParent(self)
            connection.add_listener(_Standing(self._machinery.events, server))
            connection.hurries.append(self._links.hurry)
            connection.finished.addCallback(self._finished)
        self._give_up = give_up
        self._gave_up = False

    def privilegedStartService(self) -> None:
        """@raise UserError: if the state directory is in use or a port is busy."""
        self._state.lock()
        super().privilegedStartService()

    def drain(self) -> Deferred[None]:
        """
        Before the end: nothing new begins, and the streams that run have time to end.

        @return: fires when that is so; cancel it to have it at once.
        """
        seconds = 0.0 if self._gave_up else self._config.drain_timeout
        if self._streams() and seconds:
            for connect in self._connects.values():
                connect.port.close()
            self._links.take_no_more()
            self._offer.services = ()  # Exposures stay: streams of the public go on, too.
            for provider, connection in zip(self._providers, self._connections, strict=True):
                provider.offer_nothing()
                connection.send(self._offer.update())
        return until_idle(self._reactor, self._streams, seconds)

    def stopService(self) -> Deferred[Any]:
        for connect in self._connects.values():
            connect.visitor.close()
        self._links.close()
        for provider in self._providers:
            for session in list(provider.sessions.values()):
                session.cut()
        stopped: Deferred[Any] = super().stopService()
        stopped.addBoth(lambda _: self._hooks.stop())

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
        for connect in self._connects.values():
            sessions.extend(connect.visitor.reports())
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
            "public": {
                service: told
                for publicity in self._publicity
                for service, told in publicity.report().items()
            },
            "fingerprint": self._identity.fingerprint,
        }

    def _health_changed(self, service_id: str, healthy: bool) -> None:
        for connection in self._connections:
            connection.send(ServiceHealth(service_id=service_id, healthy=healthy))
        event = "service_online" if healthy else "service_offline"
        self._machinery.events.fire(event, service=service_id)

    def _finished(self, error: LoginError) -> None:
        """One of the servers is given up: when all are, so is the client."""
        if all(connection.finished.called for connection in self._connections):
            self._gave_up = True
            self._give_up(str(error))

    def _prepare(self, event: str, **fields: Any) -> None:
        """Once there can be links."""
        if event == "connected" and self._machinery.directs is not None:
            self._machinery.directs.prepare()

    def _streams(self) -> int:
        """Streams that end with this process."""
        return (
            self._links.streams
            + sum(provider.raw_streams for provider in self._providers)
            + sum(connect.visitor.streams for connect in self._connects.values())
        )

    def _make_connect(self, connect: ConnectConfig) -> _Connect:
        visitor = Visitor(self._machinery, self._connections, connect)
        return _Connect(connect, visitor, LocalPort(self._reactor, connect, visitor))

    async def _reload(self, config: ClientConfig) -> list[str]:
        for service in config.services:
            check_compression(service)
        before = self._config
        rest = structs.replace(config, services=before.services, connects=before.connects)
        holds, lines = apply_changes(before, rest, self.reloadable)
        self._config = structs.replace(holds, services=config.services, connects=config.connects)
        lines += self._use_services(before.services, config.services)
        lines += await self._use_connects(config.connects)
        return lines

    def _use_intervals(self, config: ClientConfig) -> None:
        for connection in self._connections:
            connection.configure(
                config.heartbeat_interval, config.reconnect_interval, config.auto_reconnect
            )

    def _use_hooks(self, config: ClientConfig) -> None:
        self._hooks.urls = dict(config.hooks)

    def _use_services(
        self, before: tuple[ServiceConfig, ...], after: tuple[ServiceConfig, ...]
    ) -> list[str]:
        old = {service.id: service for service in before}
        new = {service.id: service for service in after}
        lines = _differences("service", old, new)
        if not lines:
            return []
        self._offer.use(after)
        self._health.use(after)
        for connection in self._connections:  # First, so that nobody is offered what ends now.
            connection.send(self._offer.update())
        self._links.end(
            lambda service, visitor: not goes_on(old.get(service.id), new.get(service.id), visitor)
        )
        for provider in self._providers:
            provider.offer(after)
        for event, some, others in (
            ("service_offline", old, new),
            ("service_online", new, old),
        ):
            for service_id in some.keys() - others.keys():
                self._machinery.events.fire(event, service=service_id)
        return lines

    async def _use_connects(self, connects: tuple[ConnectConfig, ...]) -> list[str]:
        old = {name: made.connect for name, made in self._connects.items()}
        new = {connect.name: connect for connect in connects}
        lines = _differences("connect", old, new)
        for name in [name for name in old if old[name] != new.get(name)]:
            made = self._connects.pop(name)
            made.visitor.leave()
            await maybeDeferred(made.port.disownServiceParent)
        for connect in connects:
            if connect.name in self._connects:
                continue
            made = self._make_connect(connect)
            try:
                made.port.setServiceParent(self)
            except UserError as error:  # The next reload tries again.
                made.visitor.leave()
                made.port.disownServiceParent()
                lines.append(str(error))
            else:
                self._connects[connect.name] = made
        return lines


class _Connect(NamedTuple):
    """A [connect:...] and what it has become."""

    connect: ConnectConfig
    visitor: Visitor
    port: LocalPort


class _Standing:
    """Tells when the client signs in at a server, and when that is over."""

    def __init__(self, events: Events, server: ServerAddress) -> None:
        self._events = events
        self._server = server.url()

    def control_up(self, control: Control) -> None:
        """Signed in."""
        self._events.fire("connected", server=self._server, client=control.client_id)

    def control_down(self) -> None:
        """Not any more."""
        self._events.fire("disconnected", server=self._server)

    def received(self, message: Message) -> None:
        """All the same."""


def _differences(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line for each that was added, changed or removed."""
    lines = [f"{kind} {name}: removed" for name in old if name not in new]
    for name, value in new.items():
        if name not in old:
            lines.append(f"{kind} {name}: added")
        elif old[name] != value:
            lines.append(f"{kind} {name}: changed")
    return lines
