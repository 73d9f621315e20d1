"""What C{relaytun doctor} checks of a client, in the order in which its bytes travel."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET
from twisted.internet.error import ConnectError, DNSLookupError

from ..adminsocket import NAME, ask
from ..client.connection import ServerConnection
from ..client.legdialer import ServerLegs
from ..client.making import check_compression, identity_of, route_to
from ..config import ClientConfig, ConnectConfig, ServiceConfig
from ..errors import UserError
from ..interfaces import IReactor
from ..link.identity import Identity
from ..nat.classify import in_words
from ..statedir import StateDir
from ..wire.messages import ClientEntry
from ..wire.text import printable
from .checkup import Checkup, NotNow, answers, relay_answers, resolved, usable_state_dir
from .nat import find_out, places_of
from .online import online
from .show import duration
from .status import MOST_NAMES


async def examine_client(
    reactor: IReactor, checkup: Checkup, config: ClientConfig, path: str | None
) -> None:
    """@param path: of the configuration file, for what is to be typed."""
    async with contextlib.AsyncExitStack() as stack:
        client = _Client(reactor, config, path, stack)
        check = checkup.check
        await check("state directory", client.state_directory)
        await check("identity", client.identity, "state directory")
        await check("daemon", client.daemon)
        await check("server name", client.server_name)
        await check("control port", client.control_port, "server name")
        await check("login", client.login, "identity", "control port")
        await check("relay port", client.relay_port, "login")
        await check("direct path", client.direct_path, "login")
        for service in config.services:
            await check(f"service {service.id}", partial(client.service, service))
        for connect in config.connects:
            await check(f"connect {connect.name}", partial(client.connect, connect), "login")


class _Client:
    def __init__(
        self,
        reactor: IReactor,
        config: ClientConfig,
        path: str | None,
        stack: contextlib.AsyncExitStack,
    ) -> None:
        self._reactor = reactor
        self._config = config
        self._path = path
        self._stack = stack
        self._route = route_to(reactor, config, config.server)
        self._identity: Identity | None = None
        self._connection: ServerConnection
        self._entries: dict[str, ClientEntry] | None = None

    def state_directory(self) -> str:
        return usable_state_dir(self._config.state_dir)

    def identity(self) -> str:
        if not (self._config.state_dir / "identity.pem").exists():
            return "none yet; the daemon makes one at its first start"
        self._identity = identity_of(StateDir(self._config.state_dir))
        return self._identity.fingerprint

    def daemon(self) -> str:
        config = self._config
        if not (config.services or config.connects or (config.state_dir / NAME).exists()):
            raise NotNow("none is needed: no service is offered and none is visited")
        try:
            answer = ask(config.state_dir, "status")
        except UserError as error:
            option = f" --config {self._path}" if self._path else ""
            raise UserError(
                f"{error}: start it with twistd relaytun-client{option}, or see its log"
            ) from None
        if answer["role"] != "client":
            raise UserError(f"a {answer['role']} uses {config.state_dir}: name another state_dir")
        if not answer["connected"]:
            raise UserError("it runs, but is not signed in: see its log, and the checks below")
        running = duration(answer["uptime"])
        return f"signed in, has been running for {running}{_paths(answer['sessions'])}"

    async def server_name(self) -> str:
        host, proxy = self._config.server.host, self._route.proxy
        return await resolved(host) if proxy is None else f"{proxy} looks for {host}"

    async def control_port(self) -> str:
        server, proxy = self._config.server, self._route.proxy
        if proxy is not None:
            remedy = "correct proxy, or HTTPS_PROXY in the environment"
            return f"through a proxy: {await answers(proxy.host, proxy.port, remedy)}"
        return await answers(
            server.host,
            server.port,
            f"is the server running, and does its firewall let TCP port {server.port} through?",
        )

    async def login(self) -> str:
        config, identity = self._config, self._identity
        if identity is None:
            # No name for an identity that nobody keeps.
            identity = Identity.make("relaytun")
            config = msgspec.structs.replace(config, client_id=None, services=(), connects=())
        self._connection = await self._stack.enter_async_context(
            online(self._reactor, config, identity)
        )
        assert self._connection.control is not None
        name = printable(self._connection.control.client_id)
        how = "certificate and token are right" if config.server.secure else "without TLS"
        return f"the server lets {name} in; {how}"

    async def relay_port(self) -> str:
        control = self._connection.control
        if control is None:
            raise UserError("the connection to the server was lost just now: try again")
        relay = control.response.relay
        if relay is UNSET or not relay.port:
            raise NotNow("the server does not say where it is before there is a session")
        legs = self._connection.dialer
        if isinstance(legs, ServerLegs) and legs.transport == "ws":
            return f"not needed: {await _websockets(legs)}"
        try:
            return await relay_answers(printable(relay.host), relay.port)
        except UserError as error:
            if isinstance(legs, ServerLegs) and legs.transport == "auto":
                raise NotNow(f"{error}; until then {await _websockets(legs)}") from None
            raise

    async def direct_path(self) -> str:
        if self._config.direct == "off":
            raise NotNow("direct = off: all goes by the relay")
        control = self._connection.control
        reflectors = control.response.reflectors if control is not None else ()
        if reflectors is UNSET or not reflectors:
            raise NotNow("the server does not tell what NAT there is: it has no reflector")
        finding = await find_out(self._reactor, await places_of(self._reactor, reflectors))
        return f"{in_words(finding.udp)}; relaytun nat tells what that means"

    async def service(self, service: ServiceConfig) -> str:
        check_compression(service)
        return await answers(
            service.local_host,
            service.local_port,
            "start the service, or correct local_host and local_port",
        )

    async def connect(self, connect: ConnectConfig) -> str:
        if self._entries is None:
            entries = await self._connection.list_clients()
            self._entries = {entry.id: entry for entry in entries}
        if connect.target is None:
            return self._offered_by_any(connect.service)
        entry = self._entries.get(connect.target)
        if entry is None:
            raise UserError(
                f"{connect.target} is not signed in at the server: start its relaytun-client, or "
                "correct target"
            )
        offered = [service.id for service in entry.services]
        if connect.service not in offered:
            raise UserError(
                f"{connect.target} does not offer {connect.service}, but "
                f"{', '.join(offered) or 'nothing'}: correct service, or its configuration"
            )
        return f"{connect.target} offers {connect.service}"

    def _offered_by_any(self, wanted: str) -> str:
        offering = [
            entry.id
            for entry in (self._entries or {}).values()
            if any(service.id == wanted for service in entry.services)
        ]
        if not offering:
            raise UserError(
                f"no client that is signed in offers {wanted}: start one, or correct service"
            )
        return f"{wanted} is offered by {', '.join(offering)}"


async def _websockets(legs: ServerLegs) -> str:
    """
    Check that legs can go over WebSockets.

    @raise UserError: if they cannot.
    """
    try:
        return f"legs go over WebSockets to {await legs.check_websocket()}"
    except (OSError, ConnectError, DNSLookupError) as error:
        raise UserError(f"legs cannot go over WebSockets: {error}") from None


def _paths(sessions: list[dict[str, Any]]) -> str:
    """Which way the daemon's sessions take."""
    told = []
    for session in sessions[:MOST_NAMES]:
        text = f"{printable(session['peer'])}/{printable(session['service'])} by {session['path']}"
        if session.get("whyNotDirect"):
            text += f" ({printable(session['whyNotDirect'])})"
        told.append(text)
    more = len(sessions) - len(told)
    if more:
        told.append(f"and {more} more")
    return f"; {'; '.join(told)}" if told else ""
