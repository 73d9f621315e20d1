"""
The way that the datagrams of one link take: UDP straight to the other client, UDP through the
relay, or else the link itself.

Datagrams go by UDP while probes prove that the other side gets them, at their size, just now, on
that very way; any other time, and those that are too large, over the link.  Each direction decides
for itself.  What no way takes is dropped and counted.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence, Sized
from typing import Any, Protocol, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from ..interfaces import IReactor
from ..link.parties import DatagramUse
from ..link.sealing import Sealing
from ..plane.datagrams import Address, DatagramSocket, ReceiveBuffer, prepare_datagrams
from ..wire import datagram
from ..wire.datagram import CONTROL_FLOW
from ..wire.errors import WireError
from ..wire.preamble import Role
from .binding import Binding, DatagramSession
from .datagramway import Counts, Way, packet_sizes
from .directdatagrams import DirectDatagrams, PunchedPath
from .legs import ClientSession
from .resolve import addresses_of

#: Seconds between attempts to find the relay's address.
RESOLVE_AGAIN = 10.0

Datagrams: TypeAlias = Sequence[bytes | memoryview]


class DatagramLink(Protocol):
    """
    What is needed of a link.

    @ivar datagram_received: called with the flow and each datagram that came over the link.
    @ivar datagrams: who uses it for datagrams.
    @ivar bytes_out, bytes_in: of all that it carries, and of what takes UDP instead.
    """

    datagram_received: Callable[[int, memoryview], None]
    datagrams: DatagramUse | None
    bytes_out: int
    bytes_in: int

    def send_datagram(self, flow: int, payload: bytes | memoryview) -> bool:
        """@return: whether it was taken; not if there is no channel, or it is congested."""


def datagram_session(session: ClientSession) -> DatagramSession | None:
    """What C{session} tells of its datagrams; None if it is not for any."""
    if session.datagram_session is None:
        return None
    return DatagramSession(
        relay_host=session.relay.host,
        relay_port=session.relay.port,
        number=session.datagram_session,
        role=session.role,
        channel_key=session.channel_key,
    )


class DatagramPath:
    """
    @ivar received: gets flow and datagrams that came in, in the order in which they came.
    @ivar flows: those that there are now.
    @ivar by_link: how many went over the link.
    """

    _log = Logger()

    def __init__(
        self, reactor: IReactor, link: DatagramLink, role: Role, buffer: ReceiveBuffer
    ) -> None:
        """@param role: our side of the link."""
        self.received: Callable[[int, Datagrams], None] = lambda flow, datagrams: None
        self.flows: Sized = ()
        self.by_link = 0
        self._reactor = reactor
        self._link = link
        self._buffer = buffer
        self._sealing = Sealing(role)
        self._session: DatagramSession | None = None
        self._socket: DatagramSocket | None = None
        self._binding: Binding | None = None
        self._through_relay = Counts()
        self._relay = Way(
            reactor,
            self._sealing,
            self._through_relay,
            self._send_to_relay,
            probes=self._before_probe,
        )
        self._direct = DirectDatagrams(reactor, self._sealing, self._open)
        self._oversized = 0
        self._refused = 0
        self._complained = False
        self._resolving: Deferred[None] | None = None
        link.datagram_received = self._from_link
        link.datagrams = self

    # What the link and its session say

    def new_secret(self, epoch: int, secret: bytes) -> None:
        """
        The link has a new main channel.

        @param epoch: its generation.
        @param secret: the 64 bytes that TLS exports on it, see L{relaytun.link.sealing}.
        """
        self._sealing.renew(epoch, secret)
        self._direct.hurry()
        if self._binding is not None:
            if self._binding.bound:
                self._relay.probing.hurry()
            else:
                self._reopen()

    def use_session(self, session: DatagramSession | None) -> None:
        """
        Datagrams travel in C{session} from now on; None: it is over, and there is no other.

        Its C{relay_host} is best the address to which the link's own legs got through.
        """
        if session == self._session:
            return
        self._leave()
        self._session = session
        if session is not None:
            self._resolving = Deferred.fromCoroutine(self._enter(session))
            self._resolving.addErrback(self._unresolved)

    def use_punched(self, path: PunchedPath, lost: Callable[[], None]) -> None:
        """
        C{path}, which is taken over, leads straight to the other client.

        @param lost: called when there is no such path any more.
        """
        self._direct.lost = lost
        self._direct.adopt(path)

    def serve(self, flows: Sized, received: Callable[[int, Datagrams], None]) -> None:
        """
        From now on the datagrams are those of C{flows}.

        @param received: see there.
        """
        self.flows = flows
        self.received = received

    def stop_serving(self) -> None:
        """From now on they are nobody's."""
        self.serve((), lambda flow, datagrams: None)

    def close(self) -> None:
        """Let everything go."""
        self._leave()
        self._direct.close()
        self._session = None
        self.stop_serving()

    def report(self) -> dict[str, Any]:
        """What C{relaytun status --json} says besides what it says of any session."""
        way = self._way(0)
        return {
            "path": "link" if way is None else "udp" if way is self._relay else "direct",
            "byDirect": self.by_direct,
            "byUdp": self.by_udp,
            "byLink": self.by_link,
            "dropped": self.dropped,
        }

    @property
    def by_udp_now(self) -> bool:
        """Whether small datagrams go by UDP at the moment, through the relay or not."""
        return self._way(0) is not None

    @property
    def by_udp(self) -> int:
        """How many went by UDP through the relay."""
        return self._through_relay.sent

    @property
    def by_direct(self) -> int:
        """How many went straight to the other client."""
        return self._direct.counts.sent

    @property
    def dropped(self) -> int:
        """How many went nowhere."""
        return self._refused + self._through_relay.lost + self._direct.counts.lost

    @property
    def rtt(self) -> float | None:
        """Seconds to the other client and back by UDP, if it was ever measured."""
        way = self._way(0)
        return (way or self._relay).probing.rtt

    # What the flows send

    def send_run(self, flow: int, run: memoryview, size: int) -> None:
        """
        Send datagrams that are one behind the other; L{flush} has to follow.

        @param size: of each but the last.
        """
        self.send(flow, list(datagram.split(run, size)), size)

    def send(self, flow: int, datagrams: Datagrams, largest: int) -> None:
        """
        Send datagrams; L{flush} has to follow.

        @param largest: the size of the largest one.
        """
        way = self._way(largest)
        if way is not None:
            self._link.bytes_out += sum(map(len, datagrams))
            way.gather(flow, datagrams)
        elif len(datagrams) > 1 and min(map(len, datagrams)) < largest:
            for each in datagrams:
                self.send(flow, [each], len(each))
        else:
            for each in datagrams:
                # A copy: the buffer is good for this turn only, and the link may keep it longer.
                if self._link.send_datagram(flow, bytes(each)):
                    self.by_link += 1
                    self._link.bytes_out += len(each)
                else:
                    self._drop()

    def flush(self) -> None:
        """Send what was gathered."""
        self._relay.flush()
        direct = self._direct.way
        if direct is not None:
            direct.flush()

    def _way(self, size: int) -> Way | None:
        """The best one that takes a datagram of C{size} now, if it is not the link."""
        direct = self._direct.way
        if direct is not None and size <= direct.room:
            return direct
        return self._relay if size <= self._relay.room else None

    # What comes in

    def _from_link(self, flow: int, payload: memoryview) -> None:
        self._link.bytes_in += len(payload)
        self.received(flow, [payload])

    def _from_relay(self, run: memoryview, size: int, address: Address) -> None:
        """One run from our relay, as L{DatagramSocket} gives it."""
        if datagram.may_hold_bind(run, size):
            for packet in datagram.split(run, size):
                if datagram.may_hold_bind(packet, len(packet)) and self._binding is not None:
                    self._binding.received(packet)
                else:
                    self._open(self._relay, packet, len(packet))
        else:
            self._open(self._relay, run, size)

    def _open(self, way: Way, run: memoryview, size: int) -> None:
        """What came, and which way."""
        try:
            if datagram.session_of_run(run, size) != way.number:
                return
        except WireError:
            return
        flow, batch = -1, list[bytes]()
        for each, payload in self._sealing.open(run, size):
            if each != flow:
                if batch:
                    self._arrived(way, flow, batch)
                flow, batch = each, []
            batch.append(payload)
        if batch:
            self._arrived(way, flow, batch)

    def _arrived(self, way: Way, flow: int, payloads: list[bytes]) -> None:
        if flow != CONTROL_FLOW:
            self._link.bytes_in += sum(map(len, payloads))
            self.received(flow, payloads)
            return
        for payload in payloads:
            way.heard(payload)

    # The relay

    async def _enter(self, session: DatagramSession) -> None:
        addresses = await addresses_of(self._reactor, session.relay_host)
        family, host = addresses[0]
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            prepare_datagrams(sock, whole=True)
            sock.connect((host, session.relay_port))
        except OSError:
            sock.close()
            raise
        self._relay.number = session.number
        self._socket = DatagramSocket(
            self._reactor, sock, self._buffer, self._from_relay, refused=self._relay.probing.doubt
        )
        self._oversized = 0
        self._binding = Binding(self._reactor, session, self._tell_relay, self._bound, self._reopen)
        self._binding.start()

    def _reopen(self) -> None:
        """The relay is silent: it may be this machine's address that has changed."""
        session = self._session
        self.use_session(None)
        self.use_session(session)

    def _unresolved(self, failure: Any) -> None:
        """Without UDP everything goes over the link; but look again."""
        if failure.check(CancelledError):
            return
        self._log.info("no UDP to the relay: {why}", why=failure.getErrorMessage())
        session, self._session = self._session, None
        self._resolving = deferLater(
            self._reactor, RESOLVE_AGAIN, self.use_session, session
        ).addErrback(lambda failure: failure.trap(CancelledError))

    def _leave(self) -> None:
        if self._resolving is not None:
            self._resolving.cancel()
            self._resolving = None
        self._relay.stop()
        if self._binding is not None:
            self._binding.stop()
            self._binding = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _bound(self) -> None:
        self._relay.probing.start(self._sizes())

    def _tell_relay(self, packet: bytes) -> None:
        if self._socket is not None:
            self._socket.send([packet])

    def _before_probe(self) -> None:
        if self._relay.probing.unanswered and self._binding is not None:
            # It may be that a NAT has given us another address, where no answer finds us.
            self._binding.confirm()

    def _send_to_relay(self, packets: list[bytes]) -> int:
        if self._socket is None:
            return 0
        sent = self._socket.send(packets)
        if self._socket.oversized != self._oversized:
            # The kernel may have learned that the path takes less than it thought.
            self._oversized = self._socket.oversized
            self._relay.probing.resize(self._sizes())
        return sent

    def _sizes(self) -> list[int]:
        if self._socket is None:
            return []
        return packet_sizes(self._socket.mtu(), self._socket.address[0])

    def _drop(self) -> None:
        if not self._complained:
            self._complained = True
            self._log.warn("datagrams are dropped: neither UDP nor the link takes them now")
        self._refused += 1
