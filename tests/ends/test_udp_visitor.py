"""Tests of L{relaytun.ends.udp_visitor}, with L{relaytun.client.udp_provider} at the far end."""

from __future__ import annotations

import socket
from collections.abc import Callable

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from relaytun.client.udp_provider import ProviderDatagrams
from relaytun.config import ConnectConfig
from relaytun.ends.flows import IDLE, MOST_FLOWS
from relaytun.ends.udp_visitor import MOST_WAITING, WORTH_WAITING, VisitorDatagrams
from relaytun.errors import UserError

from .datagram_support import Network

CONNECT = ConnectConfig(
    name="game", target="b", service="game", local_host="127.0.0.1", local_port=0
)


class VisitorTests(SynchronousTestCase):
    """
    @ivar service: the provider's service, a plain socket.
    """

    def setUp(self) -> None:
        self.net = Network()
        self.addCleanup(self.net.close)
        self.service = self.program()
        self.wanted = 0
        self.visitor = self.make(CONNECT)
        self.visitor.startService()
        self.provider = ProviderDatagrams(
            self.net.reactor,  # type: ignore[arg-type]
            self.net.provider,
            *self.service.getsockname(),
            self.net.buffer,
        )
        self.addCleanup(self.provider.close)

    def make(
        self, connect: ConnectConfig, admits: Callable[[str], bool] = lambda address: True
    ) -> VisitorDatagrams:
        visitor = VisitorDatagrams(
            self.net.reactor,  # type: ignore[arg-type]
            connect,
            self.net.buffer,
            self.want,
            admits,
        )
        visitor.privilegedStartService()
        self.addCleanup(visitor.stopService)
        return visitor

    def want(self) -> None:
        self.wanted += 1

    def program(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        self.addCleanup(sock.close)
        return sock

    def say(self, program: socket.socket, *payloads: bytes) -> None:
        for payload in payloads:
            program.sendto(payload, ("127.0.0.1", self.visitor.number))
        self.net.reactor.pump()

    def heard(self, sock: socket.socket) -> list[bytes]:
        came = []
        while True:
            try:
                came.append(sock.recv(65536))
            except BlockingIOError:
                return came

    def echo(self) -> None:
        """The service answers what it has got."""
        while True:
            try:
                data, address = self.service.recvfrom(65536)
            except BlockingIOError:
                break
            self.service.sendto(data.upper(), address)
        self.net.reactor.pump()

    def test_not_admitted(self) -> None:
        """Datagrams from an address that may not talk are dropped; a flow that there is goes on."""
        allowed = True
        self.visitor = self.make(CONNECT, lambda address: allowed and address == "127.0.0.1")
        self.net.prove()
        self.visitor.use_path(self.net.visitor)
        old, new = self.program(), self.program()
        self.say(old, b"one")
        allowed = False
        self.say(new, b"no")
        self.say(old, b"two")
        self.assertEqual(self.heard(self.service), [b"one", b"two"])
        self.assertEqual((self.visitor.dropped, self.visitor.flows, self.wanted), (1, 1, 0))

    def test_answers_find_their_sender(self) -> None:
        """Each program is a sender of its own for the service, and gets its own answers."""
        self.net.prove()
        self.visitor.use_path(self.net.visitor)
        programs = [self.program() for _ in range(5)]
        for n, program in enumerate(programs):
            self.say(program, b"from %d" % n, b"", b"again" * n)
        self.echo()
        for n, program in enumerate(programs):
            self.assertEqual(self.heard(program), [b"FROM %d" % n, b"", b"AGAIN" * n])
        self.assertEqual((self.visitor.flows, self.provider.flows), (5, 5))
        self.assertEqual(self.net.visitor.by_link, 0)

    def test_counted(self) -> None:
        """What the programs send and get is counted, whichever way it takes; probes are not."""
        self.net.prove()
        self.visitor.use_path(self.net.visitor)
        one, other = self.program(), self.program()
        self.say(one, b"x" * 1000, b"yy")
        self.say(other, b"z" * 65507)
        self.echo()
        for path in (self.net.visitor, self.net.provider):
            link = path._link
            self.assertEqual((link.bytes_out, link.bytes_in), (66509, 66509))
            self.assertEqual(len(path.flows), 2)
            counts = {"byDirect": 0, "byUdp": 2, "byLink": 1, "dropped": 0}
            self.assertEqual(path.report(), {"path": "udp", **counts})
        self.visitor.use_path(None)
        self.assertEqual(len(self.net.visitor.flows), 0)

    def test_bursts(self) -> None:
        """Bursts both ways lose nothing."""
        self.net.prove()
        self.visitor.use_path(self.net.visitor)
        program = self.program()
        for each in range(20):
            sent = [b"%04d" % (each * 50 + n) * 300 for n in range(50)]
            self.say(program, *sent)
            self.echo()
            self.assertEqual(self.heard(program), sent)

    def test_over_the_link(self) -> None:
        """Without UDP it is the same."""
        self.net.passes = lambda size: False
        self.net.connect()
        self.visitor.use_path(self.net.visitor)
        program = self.program()
        self.say(program, b"x" * 60000, b"small")
        self.echo()
        self.assertEqual(self.heard(program), [b"X" * 60000, b"SMALL"])

    def test_before_there_is_a_link(self) -> None:
        """The first datagrams ask for a link and wait for it; old ones and too many do not."""
        program = self.program()
        self.say(program, b"too old")
        self.assertEqual(self.wanted, 1)
        self.net.reactor.advance(WORTH_WAITING + 1)
        self.say(program, b"first", b"second")
        self.visitor.use_path(self.net.visitor)
        self.net.reactor.pump()
        self.assertEqual(self.heard(self.service), [b"first", b"second"])
        self.assertEqual(self.visitor.dropped, 1)
        self.visitor.use_path(None)
        self.say(program, *[b"%d" % n for n in range(MOST_WAITING + 10)])
        self.assertEqual(self.visitor.dropped, 11)
        self.visitor.use_path(self.net.visitor)
        self.net.reactor.pump()
        self.assertEqual(len(self.heard(self.service)), MOST_WAITING)

    def test_idle_flows_end(self) -> None:
        """A minute after its last datagram a flow is gone at both sides; the next one is new."""
        self.net.prove()
        self.visitor.use_path(self.net.visitor)
        program = self.program()
        self.say(program, b"a")
        self.net.reactor.run(IDLE * 1.5, 1)
        self.assertEqual((self.visitor.flows, self.provider.flows), (0, 0))
        self.heard(self.service)
        self.say(program, b"b")
        self.echo()
        self.assertEqual(self.heard(program), [b"B"])

    def test_answers_keep_a_flow(self) -> None:
        """A flow in which only the service speaks is in use."""
        self.net.prove()
        self.visitor.use_path(self.net.visitor)
        program = self.program()
        self.say(program, b"subscribe")
        _, address = self.service.recvfrom(100)
        for _ in range(10):
            self.net.reactor.run(IDLE / 4, 1)
            self.service.sendto(b"news", address)
            self.net.reactor.pump()
        self.assertEqual(self.heard(program), [b"news"] * 10)

    def test_many_sources(self) -> None:
        """However many sources there are, flows and sockets are bounded."""
        self.visitor.use_path(self.net.visitor)
        self.provider._flows._most = 10
        for n in range(4 * MOST_FLOWS):
            self.visitor._received(memoryview(b"x"), 1, ("127.0.0.1", n))
        self.assertEqual(self.visitor.flows, MOST_FLOWS)
        self.assertEqual(len(self.visitor._addresses), MOST_FLOWS)
        self.assertEqual(self.provider.flows, 10)

    def test_late_answers(self) -> None:
        """An answer to a flow that is over is nobody's."""
        self.visitor.use_path(self.net.visitor)
        self.net.visitor.received(99, [b"late"])
        self.visitor.stopService()
        self.net.visitor.received(1, [b"later"])
        self.assertEqual(self.visitor.flows, 0)

    def test_busy(self) -> None:
        """A busy port is an error that names it."""
        connect = msgspec.structs.replace(CONNECT, local_port=self.visitor.number)
        error = self.assertRaises(UserError, self.make, connect)
        self.assertIn(
            f"[connect:game] cannot listen on udp 127.0.0.1:{self.visitor.number}: ", str(error)
        )

    def test_numbers_of_flows(self) -> None:
        """Flow numbers begin anew after the last one; 0 is never one."""
        self.visitor._next_flow = 2**32 - 1
        flows = [self.visitor._new_flow(("127.0.0.1", n)) for n in range(2)]
        self.assertEqual(flows, [2**32 - 1, 1])
