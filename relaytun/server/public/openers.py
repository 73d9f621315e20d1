"""Makes the titles that clients ask for; knows what each kind of them needs."""

from __future__ import annotations

from collections.abc import Callable

from ...ends.machinery import Machinery
from ...interfaces import IReactor
from ...plane.room import Room
from ...wire.messages import Exposure
from ..door import Accepted
from ..http.routes import Routes
from .names import HttpName, Serve, TlsName
from .ports import TcpPort, UdpPort
from .title import Title


class Openers:
    """For all kinds of titles."""

    def __init__(
        self,
        reactor: IReactor,
        host: str,
        machinery: Machinery,
        room: Room,
        guarded: Callable[[Accepted], Accepted],
        admits: Callable[[str], bool],
        routes: Routes,
        passed_through: dict[str, Serve],
        bases: Callable[[str], tuple[str, ...]],
        https_port: Callable[[], int],
    ) -> None:
        """
        @param host: the address that public ports listen on.
        @param room: whether there are descriptors for one more connection.
        @param guarded: puts what every public connection passes first in front of it.
        @param admits: whether datagrams from an address may come.
        @param routes, passed_through: where host names are found.
        @param bases: gives the beginnings of the URLs of an HTTP host name.
        """
        self._reactor = reactor
        self._host = host
        self._machinery = machinery
        self._room = room
        self._guarded = guarded
        self._admits = admits
        self._routes = routes
        self._passed_through = passed_through
        self._bases = bases
        self._https_port = https_port

    def title(self, kind: str, value: str, holder: str, exposure: Exposure) -> Title:
        """Make one; nothing is open yet."""
        if kind == "tcp":
            return TcpPort(
                self._reactor,
                self._host,
                int(value),
                holder,
                self._guarded,
                self._room.for_visitors,
            )
        if kind == "http":
            return HttpName(
                value, holder, exposure, self._routes, self._bases, self._room.for_streams
            )
        if kind == "tls":
            return TlsName(value, holder, self._passed_through, self._https_port)
        return UdpPort(
            self._reactor,
            self._host,
            int(value),
            holder,
            self._machinery.datagrams,
            self._admits,
        )
