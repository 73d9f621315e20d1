"""Public host names: found by the Host of HTTP requests, or by the name in a TLS handshake."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from ...plane.pair import End, pair
from ...wire.messages import Exposure
from ..http.routes import Route, Routes, Unreachable
from .prefix import header
from .title import Member, Title

Serve = Callable[[socket.socket, Any], None]


class HttpName(Title):
    """
    A host name, and a prefix of the path, of the HTTP ports.

    Each request of a group gets the member whose turn it is; its settings are those of the first.
    """

    def __init__(
        self,
        value: str,
        holder: str,
        exposure: Exposure,
        routes: Routes,
        bases: Callable[[str], tuple[str, ...]],
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """
        @param value: host name and prefix, such as C{app.example.com/api}.
        @param bases: gives the beginnings of the URLs of a host name.
        @param has_room: whether there are descriptors for one more connection to a service.
        """
        super().__init__("http", value, holder)
        self.host, slash, path = value.partition("/")
        self.location = slash + path
        self._routes = routes
        self._bases = bases
        self._has_room = has_room
        self._exposure = exposure
        self._route: Route | None = None
        self._of_members: dict[Member, Route] = {}

    def open(self) -> None:
        self._route = self._make_route(self._open, self._chosen if self._exposure.group else None)
        self._routes.add(self._route)

    def changed(self) -> None:
        for member in self._of_members.keys() - set(self.members):
            self._routes.forget(self._of_members.pop(member))

    def close(self) -> None:
        if self._route is not None:
            self._routes.remove(self._route)
            self._route = None
        self.members.clear()
        self.changed()

    def urls(self, host: str) -> tuple[str, ...]:
        return tuple(base + self.location for base in self._bases(self.host))

    def _make_route(
        self, open: Callable[[tuple[str, int]], End], choose: Callable[[], Route] | None = None
    ) -> Route:
        exposure = self._exposure
        return Route(
            host=self.host,
            open=open,
            location=self.location,
            host_header_rewrite=exposure.host_header_rewrite or None,
            request_headers=exposure.request_headers,
            response_headers=exposure.response_headers,
            user=exposure.http_user or None,
            password=exposure.http_password,
            may_reuse=not exposure.proxy_protocol,  # That says who the visitor is.
            choose=choose,
        )

    def _chosen(self) -> Route:
        """The route to the member that gets the next request."""
        member = self._next()
        if member not in self._of_members:
            self._of_members[member] = self._make_route(partial(self._open_to, member))
        return self._of_members[member]

    def _open(self, address: tuple[str, int]) -> End:
        return self._open_to(self._next(), address)

    def _next(self) -> Member:
        member = self.choose()
        if member is None:
            raise Unreachable("The health check of the service fails.")
        return member

    def _open_to(self, member: Member, address: tuple[str, int]) -> End:
        if not self._has_room():
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        near, far = pair()
        version = member.exposure.proxy_protocol
        if isinstance(version, str):
            near.send(header(version, address, None))
        member.visitor.serve(far, address)
        return near


class TlsName(Title):
    """A host name of the HTTPS port whose TLS ends at the service."""

    def __init__(
        self, value: str, holder: str, table: dict[str, Serve], port: Callable[[], int]
    ) -> None:
        """@param table: who serves each name; one that begins with C{*.} is a wildcard."""
        super().__init__("tls", value, holder)
        self._table = table
        self._port = port

    def open(self) -> None:
        self._table[self.value] = self.serve

    def close(self) -> None:
        self._table.pop(self.value, None)

    def urls(self, host: str) -> tuple[str, ...]:
        return (base_of("https", self.value, self._port()) + "/",)


def passed_through(table: dict[str, Serve], name: str) -> Serve | None:
    """Who serves the TLS of a host name: the name's own, or the nearest wildcard's."""
    found = table.get(name)
    while found is None and "." in name:
        name = name.partition(".")[2]
        found = table.get("*." + name)
    return found


def base_of(scheme: str, host: str, port: int) -> str:
    """The beginning of a URL, without the port that goes without saying."""
    usual = {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{host}" if port == usual else f"{scheme}://{host}:{port}"
