"""
Autobahn's WebSocket to the server's control port, up to the registered client.

L{login} is the handshake from top to bottom, in the order in which it happens on the wire; what
comes out of it is a L{Control}.  Whatever goes wrong is a L{LoginError} whose text a user can
act on.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import secrets
from collections.abc import Callable
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from msgspec import UNSET
from OpenSSL import SSL
from twisted.internet import error as internet_error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..config import ServerAddress
from ..errors import UserError
from ..link.identity import Identity
from ..plane.accept import keep_alive
from ..tls import PinnedServer, server_verification
from ..wire import messages
from ..wire.errors import WireError
from ..wire.messages import Message
from ..wire.proof import CHALLENGE_HEADER, login_statement
from ..wire.text import printable
from .httpproxy import ProxyError
from .route import Route

#: Seconds from the first packet to the registered client.
LOGIN_TIMEOUT = 15.0
#: The largest message taken from a server: a list of 10,000 clients has room.
MAX_MESSAGE = 16 * 1024 * 1024


class LoginError(UserError):
    """
    Why the server cannot be used.

    @ivar final: whether trying again as it is can never help.
    """

    def __init__(self, message: str, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class Control:
    """
    A registered control connection.

    @ivar client_id: the name that the server knows this client by.
    @ivar response: the server's answer to C{register}.
    @ivar lost: fires with C{None} when the connection is gone.
    """

    def __init__(self, protocol: _SignallingProtocol, response: messages.RegisterResponse) -> None:
        self._protocol = protocol
        self.response = response
        self.client_id = str(response.assigned_id)
        self.lost = protocol.lost

    @property
    def local_host(self) -> str:
        """This client's own address, as far as this connection is concerned."""
        return str(self._protocol.transport.getHost().host)

    def send(self, message: Message) -> None:
        """Tell the server something; if it is gone, nobody listens."""
        self._protocol.send(message)

    def listen(self, receive: Callable[[Message], None]) -> None:
        """Have every message from now on given to C{receive}, those that have come first."""
        self._protocol.listen(receive)

    def close(self) -> None:
        """Say good-bye."""
        self.send(messages.Unregister())
        self._protocol.sendClose(1000)

    def abort(self) -> None:
        """Give it up without a word: the server does not answer."""
        self._protocol.transport.abortConnection()


async def login(
    route: Route,
    identity: Identity,
    client_id: str | None,
    services: tuple[messages.Service, ...] = (),
    exposures: tuple[messages.Exposure, ...] = (),
    transient: bool = False,
) -> Control:
    """
    Connect, verify the server, register.

    @raise LoginError: if it does not come to that.
    """
    reactor, address = route.reactor, route.address
    verification = server_verification(address.host, address.fingerprint)
    factory = _SignallingFactory(route)
    endpoint = route.control(verification)
    attempt: Deferred[Control] = Deferred.fromCoroutine(
        _login(endpoint, factory, address, identity, client_id, services, exposures, transient)
    )
    attempt.addTimeout(LOGIN_TIMEOUT, reactor)
    try:
        return await attempt
    except LoginError as error:
        pin_error = _pin_error(address, verification)
        raise (pin_error or error) from None
    except Exception as error:
        if factory.made is not None:
            factory.made.transport.abortConnection()
        raise _explain(address, verification, error) from None


async def _login(
    endpoint: IStreamClientEndpoint,
    factory: _SignallingFactory,
    address: ServerAddress,
    identity: Identity,
    client_id: str | None,
    services: tuple[messages.Service, ...],
    exposures: tuple[messages.Exposure, ...],
    transient: bool,
) -> Control:
    protocol: _SignallingProtocol = await endpoint.connect(factory)  # type: ignore[assignment]
    protocol = factory.made or protocol
    challenge = await protocol.opened
    wanted = client_id or ""
    statement = login_statement(challenge, address.token or "", wanted)
    answered: Deferred[Message] = Deferred()
    protocol.listen(answered.callback, once=True)
    protocol.send(
        messages.Register(
            client_id=wanted,
            services=services,
            exposures=exposures or UNSET,
            certificate=base64.b64encode(identity.der).decode("ascii"),
            proof=base64.b64encode(identity.sign(statement)).decode("ascii"),
            transient=transient,
            process=_process(),
        )
    )
    protocol.when_lost(answered.cancel)
    try:
        answer = await answered
    except CancelledError:
        raise LoginError(f"{address.url()} closed the connection during the login") from None
    if isinstance(answer, messages.RegisterResponse) and answer.success:
        return Control(protocol, answer)
    protocol.transport.abortConnection()
    if isinstance(answer, messages.RegisterResponse):
        text = answer.error if answer.message is UNSET else answer.message
        raise LoginError(f"{address.url()} refuses the login: {printable(str(text))}")
    if isinstance(answer, messages.Error):
        raise LoginError(f"{address.url()} refuses the login: {printable(answer.message)}")
    raise LoginError(f"{address.url()} is no relaytun server: it did not answer the login")


