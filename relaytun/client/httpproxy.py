"""
Through an HTTP proxy: C{CONNECT}, with a name and a password if it wants them.

The proxy is told the host and the port, and sees what goes through it as anybody on the way
does: TLS with the server is made inside.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import unquote

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ..config import values
from ..interfaces import IReactor
from ..wire import httphead
from ..wire.errors import WireError
from ..wire.httphead import HeadReader
from ..wire.text import printable

#: Seconds for the proxy's answer, and for its connection to be made.
TIMEOUT = 10.0
#: Where its URL comes from if the configuration has none; the first that is set.
VARIABLES = ("HTTPS_PROXY", "https_proxy")

_PLACE = re.compile(r"[][A-Za-z0-9.:_%-]+")
#: 401 is wrong here, and is what tinyproxy says to a wrong password.
_WHO_ARE_YOU = (401, 407)
_DEFAULT_PORT = 8080
_FORM = "write the proxy as http://HOST:PORT, or as http://USER:PASSWORD@HOST:PORT"


class ProxyError(ConnectError):
    """The proxy does not connect; the text is a sentence for the user."""

    def __init__(self, sentence: str) -> None:
        super().__init__(string=sentence)
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True, slots=True)
class HTTPProxy:
    """
    @ivar credentials: C{USER:PASSWORD}, or empty.
    """

    host: str
    port: int
    credentials: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"the proxy {values.bracketed(self.host)}:{self.port}"


def parse_proxy(text: str) -> HTTPProxy:
    """
    Read C{http://[USER:PASSWORD@]HOST[:PORT]}; the port is 8080 if it is left out.

    @raise ValueError: if it is something else; the sentence does not repeat it, as it may have
        a password.
    """
    scheme, colon, rest = text.strip().partition("://")
    if colon and scheme.lower() != "http":
        raise ValueError(f"only proxies that are spoken to in plain HTTP can be used: {_FORM}")
    userinfo, _, place = (rest if colon else text.strip()).rpartition("@")
    place = place.removesuffix("/")
    if any(mark in place for mark in "/?#"):
        raise ValueError(f"not a proxy: {_FORM}")
    try:
        host, port = values.host_and_port(place, default=_DEFAULT_PORT)
    except ValueError as error:
        raise ValueError(f"not a proxy: {error}; {_FORM}") from None
    user, _, password = userinfo.partition(":")
    return HTTPProxy(host, port, f"{unquote(user)}:{unquote(password)}" if userinfo else "")


def proxy_for(
    host: str, configured: str | None, environment: Mapping[str, str] = os.environ
) -> HTTPProxy | None:
    """
    The proxy by which C{host} is reached, if there is one.

    @param configured: the user's word; without it the environment's counts, where C{NO_PROXY}
        lists the exceptions; this machine is always one.
    @raise ValueError: if it cannot be used.
    """
    if configured:
        return parse_proxy(configured)
    if _is_here(host):
        return None
    url = next((environment[name] for name in VARIABLES if environment.get(name)), "")
    if not url:
        return None
    exceptions = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if urllib.request.proxy_bypass_environment(host, {"no": exceptions}):  # type: ignore[attr-defined]
        return None
    try:
        return parse_proxy(url)
    except ValueError as error:
        raise ValueError(f"HTTPS_PROXY in the environment: {error}") from None


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@implementer(IStreamClientEndpoint)
class ProxyEndpoint:
    """Connections to one place, by way of a proxy."""

    def __init__(self, reactor: IReactor, proxy: HTTPProxy, host: str, port: int) -> None:
        self._reactor = reactor
        self._proxy = proxy
        self._target = f"{values.bracketed(host)}:{port}"
        self._address = HostnameAddress(host.encode("ascii", "replace"), port)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """
        @return: fires with the protocol when the proxy has connected.
        @raise ProxyError: (in the Deferred) if it does not.
        """
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> Any:
        proxy = self._proxy
        if not _PLACE.fullmatch(self._target):  # It may be a server's word.
            raise ProxyError("a proxy cannot be asked for a host with such a name")
        endpoint = HostnameEndpoint(self._reactor, proxy.host, proxy.port, timeout=TIMEOUT)
        try:
            connect: Any = await endpoint.connect(Factory.forProtocol(_Connect))
        except DNSLookupError:
            raise ProxyError(f"{proxy} cannot be found: there is no such host") from None
        except ConnectionRefusedError:
            raise ProxyError(f"{proxy} cannot be reached: nothing listens there") from None
        except ConnectError as error:
            raise ProxyError(f"{proxy} cannot be reached: {error.osError or error}") from None
        try:
            return await connect.tunnel(proxy, self._target, factory, self._address).addTimeout(
                TIMEOUT, self._reactor, _silent(proxy)
            )
        except BaseException:
            connect.transport.abortConnection()
            raise


def _silent(proxy: HTTPProxy) -> Callable[[object, float], NoReturn]:
    def silent(result: object, timeout: float) -> NoReturn:
        raise ProxyError(f"{proxy} does not answer in {timeout:.0f} s")

    return silent


class _Connect(Protocol):
    """The conversation with the proxy; then what goes through."""

    _proxy: HTTPProxy
    _target = ""
    _inner: Any = None

    def __init__(self) -> None:
        self._reader = HeadReader()
        self._ready: Deferred[Any] = Deferred()

    def tunnel(
        self, proxy: HTTPProxy, target: str, factory: IProtocolFactory, address: HostnameAddress
    ) -> Deferred[Any]:
        """Ask for it."""
        self._proxy = proxy
        self._target = target
        self._factory = factory
        self._address = address
        fields = [("Host", target), ("User-Agent", "relaytun")]
        if proxy.credentials:
            encoded = base64.b64encode(proxy.credentials.encode()).decode("ascii")
            fields.append(("Proxy-Authorization", f"Basic {encoded}"))
        assert self.transport is not None
        self.transport.write(httphead.write(f"CONNECT {target} HTTP/1.1", *fields))
        return self._ready

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self._ready.called:
            return
        try:
            head = self._reader.feed(data)
            if head is None:
                return
            status = head.status()
        except WireError:
            self._fail("gives an answer that is no HTTP; is it an HTTP proxy?")
            return
        if 200 <= status < 300:
            self._connected()
        elif status in _WHO_ARE_YOU and self._proxy.credentials:
            self._fail("refuses the user name and the password")
        elif status in _WHO_ARE_YOU:
            self._fail(
                "wants a user name and a password: write proxy = http://USER:PASSWORD@HOST:PORT"
            )
        elif status == 403:
            self._fail(
                f"does not allow connections to {self._target}: ask whoever runs it, or have the "
                "server listen on port 443"
            )
        else:
            reason = printable(head.start.partition(" ")[2], 80)
            self._fail(f"does not connect to {self._target}: it answers {reason}")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self._ready.called:
            self._fail("closed the connection without an answer; is it an HTTP proxy?")

    def _connected(self) -> None:
        assert self.transport is not None
        inner: Any = self._factory.buildProtocol(self._address)
        self._inner = inner
        inner.makeConnection(self.transport)
        if self._reader.rest:
            inner.dataReceived(self._reader.rest)
        self._ready.callback(inner)

    def _fail(self, why: str) -> None:
        if not self._ready.called:
            self._ready.errback(ProxyError(f"{self._proxy} {why}"))
