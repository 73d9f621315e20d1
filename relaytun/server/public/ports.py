"""Public ports: a number of the server's own, TCP or UDP, that leads to a service."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from ...config import ConnectConfig
from ...config.values import bracketed
from ...ends.udp_visitor import VisitorDatagrams
from ...interfaces import IReactor
from ...plane.datagrams import ReceiveBuffer
from ..door import Accepted
from ..port import ListeningPort
from .title import Member, Title


class TcpPort(Title):
    """A TCP port whose connections are streams."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        host: str,
        number: int,
        holder: str,
        guarded: Callable[[Accepted], Accepted],
        has_room: Callable[[], bool],
    ) -> None:
        """
        @param host: the address to listen on.
        @param guarded: puts what every public connection passes first in front of L{serve}.
        @param has_room: whether there are descriptors for one more connection.
        """
        super().__init__("tcp", str(number), holder)
        self._port = ListeningPort(
            reactor, str(number), host, guarded(self.serve), has_room=has_room
        )

    def open(self) -> None:
        self._port.privilegedStartService()
        self._log.info("tcp port {number} is open", number=self.value)

    def close(self) -> None:
        self._port.free()
        self._log.info("tcp port {number} is closed", number=self.value)

    def urls(self, host: str) -> tuple[str, ...]:
        return (f"tcp://{bracketed(host)}:{self.value}",)


class UdpPort(Title):
    """A UDP port, each of whose senders is a flow; they all go to one member at a time."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        host: str,
        number: int,
        holder: str,
        buffer: ReceiveBuffer,
        admits: Callable[[str], bool] = lambda address: True,
    ) -> None:
        """@param admits: whether datagrams from an address may come."""
        super().__init__("udp", str(number), holder)
        self._serving: Member | None = None
        where = ConnectConfig(
            name="", target=None, service="a public service", local_host=host, local_port=number
        )
        self._datagrams = VisitorDatagrams(reactor, where, buffer, self._wanted, admits)

    def open(self) -> None:
        self._datagrams.privilegedStartService()
        self._datagrams.startService()

    def close(self) -> None:
        self._leave()
        self._datagrams.stopService()

    def changed(self) -> None:
        if self._serving is not None and self._serving not in self.members:
            self._leave()

    def urls(self, host: str) -> tuple[str, ...]:
        return (f"udp://{bracketed(host)}:{self.value}",)

    def _wanted(self) -> None:
        """There are datagrams, and nothing to carry them."""
        member = self.choose()
        if member is not self._serving:
            self._leave()
            self._serving = member
            if member is not None:
                member.visitor.serve_datagrams(self._datagrams)
        if member is not None:
            member.visitor.want_link()

    def _leave(self) -> None:
        if self._serving is not None:
            self._serving.visitor.leave_datagrams()
            self._serving = None


def ranges(ports: tuple[tuple[int, int], ...]) -> str:
    """Write ranges of ports as the configuration has them."""
    written = (f"{first}-{last}" if first != last else str(first) for first, last in ports)
    return ", ".join(written) or "none"