class _Silent:
    """Autobahn's log repeats what comes from the network; the errors say what matters."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


class _SignallingProtocol(WebSocketClientProtocol):
    log = _Silent()
    _log = Logger()
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self.opened: Deferred[bytes] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self._challenge = b""
        self._receive: Callable[[Message], None] | None = None
        self._once = False
        self._early: list[Message] = []

    def listen(self, receive: Callable[[Message], None], once: bool = False) -> None:
        self._receive = receive
        self._once = once
        while self._early and self._receive is not None:
            self._deliver(self._early.pop(0))

    def send(self, message: Message) -> None:
        if self.state == self.STATE_OPEN:
            self.sendMessage(messages.encode(message))

    def when_lost(self, act: Callable[[], None]) -> None:
        """Call C{act} when the connection is gone."""

        def gone(result: None) -> None:
            act()

        self.lost.addCallback(gone)

    def connectionMade(self) -> None:
        self.factory.made = self
        with contextlib.suppress(AttributeError, OSError):  # No TCP socket needs no probes.
            keep_alive(_socket_of(self.transport), 5, 3, 3)
        super().connectionMade()

    def onConnect(self, response: Any) -> None:
        try:
            self._challenge = base64.b64decode(response.headers.get(CHALLENGE_HEADER, ""))
        except binascii.Error:
            self._challenge = b""

    def onOpen(self) -> None:
        self.opened.callback(self._challenge)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        try:
            message = messages.decode(payload, messages.FROM_SERVER)
        except WireError as error:
            # A newer server may say more than this client understands.
            self._log.debug("a message was ignored: {error}", error=str(error))
            return
        self._deliver(message)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        if not self.opened.called:
            self.opened.errback(_HandshakeFailed(reason.value, self._status()))
        self.lost.callback(None)

    def _deliver(self, message: Message) -> None:
        receive = self._receive
        if receive is None:
            self._early.append(message)
            return
        if self._once:
            self._receive = None
        receive(message)

    def _status(self) -> int | None:
        line = getattr(self, "http_status_line", None)
        parts = line.split() if line else []
        return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None


class _SignallingFactory(WebSocketClientFactory):
    protocol = _SignallingProtocol
    noisy = False
    log = _Silent()
    made: _SignallingProtocol | None = None

    def __init__(self, route: Route) -> None:
        address = route.address
        headers = {"Authorization": f"Bearer {address.token}"} if address.token else {}
        super().__init__(route.url, headers=headers, useragent="relaytun", reactor=route.reactor)
        self.setProtocolOptions(
            maxFramePayloadSize=MAX_MESSAGE,
            maxMessagePayloadSize=MAX_MESSAGE,
            openHandshakeTimeout=0,  # The login has a deadline of its own.
            closeHandshakeTimeout=1,
            serverConnectionDropTimeout=1,
            tcpNoDelay=True,
            autoPingInterval=0,
            perMessageCompressionOffers=[],
        )


class _HandshakeFailed(Exception):
    """
    The connection ended before the WebSocket was open.

    @ivar status: the HTTP status of the answer, if there was one.
    """

    def __init__(self, reason: BaseException | None, status: int | None) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.status = status


@functools.cache
def _process() -> str:
    """
    What this process is called, for visitors that have to know whether it is still the same one.

    Not made when this is imported: the process may be a fork of the one that did that.
    """
    return secrets.token_hex(8)


def _socket_of(transport: Any) -> Any:
    """The TCP socket, also below TLS."""
    while hasattr(transport, "transport"):
        transport = transport.transport
    return transport.getHandle()


def _pin_error(address: ServerAddress, verification: object) -> LoginError | None:
    if isinstance(verification, PinnedServer) and verification.seen not in (
        None,
        address.fingerprint,
    ):
        return LoginError(
            f"{address.url()} is not the server of the invite: it shows the certificate "
            f"{verification.seen}, the invite says {address.fingerprint}. If the server was set "
            "up anew, get its new invite; otherwise somebody is in between",
        )
    return None


def _explain(address: ServerAddress, verification: object, error: Exception) -> LoginError:
    url = address.url()
    pin_error = _pin_error(address, verification)
    if pin_error is not None:
        return pin_error
    if isinstance(error, _HandshakeFailed):
        if error.status == 401:
            return LoginError(f"{url} refuses the token: get the current invite from the server")
        if error.status is not None:
            return LoginError(f"{url} is no relaytun server: it answers HTTP {error.status}")
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, ProxyError):
        return LoginError(f"{url} cannot be reached: {error.sentence}")
    if isinstance(error, SSL.Error):
        reasons = ", ".join(str(part[-1]) for part in error.args[0]) if error.args else ""
        return LoginError(
            f"{url} cannot be trusted: {reasons or 'TLS failed'}; use the server's invite, which "
            "pins its certificate, or a certificate that this machine trusts"
        )
    if isinstance(error, internet_error.DNSLookupError):
        return LoginError(f"{url} cannot be found: there is no host {address.host}")
    if isinstance(error, internet_error.ConnectionRefusedError):
        return LoginError(f"{url} cannot be reached: nothing listens there")
    if isinstance(error, (internet_error.TimeoutError, internet_error.TCPTimedOutError)) or (
        type(error).__name__ == "TimeoutError"
    ):
        return LoginError(f"{url} cannot be reached: no answer in {LOGIN_TIMEOUT:.0f} s")
    if isinstance(error, internet_error.ConnectError):
        return LoginError(f"{url} cannot be reached: {error.osError or error}")
    if isinstance(error, internet_error.ConnectionClosed | internet_error.ConnectionLost):
        return LoginError(f"{url} closed the connection; is it the control port of a server?")
    return LoginError(f"{url} cannot be used: {printable(str(error))}")
