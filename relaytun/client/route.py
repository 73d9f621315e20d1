"""How a client gets to one of its servers: straight or through a proxy, and by which paths."""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint

from ..config import ServerAddress, values
from ..interfaces import IReactor
from .httpproxy import HTTPProxy, ProxyEndpoint

#: The path of the server's WebSockets, unless it or the user says something else.
WS_PATH = "/relaytun"
#: What is behind it for legs.
LEG = "/leg"


@dataclass(frozen=True)
class Route:
    """
    @ivar proxy: what all connections to the server go through, if there is one.
    @ivar ws_path: of the control connection; begins with a slash, and does not end with one.
    """

    reactor: IReactor
    address: ServerAddress
    proxy: HTTPProxy | None = None
    ws_path: str = WS_PATH

    @property
    def url(self) -> str:
        """Of the control connection."""
        return self.address.url() + (self.ws_path or "/")

    @property
    def host(self) -> str:
        """For the Host field: without the port if that is the scheme's own."""
        host, port = values.bracketed(self.address.host), self.address.port
        return host if port == (443 if self.address.secure else 80) else f"{host}:{port}"

    def control(self, verification: IOpenSSLClientConnectionCreator) -> IStreamClientEndpoint:
        """Connections to the control port, with TLS if the server has it."""
        endpoint = self.to(self.address.host, self.address.port)
        return wrapClientTLS(verification, endpoint) if self.address.secure else endpoint

    def to(self, host: str, port: int) -> IStreamClientEndpoint:
        """Plain connections to somewhere at the server's."""
        if self.proxy is not None:
            proxied: IStreamClientEndpoint = ProxyEndpoint(self.reactor, self.proxy, host, port)
            return proxied
        direct: IStreamClientEndpoint = HostnameEndpoint(self.reactor, host, port)
        return direct
