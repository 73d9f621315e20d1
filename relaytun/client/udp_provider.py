"""
The provider's end of a udp service: a local socket for each flow of a link, so that the service
sees each of the visitor's programs as a sender of its own.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from ..ends.datagrams import DatagramPath, Datagrams
from ..ends.flows import FlowTable
from ..ends.resolve import addresses_of
from ..interfaces import IReactor
from ..plane.datagrams import Address, DatagramSocket, ReceiveBuffer, prepare_datagrams

#: Batches of datagrams that wait for the address of the service.
MOST_WAITING = 64


class ProviderDatagrams:
    """
    The flows of one link.

    @ivar dropped: datagrams that could not be handed to the service.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactor, path: DatagramPath, host: str, port: int, buffer: ReceiveBuffer
    ) -> None:
        """@param host, port: where the service is."""
        self.dropped = 0
        self._reactor = reactor
        self._path = path
        self._host = host
        self._port = port
        self._buffer = buffer
        self._flows: FlowTable[int, _Flow] = FlowTable(reactor, lambda flow: flow.close())
        self._addresses: list[tuple[socket.AddressFamily, str]] = []
        self._resolving: Deferred[None] | None = None
        self._waiting: list[tuple[int, Datagrams]] = []
        self._complained = False
        path.serve(self._flows, self._arrived)

    @property
    def flows(self) -> int:
        """How many there are now."""
        return len(self._flows)

    def close(self) -> None:
        """End the flows."""
        self._path.stop_serving()
        self._flows.close()
        if self._resolving is not None:
            self._resolving.cancel()
            self._resolving = None
        self._waiting.clear()

    def _arrived(self, number: int, datagrams: Datagrams) -> None:
        flow = self._flows.find(number)
        if flow is None:
            if not self._addresses:
                self._wait(number, datagrams)
                return
            flow = self._open(number)
            if flow is None:
                self.dropped += len(datagrams)
                return
        self.dropped += len(datagrams) - flow.send(datagrams)

    def _open(self, number: int) -> _Flow | None:
        """A new flow; when there is no descriptor for it, the one that was idle longest goes."""
        family, host = self._addresses[0]
        for _ in range(2):
            try:
                sock = socket.socket(family, socket.SOCK_DGRAM)
                break
            except OSError as error:
                if not self._flows.end_oldest():
                    self._complain(error.strerror or "no socket")
                    return None
        else:
            return None
        try:
            prepare_datagrams(sock)
            sock.connect((host, self._port))
        except OSError as error:
            sock.close()
            self._complain(error.strerror or "cannot be reached")
            return None
        flow = _Flow(self, self._path, number, sock)
        self._flows.add(number, flow)
        return flow

    def socket(self, flow: _Flow, sock: socket.socket) -> DatagramSocket:
        """The socket of a flow, under the reactor."""
        return DatagramSocket(
            self._reactor,
            sock,
            self._buffer,
            flow.received,
            self._path.flush,
            lambda: self._refused(flow),
        )

    def answered(self, number: int) -> None:
        """The service has sent something in this flow."""
        self._flows.find(number)
        self._complained = False

    def _refused(self, flow: _Flow) -> None:
        """Nobody is there; if the name has another address, what comes next goes there."""
        self._complain("connection refused")
        if not flow.answered and len(self._addresses) > 1:
            self._addresses.append(self._addresses.pop(0))
            self._flows.end(flow.number)

    def _wait(self, number: int, datagrams: Datagrams) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += len(datagrams)
            return
        self._waiting.append((number, [bytes(each) for each in datagrams]))
        if self._resolving is None:
            self._resolving = Deferred.fromCoroutine(self._resolve())
            self._resolving.addErrback(self._unresolved)

    async def _resolve(self) -> None:
        self._addresses = await addresses_of(self._reactor, self._host)
        self._resolving = None
        waiting, self._waiting = self._waiting, []
        for number, datagrams in waiting:
            self._arrived(number, datagrams)

    def _unresolved(self, failure: Any) -> None:
        self._resolving = None
        self.dropped += sum(len(datagrams) for _, datagrams in self._waiting)
        self._waiting.clear()
        if not failure.check(CancelledError):
            self._complain(failure.getErrorMessage())

    def _complain(self, why: str) -> None:
        """Once, until it answers again."""
        if not self._complained:
            self._complained = True
            self._log.warn(
                "the udp service does not answer at {host}:{port}: {why}",
                host=self._host,
                port=self._port,
                why=why,
            )


class _Flow:
    """
    @ivar number: its number in the link.
    @ivar answered: whether the service ever sent something.
    """

    __slots__ = ("_owner", "_path", "_socket", "answered", "number")

    def __init__(
        self, owner: ProviderDatagrams, path: DatagramPath, number: int, sock: socket.socket
    ) -> None:
        self.answered = False
        self._owner = owner
        self._path = path
        self.number = number
        self._socket = owner.socket(self, sock)

    def send(self, datagrams: Datagrams) -> int:
        """@return: how many the kernel took."""
        return self._socket.send(datagrams)

    def received(self, run: memoryview, size: int, address: Address) -> None:
        """The service sent this."""
        self.answered = True
        self._owner.answered(self.number)
        self._path.send_run(self.number, run, size)

    def close(self) -> None:
        """Let it go."""
        self._socket.close()
