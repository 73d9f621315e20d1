"""Tests of L{relaytun.nat.portmap}, with a router whose every answer the test decides."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.nat import portmap
from relaytun.nat.portmap import MappedPort, NoMapping, PortMapper

ROUTER = "127.0.0.1", 5351
OUTER = "203.0.113.5"


class Port:
    """A UDP socket of the fake network."""

    def __init__(self, protocol: Any, answer: Callable[[bytes], list[bytes]]) -> None:
        self.protocol = protocol
        self.sent: list[bytes] = []
        self.open = True
        self.broken = False
        self._answer = answer

    def write(self, data: bytes, place: tuple[str, int]) -> None:
        assert place == ROUTER and self.open
        if self.broken:
            raise OSError("network is unreachable")
        self.sent.append(data)
        for packet in self._answer(data):
            self.protocol.datagramReceived(packet, ROUTER)

    def stopListening(self) -> Deferred[None]:
        assert self.open
        self.open = False
        return succeed(None)


class Network(Clock):
    """A reactor with sockets that reach a router."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[Port] = []
        self.answer: Callable[[bytes], list[bytes]] = lambda data: []

    def listenUDP(self, number: int, protocol: Any, interface: str, size: int) -> Port:
        assert number == 0
        if interface != "127.0.0.1":
            raise CannotListenError(interface, number, OSError("no such address"))
        self.ports.append(Port(protocol, lambda data: self.answer(data)))
        return self.ports[-1]


class Pcp:
    """A router that speaks PCP."""

    def __init__(self, outer: str = OUTER, port: int = 7000, lifetime: int = 600) -> None:
        self.outer, self.port, self.lifetime, self.code = outer, port, lifetime, 0
        self.asked: list[int] = []

    def __call__(self, data: bytes) -> list[bytes]:
        if data[0] != 2:
            return []
        (wished,) = struct.unpack_from("!I", data, 4)
        self.asked.append(wished)
        return [self.response(data)]

    def response(self, data: bytes) -> bytes:
        head = struct.pack("!BBBBII12x", 2, 0x81, 0, self.code, self.lifetime, 1)
        address = bytes(10) + b"\xff\xff" + ipaddress.ip_address(self.outer).packed
        return head + data[24:42] + struct.pack("!H", self.port) + address


class Pmp:
    """A router that speaks NAT-PMP only, and says so when it is asked otherwise."""

    def __init__(self) -> None:
        self.given_back = False

    def __call__(self, data: bytes) -> list[bytes]:
        if data[0] == 2:
            return [struct.pack("!BBHI", 0, 0x81, 1, 9)]
        if data[1] == 0:
            return [struct.pack("!BBHI4s", 0, 0x80, 0, 9, ipaddress.ip_address(OUTER).packed)]
        _, operation, _, internal, external, lifetime = struct.unpack("!BBHHHI", data)
        self.given_back = not lifetime
        answer = 0, operation | 0x80, 0, 9, internal, external + 1, lifetime
        return [struct.pack("!BBHIHHI", *answer)]


class MapperTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.mapper = PortMapper(self.network, lambda: ROUTER[0])  # type: ignore[arg-type]
        self.changes: list[MappedPort | None] = []

    def map(self, protocol: str = "udp", port: int = 5000) -> Deferred[MappedPort]:
        return self.mapper.map(protocol, port, changed=self.changes.append)

    def assert_closed(self) -> None:
        """No socket and no timer is left."""
        self.assertFalse([port for port in self.network.ports if port.open])
        self.assertEqual(self.network.getDelayedCalls(), [])

    # --- Getting one ----------------------------------------------------------------------------

    def test_pcp(self) -> None:
        """A router that speaks PCP is asked once."""
        self.network.answer = router = Pcp()
        mapped = self.successResultOf(self.map())
        self.assertEqual(mapped, MappedPort(OUTER, 7000, "pcp", 600))
        self.assertEqual((mapped.place, mapped.private), ((OUTER, 7000), False))
        self.assertEqual(router.asked, [600])

    def test_natpmp(self) -> None:
        """One that says that it does not is asked by NAT-PMP at once."""
        self.network.answer = router = Pmp()
        mapped = self.successResultOf(self.map("tcp"))
        self.assertEqual(mapped, MappedPort(OUTER, 5001, "natpmp", 600))
        self.successResultOf(self.mapper.close())
        self.assertTrue(router.given_back)

    def test_silent_natpmp(self) -> None:
        """One that passes PCP over in silence is asked by NAT-PMP half a second later."""
        router = Pmp()
        self.network.answer = lambda data: [] if data[0] == 2 else router(data)
        done = self.map()
        self.network.pump([0.25, 0.25])
        self.assertEqual(self.successResultOf(done).by, "natpmp")

    def test_nobody(self) -> None:
        """Where nobody answers each question is sent twice, and after a second it is over."""
        done = self.map()
        self.network.pump([0.25] * 3)
        self.assertNoResult(done)
        self.network.advance(0.25)
        error = self.failureResultOf(done, NoMapping)
        self.assertEqual(error.getErrorMessage(), "the router does not answer")
        kinds = [packet[0] for packet in self.network.ports[0].sent]
        # And what might have been made although nobody said so is given back.
        self.assertEqual(kinds, [2, 2, 0, 0, 0, 0, 2, 0])
        self.assert_closed()

    def test_lost_packet(self) -> None:
        """A question or an answer may be lost."""
        done = self.map()
        self.network.answer = Pcp()
        self.network.advance(0.25)
        self.assertEqual(self.successResultOf(done).by, "pcp")

    def test_refused(self) -> None:
        """A router's reason is told."""
        self.network.answer = router = Pcp()
        router.code = 2
        done = self.map()
        self.network.pump([0.25, 0.25])
        error = self.failureResultOf(done, NoMapping)
        self.assertEqual(error.getErrorMessage(), "not authorized")
        self.assert_closed()

    def test_no_place(self) -> None:
        """A router that gives an unspecified address or no time gives nothing."""
        for router in (Pcp(outer="0.0.0.0"), Pcp(port=0), Pcp(lifetime=0), Pcp("224.0.0.1")):
            self.network.answer = router
            done = self.map()
            self.network.pump([0.25, 0.25])
            self.failureResultOf(done, NoMapping)
        self.assert_closed()

    def test_no_gateway(self) -> None:
        """Without a gateway, without a way to it, or after the end, there is none to be had."""
        nowhere = PortMapper(self.network, lambda: None)  # type: ignore[arg-type]
        self.failureResultOf(nowhere.map("udp", 1), NoMapping)

        def unreachable(host: str) -> str:
            raise OSError(101, "Network is unreachable")

        self.patch(portmap, "source_address", unreachable)
        error = self.failureResultOf(self.map(), NoMapping)
        self.assertIn("Network is unreachable", error.getErrorMessage())

        def gone(host: str) -> str:
            return "192.0.2.99"

        self.patch(portmap, "source_address", gone)
        self.failureResultOf(self.map(), NoMapping)
        self.successResultOf(self.mapper.close())
        self.failureResultOf(self.map(), NoMapping)

    def test_private(self) -> None:
        """A place behind another NAT is known as one."""
        for host in ("10.0.0.1", "172.31.0.1", "192.168.1.2", "100.64.0.2", "169.254.1.1"):
            self.assertTrue(MappedPort(host, 1, "pcp", 1).private, host)
        self.assertFalse(MappedPort("172.32.0.1", 1, "pcp", 1).private)

    def test_upnp(self) -> None:
        """What is neither of the two may be UPnP; it is renewed and given back there."""
        calls: list[tuple[Any, ...]] = []

        class Upnp:
            ready = False

            def map(self, *arguments: Any) -> Deferred[MappedPort]:
                calls.append(arguments)
                return succeed(MappedPort(OUTER, 6001, "upnp", 600))

            def unmap(self, *arguments: Any) -> Deferred[None]:
                calls.append(arguments)
                return succeed(None)

        mapper = PortMapper(self.network, lambda: ROUTER[0], upnp=Upnp())  # type: ignore[arg-type]
        done = mapper.map("tcp", 6000)
        self.network.pump([0.25] * 4)
        self.assertEqual(self.successResultOf(done).by, "upnp")
        self.network.advance(300)
        self.successResultOf(mapper.close())
        first, again = ("tcp", 6000, 6000, 600), ("tcp", 6000, 6001, 600)
        self.assertEqual(calls, [first, again, ("tcp", 6001)])
        self.assert_closed()

    def test_upnp_is_ready(self) -> None:
        """UPnP comes first where its router is found; what it does not give the others may."""
        answers = [succeed(MappedPort(OUTER, 6001, "upnp", 600)), fail(NoMapping("it is full"))]

        class Upnp:
            ready = False

            def search(self) -> Deferred[bool]:
                self.ready = True
                return succeed(True)

            def map(self, *arguments: Any) -> Deferred[MappedPort]:
                return answers.pop(0)

            def unmap(self, *arguments: Any) -> Deferred[None]:
                return succeed(None)

        mapper = PortMapper(self.network, lambda: ROUTER[0], upnp=Upnp())  # type: ignore[arg-type]
        self.assertTrue(self.successResultOf(mapper.search()))
        self.assertEqual(self.successResultOf(mapper.map("tcp", 6000)).by, "upnp")
        done = mapper.map("udp", 6000)
        port = self.network.ports[-1]
        port.protocol.datagramReceived(Pcp().response(port.sent[0]), ROUTER)
        self.assertEqual(self.successResultOf(done).by, "pcp")
        self.successResultOf(mapper.close())
        self.assert_closed()

    def test_nothing_to_search(self) -> None:
        """Without UPnP there is nothing that takes long."""
        self.assertFalse(self.successResultOf(self.mapper.search()))

    # --- Who else may speak ---------------------------------------------------------------------

    def test_stranger(self) -> None:
        """Only the router's own port is listened to."""
        done = self.map()
        (port,) = self.network.ports
        answer = Pcp().response(port.sent[0])
        for place in (("127.0.0.2", 5351), ("127.0.0.1", 5350)):
            port.protocol.datagramReceived(answer, place)
        self.assertNoResult(done)
        port.protocol.datagramReceived(answer, ROUTER)
        self.successResultOf(done)
        port.protocol.datagramReceived(answer, ROUTER)

    def test_forged(self) -> None:
        """An answer with another nonce, protocol or port is none, nor is nonsense."""
        done = self.map()
        (port,) = self.network.ports
        answer = Pcp().response(port.sent[0])
        for position in (24, 36, 40):
            forged = bytearray(answer)
            forged[position] ^= 6 ^ 17
            port.protocol.datagramReceived(bytes(forged), ROUTER)
        port.protocol.datagramReceived(b"", ROUTER)
        port.protocol.datagramReceived(b"\0nonsense", ROUTER)
        self.assertNoResult(done)

    def test_other_port(self) -> None:
        """By NAT-PMP, an answer that is for another port is none."""
        done = self.map()
        self.network.pump([0.25, 0.25])
        (port,) = self.network.ports
        for number in (4999, 5000):
            self.assertNoResult(done)
            question = struct.pack("!BBHHHI", 0, 1, 0, number, 80, 600)
            for packet in (b"\0\0", question):
                (answer,) = Pmp()(packet)
                port.protocol.datagramReceived(answer, ROUTER)
        self.successResultOf(done)

    def test_headless_refusal(self) -> None:
        """A refusal without the question in it counts."""
        done = self.map()
        (port,) = self.network.ports
        port.protocol.datagramReceived(Pcp().response(port.sent[0])[:24], ROUTER)
        head = struct.pack("!BBBBII12x", 2, 0x81, 0, 8, 30, 1)
        port.protocol.datagramReceived(head, ROUTER)
        self.network.pump([0.25, 0.25])
        error = self.failureResultOf(done, NoMapping)
        self.assertEqual(error.getErrorMessage(), "no resources")

    # --- Keeping and ending ---------------------------------------------------------------------

    def test_renewal(self) -> None:
        """It is renewed at half of what was given; the same place is no news, another one is."""
        self.network.answer = router = Pcp(lifetime=120)
        self.successResultOf(self.map())
        self.network.advance(60)
        self.assertEqual((router.asked, self.changes), ([600, 600], []))
        first, second = self.network.ports[0].sent
        self.assertEqual(first[24:36], second[24:36], "the nonce stays")
        self.assertEqual(second[42:44], struct.pack("!H", 7000), "it wishes for what it has")
        router.port = 7001
        self.network.advance(60)
        self.assertEqual(self.changes, [MappedPort(OUTER, 7001, "pcp", 120)])

    def test_short(self) -> None:
        """However little a router gives, it is not asked all the time."""
        self.network.answer = router = Pcp(lifetime=1)
        self.successResultOf(self.map())
        self.network.pump([0.5] * 20)
        self.assertEqual(len(router.asked), 3)

    def test_lost(self) -> None:
        """A router that is silent is asked again until the time is over; then it is lost."""
        self.network.answer = Pcp()
        self.successResultOf(self.map())
        self.network.answer = lambda data: []
        for _ in range(1205):
            self.network.advance(0.5)
        self.assertEqual(self.changes, [None])
        self.assert_closed()
        self.successResultOf(self.mapper.close())

    def test_back(self) -> None:
        """A router that comes back in time is not missed."""
        self.network.answer = router = Pcp()
        self.successResultOf(self.map())
        self.network.answer = lambda data: []
        self.network.pump([0.5] * 620)
        self.network.answer = router
        self.network.pump([0.5] * 800)
        self.assertEqual(self.changes, [])

    def test_no_network(self) -> None:
        """While there is no network it is as if nobody answered."""
        self.network.answer = router = Pcp()
        self.successResultOf(self.map())
        (port,) = self.network.ports
        port.broken = True
        self.network.pump([300, 0.25, 0.25])
        port.broken = False
        self.network.advance(150)
        self.assertEqual((len(router.asked), self.changes), (2, []))

    def test_close(self) -> None:
        """At the end all is given back, and nothing is left."""
        self.network.answer = router = Pcp()
        for protocol in ("udp", "tcp"):
            self.successResultOf(self.map(protocol))
        self.successResultOf(self.mapper.close())
        self.assertEqual(router.asked, [600, 600, 0, 0])
        for port in self.network.ports:
            self.assertEqual(port.sent[-1][42:60], bytes(12) + b"\xff\xff" + bytes(4))
        self.assert_closed()

    def test_unmap(self) -> None:
        """One port is given back, others are renewed all the same; a second time is nothing."""
        self.network.answer = router = Pcp()
        for protocol in ("udp", "tcp"):
            self.successResultOf(self.map(protocol))
        internal = next(iter(self.mapper._leases))._internal
        for protocol, port in (("udp", internal), ("udp", internal), ("tcp", internal + 1)):
            self.successResultOf(self.mapper.unmap(protocol, port))
        self.assertEqual(router.asked, [600, 600, 0])
        self.network.advance(300)
        self.assertEqual(router.asked, [600, 600, 0, 600])
        self.successResultOf(self.mapper.close())
        self.assert_closed()

    def test_close_early(self) -> None:
        """A question that is not answered yet ends with the rest."""
        done = self.map()
        self.successResultOf(self.mapper.close())
        self.failureResultOf(done, CancelledError)
        self.assertEqual(struct.unpack_from("!I", self.network.ports[0].sent[-1], 4), (0,))
        self.assert_closed()

    def test_close_while_renewing(self) -> None:
        """So does a renewal."""
        self.network.answer = Pcp()
        self.successResultOf(self.map())
        self.network.answer = lambda data: []
        self.network.advance(300)
        self.successResultOf(self.mapper.close())
        self.assert_closed()

    def test_cancel(self) -> None:
        """Who does not want it any more can say so."""
        done = self.map()
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assert_closed()
