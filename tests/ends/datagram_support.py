"""Both ends of a udp service and the relay between them, in one process and on one clock."""

from __future__ import annotations

import socket
from collections.abc import Callable
from itertools import compress
from typing import Any

from twisted.internet.task import Clock

from relaytun.ends.binding import DatagramSession
from relaytun.ends.datagrams import DatagramPath
from relaytun.link.parties import DatagramUse
from relaytun.plane.datagrams import DatagramSocket, ReceiveBuffer, prepare_datagrams
from relaytun.plane.meter import Meter
from relaytun.server.datagrams import DatagramRelay
from relaytun.wire.datagram import split
from relaytun.wire.preamble import Role

from ..polling import select

KEYS = {role: bytes([role]) * 32 for role in Role}


class PumpedReactor(Clock):
    """A clock, and real sockets that are read when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def pump(self) -> None:
        """Until there is nothing to be read; over loopback, what was sent is there."""
        while self.readers:
            ready, _ = select(self.readers)
            if not ready:
                return
            for reader in ready:
                if reader in self.readers:
                    reader.doRead()

    def run(self, seconds: float, step: float = 0.05) -> None:
        """Time passes."""
        for _ in range(round(seconds / step)):
            self.pump()
            self.advance(step)
        self.pump()


class FakeLink:
    """
    A link that has a channel, or has not.

    @ivar sent: what went this way.
    """

    def __init__(self) -> None:
        self.datagram_received: Callable[[int, memoryview], None] = lambda flow, payload: None
        self.datagrams: DatagramUse | None = None
        self.bytes_out = self.bytes_in = 0
        self.peer: FakeLink | None = None
        self.open = True
        self.sent: list[tuple[int, bytes]] = []

    def send_datagram(self, flow: int, payload: bytes | memoryview) -> bool:
        if not self.open:
            return False
        self.sent.append((flow, bytes(payload)))
        if self.peer is not None:
            self.peer.datagram_received(flow, memoryview(bytes(payload)))
        return True


class FakeSession:
    channel_keys = KEYS

    def __init__(self) -> None:
        self.meter = Meter()

    def welcomes(self, role: Role) -> bool:
        return True


class FakeSessions(dict[int, FakeSession]):
    def by_datagram(self, number: int) -> Any:
        return self.get(number)


class Punched:
    """
    One end of a punched path, in memory: what is sent is there when the reactor is pumped.

    @ivar passes: whether a packet passes; gets its size.
    @ivar largest: what the kernel takes.
    """

    address = ("127.0.0.1", 9)
    round_trip = 0.02

    def __init__(self, reactor: PumpedReactor) -> None:
        self.received: Callable[[bytes], None] = lambda data: None
        self.lost: Callable[[], None] = lambda: None
        self.passes: Callable[[int], bool] = lambda size: True
        self.largest = 65507
        self.closed = False
        self.peer = self
        self._reactor = reactor

    def send(self, data: bytes) -> bool:
        if self.passes(len(data)):
            self._reactor.callLater(0.01, self.peer.arrived, data)
        return len(data) <= self.largest

    def arrived(self, data: bytes) -> None:
        if not self.closed:
            self.received(data)

    def close(self) -> None:
        self.closed = True

    def die(self) -> None:
        """As L{relaytun.nat.path.UdpPath} does."""
        self.closed = True
        self.lost()


class Network:
    """
    A relay, a link, and the path at each side of it.

    @ivar passes: whether a packet to the relay passes; gets its size.
    """

    def __init__(self) -> None:
        self.reactor = PumpedReactor()
        self.buffer = ReceiveBuffer()
        self.sessions = FakeSessions({7: FakeSession()})
        self.passes: Callable[[int], bool] = lambda size: True
        self.relay = DatagramRelay(self.reactor, self.sessions, None)  # type: ignore[arg-type]
        self.relay_socket = self.udp()
        self.relay._socket = DatagramSocket(
            self.reactor,  # type: ignore[arg-type]
            self.relay_socket,
            self.buffer,
            self._to_relay,
        )
        self.links = {role: FakeLink() for role in Role}
        self.paths: dict[Role, DatagramPath] = {}
        for role, link in self.links.items():
            link.peer = self.links[role.other]
            self.paths[role] = DatagramPath(self.reactor, link, role, self.buffer)  # type: ignore[arg-type]
        self.closing: list[Callable[[], object]] = []

    @property
    def visitor(self) -> DatagramPath:
        return self.paths[Role.VISITOR]

    @property
    def provider(self) -> DatagramPath:
        return self.paths[Role.PROVIDER]

    def udp(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        prepare_datagrams(sock)
        return sock

    def session(self, role: Role, number: int = 7) -> DatagramSession:
        host, port = self.relay_socket.getsockname()
        return DatagramSession(host, port, number, role, KEYS[role])

    def connect(self) -> None:
        """Both sides have a session and a secret."""
        for role, path in self.paths.items():
            path.new_secret(1, bytes(range(64)))
            path.use_session(self.session(role))

    def prove(self) -> None:
        """UDP works and is known to."""
        self.connect()
        self.reactor.run(2)
        assert all(path.by_udp_now for path in self.paths.values())

    def punch(self) -> dict[Role, Punched]:
        """Both ends of a new path, which nobody has adopted yet."""
        one, other = ends = Punched(self.reactor), Punched(self.reactor)
        one.peer, other.peer = other, one
        return dict(zip(self.paths, ends, strict=True))

    def close(self) -> None:
        for close in self.closing:
            close()
        for path in self.paths.values():
            path.close()
        self.relay.stopService()

    def _to_relay(self, run: memoryview, size: int, address: Any) -> None:
        packets = list(split(run, size))
        passing = [self.passes(len(packet)) for packet in packets]
        if all(passing):
            self.relay.received(run, size, address)
            return
        for packet in compress(packets, passing):
            self.relay.received(packet, len(packet), address)
