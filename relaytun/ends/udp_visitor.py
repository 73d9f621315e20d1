"""
The visitor's end of a udp service: a local port, where each sender's address is a flow.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable

from twisted.application.service import Service
from twisted.logger import Logger

from ..config import ConnectConfig
from ..errors import UserError
from ..interfaces import IReactor
from ..plane.datagrams import Address, DatagramSocket, ReceiveBuffer, prepare_datagrams
from ..wire import datagram
from .datagrams import DatagramPath, Datagrams
from .flows import FlowTable

#: Datagrams, and their bytes, that wait for a link; and for how many seconds they are worth it.
MOST_WAITING = 64
MOST_WAITING_BYTES = 256 * 1024
WORTH_WAITING = 10.0


class VisitorDatagrams(Service):
    """
    The local end of a [connect:...] to a udp service.

    @ivar number: the port number; known once it is bound.
    @ivar dropped: datagrams that came while there was no link, and too many of them.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        connect: ConnectConfig,
        buffer: ReceiveBuffer,
        wanted: Callable[[], None],
        admits: Callable[[str], bool] = lambda address: True,
    ) -> None:
        """
        @param wanted: called when there is a datagram and no path, to have one made.
        @param admits: whether a new flow from an address may be.
        """
        self.number = connect.local_port
        self.dropped = 0
        self._reactor = reactor
        self._connect = connect
        self._buffer = buffer
        self._wanted = wanted
        self._admits = admits
        self._path: DatagramPath | None = None
        self._socket: DatagramSocket | None = None
        self._next_flow = 1
        self._flows: FlowTable[Address, tuple[int, Address]] = FlowTable(reactor, self._ended)
        self._addresses: dict[int, Address] = {}
        self._waiting: deque[tuple[float, int, bytes]] = deque()
        self._waiting_bytes = 0

    @property
    def flows(self) -> int:
        """How many there are now."""
        return len(self._flows)

    def privilegedStartService(self) -> None:
        """@raise UserError: if the port cannot be had."""
        connect = self._connect
        host = connect.local_host
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind((host, connect.local_port))
        except OSError as error:
            sock.close()
            place = f"[connect:{connect.name}] " if connect.name else ""
            raise UserError(
                f"{place}cannot listen on udp {host}:{connect.local_port}: {error.strerror}; "
                "choose another local port"
            ) from None
        prepare_datagrams(sock)
        self.number = sock.getsockname()[1]
        self._socket = DatagramSocket(
            self._reactor, sock, self._buffer, self._received, self._turn_over
        )

    def startService(self) -> None:
        super().startService()
        self._log.info(
            "udp {host}:{port} leads to {target}/{service}",
            host=self._connect.local_host,
            port=self.number,
            target=self._connect.provider,
            service=self._connect.service,
        )

    def stopService(self) -> None:
        super().stopService()
        self.use_path(None)
        self._flows.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def use_path(self, path: DatagramPath | None) -> None:
        """
        Where datagrams go from now on; None: they wait a moment for another one.

        The flows stay: to the other side of a new link they are new.
        """
        if path is self._path:
            return
        if self._path is not None:
            self._path.stop_serving()
        self._path = path
        if path is None:
            return
        path.serve(self._flows, self._answered)
        oldest = self._reactor.seconds() - WORTH_WAITING
        for since, flow, payload in self._waiting:
            if since >= oldest:
                path.send(flow, [payload], len(payload))
            else:
                self.dropped += 1
        self._waiting.clear()
        self._waiting_bytes = 0
        path.flush()

    def _received(self, run: memoryview, size: int, address: Address) -> None:
        found = self._flows.find(address)
        if found is None and not self._admits(address[0]):
            self.dropped += -(-len(run) // size)
            return
        flow = found[0] if found is not None else self._new_flow(address)
        if self._path is not None:
            self._path.send_run(flow, run, size)
            return
        for payload in datagram.split(run, size):
            self._wait(flow, bytes(payload))
        self._wanted()

    def _turn_over(self) -> None:
        if self._path is not None:
            self._path.flush()

    def _answered(self, flow: int, datagrams: Datagrams) -> None:
        address = self._addresses.get(flow)
        if address is not None and self._socket is not None:
            self._flows.find(address)
            self._socket.send(datagrams, address)

    def _new_flow(self, address: Address) -> int:
        flow = self._next_flow
        self._next_flow = flow % datagram.LAST_FLOW + 1
        self._flows.add(address, (flow, address))
        self._addresses[flow] = address
        return flow

    def _ended(self, flow: tuple[int, Address]) -> None:
        self._addresses.pop(flow[0], None)

    def _wait(self, flow: int, payload: bytes) -> None:
        self._waiting.append((self._reactor.seconds(), flow, payload))
        self._waiting_bytes += len(payload)
        while len(self._waiting) > MOST_WAITING or self._waiting_bytes > MOST_WAITING_BYTES:
            self._waiting_bytes -= len(self._waiting.popleft()[2])
            self.dropped += 1
