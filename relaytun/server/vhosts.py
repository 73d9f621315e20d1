"""
Host names: the HTTP port, the HTTPS port, the certificates, and the certificates that are obtained.

::

    Vhosts
    |-- ListeningPort     HTTP
    |-- ListeningPort     HTTPS, unless it is the control port
    |-- Certificates      a folder that is looked at again and again
    `-- Acme              obtains and renews

Which names there are is for L{relaytun.server.public} to say: it adds to C{routes} and to
C{passed_through}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred

from ..config import ServerConfig
from ..interfaces import IReactor
from .admission import Admission
from .http.factory import HttpFactory
from .http.routes import Routes
from .https.acme import Acme
from .https.certificates import Certificates
from .https.front import HttpsFront
from .port import ListeningPort
from .public.names import Serve, base_of, passed_through

Wrap = Callable[[Serve], Serve]


class Vhosts(MultiService):
    """
    @ivar routes: of HTTP host names.
    @ivar passed_through: who serves the host names whose TLS ends at the service.
    """

    def __init__(
        self,
        reactor: IReactor,
        config: ServerConfig,
        admission: Admission,
        *,
        guarded: Wrap,
        admitted: Wrap,
        has_room: Callable[[], bool],
        observe: Callable[[int], None],
    ) -> None:
        """
        @param guarded: puts what every public connection passes first in front of it.
        @param admitted: the same for connections whose PROXY header is read: those of the control
            port.
        @param has_room: whether there are descriptors for one more connection.
        @param observe: told of the status of each answer.
        @raise UserError: if a certificate or the ACME library cannot be used.
        """
        super().__init__()
        self.routes = Routes()
        self.passed_through: dict[str, Serve] = {}
        self._config = config
        self._reactor = reactor
        self._admission = admission
        self._guarded = guarded
        self._admitted = admitted
        self._acme: Acme | None = None
        self._certificates = Certificates(config.certificates, reactor)
        self._certificates.setServiceParent(self)
        if config.acme is not None and self.has_https:
            kinds = ["tls-alpn-01"]
            if config.vhost_http is not None:
                kinds.insert(0, "http-01")
            self._acme = Acme(
                reactor,
                config.state_dir,
                config.acme,
                config.acme_email,
                config.acme_ca,
                self._certificates,
                kinds,
            )
            self._acme.setServiceParent(self)
        self._factories = [
            HttpFactory(
                reactor,
                self.routes,
                secure=secure,
                response_timeout=config.response_timeout,
                own_page=self._own_page,
                observe=observe,
                has_room=has_room,
            )
            for secure in (False, True)
        ]
        self._fronts: list[HttpsFront] = []
        self._http: ListeningPort | None = None
        self._https: ListeningPort | None = None
        plain, _ = self._factories
        if config.vhost_http is not None:
            self._http = self._listening(config.vhost_http, guarded(plain.serve), has_room)
        if config.vhost_https is not None and not self.shares_control:
            self._https = self._listening(config.vhost_https, self.https(None), has_room)

    @property
    def has_http(self) -> bool:
        """Whether there is a port for HTTP host names, with or without TLS."""
        return self._config.vhost_http is not None or self.has_https

    @property
    def has_https(self) -> bool:
        """Whether there is a port for TLS."""
        return self._config.vhost_https is not None

    @property
    def shares_control(self) -> bool:
        """Whether the control port is the HTTPS port, too."""
        # Two ports that the system picks are two.
        return self._config.vhost_https == self._config.control != "0"

    @property
    def ports(self) -> Iterator[tuple[str, ListeningPort]]:
        """Those that are its own, by what they are for."""
        if self._http is not None:
            yield "http", self._http
        if self._https is not None:
            yield "https", self._https

    def https(self, other: Serve | None) -> Serve:
        """
        What takes the connections of an HTTPS port.

        @param other: takes those that are for no host name.
        """
        _, secure = self._factories
        front = HttpsFront(
            self._reactor,
            passthrough=self._who_serves,
            certificates=self._certificates,
            http=secure,
            other=other,
            admission=self._admission,
            admitted=self._admitted if other is not None else lambda serve: serve,
            is_public=self.is_public if other is not None else lambda name: True,
        )
        self._fronts.append(front)
        return self._guarded(front.accepted) if other is None else front.accepted

    def bases(self, host: str, control: int) -> tuple[str, ...]:
        """
        The beginnings of the URLs of an HTTP host name.

        @param control: the number of the control port.
        """
        found = []
        if self._http is not None:
            found.append(base_of("http", host, self._http.number))
        if self.has_https and (self._acme is not None or self._certificates.credential(host)):
            found.append(base_of("https", host, self.https_port(control)))
        return tuple(found)

    def https_port(self, control: int) -> int:
        """@param control: the number of the control port."""
        return self._https.number if self._https is not None else control

    def is_public(self, name: str) -> bool:
        """
        Whether somebody has registered a host name, or a wildcard above it.

        Where clients sign in as well, a certificate alone says nothing: the server's own name may
        have one in the folder.  Nor may a wildcard take that name away.

        @param name: in lower case.
        """
        if name == (self._config.public_host or "").lower():
            return False
        return self.routes.has_host(name) or self._who_serves(name) is not None

    def names_changed(self) -> None:
        """Names of HTTP services have come or gone."""
        if self._acme is not None:
            self._acme.want(self.routes)

    @property
    def connections(self) -> int:
        """How many visitors are connected to an HTTP host name."""
        return sum(factory.visitors for factory in self._factories)

    def close(self) -> None:
        """Take no new connections; let what is being answered be answered."""
        for _, port in self.ports:
            port.close()
        for factory in self._factories:
            factory.drain()

    def stopService(self) -> Deferred[Any]:
        for front in self._fronts:
            front.stop()
        for factory in self._factories:
            factory.stop()
        stopped: Deferred[Any] = super().stopService()
        return stopped

    def _own_page(self, path: str) -> bytes | None:
        return self._acme.challenge(path) if self._acme is not None else None

    def _who_serves(self, name: str) -> Serve | None:
        if name == (self._config.public_host or "").lower():
            return None  # Whoever has a wildcard above it: clients need to come in.
        return passed_through(self.passed_through, name)

    def _listening(
        self, description: str, accepted: Serve, has_room: Callable[[], bool]
    ) -> ListeningPort:
        port = ListeningPort(
            self._reactor, description, self._config.host, accepted, has_room=has_room
        )
        port.setServiceParent(self)
        return port
