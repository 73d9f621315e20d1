"""Tests of L{relaytun.client.gathering}: what a client offers, and whom it asks for that."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import DNSLookupError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.client import gathering as module
from relaytun.client.gathering import MOST, MOST_IN_ALL, Gathering, Offer, gathered
from relaytun.nat.guessing import Policy
from relaytun.nat.portmap import MappedPort
from relaytun.nat.reflection import Reflection
from relaytun.wire.messages import RelayAddress

HERE = "192.168.1.2"
OUTER = "203.0.113.1"


class FakeMapping:
    """A port of the router's that comes after so many seconds of waiting."""

    def __init__(self, clock: Clock, mapped: MappedPort | None) -> None:
        self.clock = clock
        self.mapped = mapped
        self.waits: list[float] = []
        self.released = 0

    def within(self, seconds: float) -> Deferred[None]:
        self.waits.append(seconds)
        return succeed(None)

    def release(self) -> None:
        self.released += 1


class FakeMappings:
    """
    @ivar asked: for which ports.
    @ivar made: what came of that, by protocol.
    """

    known = False
    patience = 1.0

    def __init__(self, clock: Clock, mapped: MappedPort | None) -> None:
        self.clock, self.mapped = clock, mapped
        self.asked: list[tuple[str, int]] = []
        self.made: dict[str, FakeMapping] = {}
        self.silent = False

    def ask(self, protocol: str, port: int) -> FakeMapping | None:
        self.asked.append((protocol, port))
        if self.silent:
            return None
        self.made[protocol] = FakeMapping(self.clock, self.mapped)
        return self.made[protocol]


class FakeTCPReflection:
    """Reflectors that have seen a TCP port."""

    port = 4000

    def __init__(self) -> None:
        self.done: Deferred[Reflection] = Deferred()
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class GatheringTests(SynchronousTestCase):
    """
    @ivar asked: the reflectors that were asked over UDP.
    @ivar udp: what they tell.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.local = [HERE]
        self.patch(module, "local_addresses", lambda: self.local)
        self.patch(module, "local_address_towards", lambda host: HERE)
        self.patch(module, "ask", self.ask)
        self.patch(module, "addresses_of", self.addresses_of)
        self.tcp = FakeTCPReflection()
        self.patch(module, "TCPReflection", lambda reactor, places: self.tcp)
        self.asked: list[list[tuple[str, int]]] = []
        self.udp: Deferred[Reflection] = Deferred()
        self.mappings = FakeMappings(self.clock, MappedPort(OUTER, 7, "pcp", 600))
        self.reflectors = (
            RelayAddress(host="reflector", port=1),
            RelayAddress(host="nowhere", port=2),
            RelayAddress(host="reflector", port=3),
        )

    async def addresses_of(self, reactor: Any, host: str) -> Any:
        if host == "nowhere":
            raise DNSLookupError
        return [(socket.AF_INET6, "2001:db8::9"), (socket.AF_INET, "192.0.2.9")]

    def ask(self, reactor: Any, sock: socket.socket, places: Any) -> Deferred[Reflection]:
        self.assertGreaterEqual(sock.fileno(), 0)
        self.asked.append(places)
        return self.udp

    def gather(
        self, lan_only: bool = False, mappings: Any = None, hard_nat: Policy = "predict"
    ) -> Deferred[Offer]:
        gathering = Gathering(
            self.clock,  # type: ignore[arg-type]
            lambda: self.reflectors,
            mappings,
            lan_only,
            hard_nat,
        )
        return gathered(gathering)

    def offer(self, **options: Any) -> Offer:
        """It is done."""
        offer: Offer = self.successResultOf(self.gather(**options))
        self.addCleanup(offer.close)
        return offer

    def seen(self, *ports: int, tcp: tuple[int, ...] = (4001, 4001)) -> None:
        """What the reflectors tell."""
        self.udp = succeed(
            Reflection(tuple((OUTER, port) for port in ports), 0.25 if ports else None)
        )
        self.tcp.done.callback(Reflection(tuple((OUTER, port) for port in tcp), 0.5))

    def candidates(self, offer: Offer) -> list[tuple[str, str, str, int]]:
        return [(each.protocol, each.kind, each.address, each.port) for each in offer.candidates]

    def test_all(self) -> None:
        """Own addresses and those that reflectors have seen, each once, over TCP and UDP."""
        self.seen(5001, 5001)
        offer = self.offer()
        assert offer.udp is not None
        port = offer.udp.getsockname()[1]
        self.assertEqual(self.asked, [[("192.0.2.9", 1), ("192.0.2.9", 3)]])
        self.assertEqual(
            self.candidates(offer),
            [
                ("tcp", "host", HERE, 4000),
                ("tcp", "reflexive", OUTER, 4001),
                ("udp", "host", HERE, port),
                ("udp", "reflexive", OUTER, 5001),
            ],
        )
        self.assertEqual(
            (offer.nat, offer.rtt, offer.asked, offer.tcp_port), ("easy", 0.25, True, 4000)
        )

    def test_open(self) -> None:
        """An own address that reflectors see as it is, is where guessing would begin."""
        self.local = [OUTER]
        self.seen(5001, 5001, tcp=(4000, 4000))
        kinds = [each.kind for each in self.offer().candidates if each.protocol == "tcp"]
        self.assertEqual(kinds, ["reflexive"])

    def test_hard(self) -> None:
        """Where a router gives one port after the other, those are offered, and the next ones."""
        self.seen(5001, 5003)
        offer = self.offer()
        self.assertEqual(offer.nat, "hard")
        ports = [each.port for each in offer.candidates if each.kind == "reflexive"]
        self.assertEqual(ports, [4001, 5001, 5003])
        self.assertEqual(
            [each for each in self.candidates(offer) if each[1] == "predicted"],
            [("udp", "predicted", OUTER, port) for port in range(5005, 5025, 2)],
        )

    def test_unpredictable(self) -> None:
        """Nothing is predicted where it cannot be, or the configuration does not let it."""
        cases: tuple[tuple[tuple[int, int], Policy], ...] = (
            ((5001, 5001), "birthday"),
            ((5001, 9000), "predict"),
            ((5001, 5002), "no"),
        )
        for ports, policy in cases:
            self.tcp = FakeTCPReflection()
            self.seen(*ports)
            offer = self.offer(hard_nat=policy)
            self.assertEqual({each.kind for each in offer.candidates}, {"host", "reflexive"})
            self.assertEqual(offer.hard_nat, policy)

    def test_blocked(self) -> None:
        """Where no reflector answers over UDP, TCP tells the time that it takes."""
        self.seen()
        offer = self.offer()
        self.assertEqual((offer.nat, offer.rtt), ("blocked", 0.5))

    def test_not_too_many(self) -> None:
        """What is seen outside is worth more than many own addresses."""
        self.local = [f"10.0.0.{number}" for number in range(1, 11)]
        self.seen(5001, 5003)
        candidates = self.offer().candidates
        udp = [each.kind for each in candidates if each.protocol == "udp"]
        self.assertEqual(
            udp,
            ["host"] * (MOST - 2) + ["reflexive"] * 2 + ["predicted"] * (MOST_IN_ALL - 2 * MOST),
        )
        self.assertEqual(len(candidates), MOST_IN_ALL)

    def test_lan(self) -> None:
        """With C{direct = lan} nobody is asked, and only own addresses are offered."""
        offer = self.offer(lan_only=True, hard_nat="birthday")
        self.assertEqual((self.asked, self.mappings.asked, offer.hard_nat), ([], [], "no"))
        self.assertEqual({each.kind for each in offer.candidates}, {"host"})
        self.assertEqual({each.protocol for each in offer.candidates}, {"tcp", "udp"})
        self.assertFalse(offer.asked)
        with socket.socket() as other:
            self.assertRaises(OSError, other.bind, ("0.0.0.0", offer.tcp_port))

    def test_no_reflectors(self) -> None:
        """Without reflectors there are own addresses, and what the router maps."""
        self.reflectors = ()
        offer = self.offer(mappings=self.mappings)
        self.assertEqual([each.kind for each in offer.candidates], ["host", "mapped"] * 2)
        self.assertEqual(self.mappings.made["udp"].waits, [1.0])

    def test_ipv6(self) -> None:
        """Addresses of IPv6 are offered over TCP and UDP, with ports of their own."""
        self.local = [HERE, "2001:db8::2"]
        self.seen(5001)
        offer = self.offer()
        six = [each for each in offer.candidates if ":" in each.address]
        assert offer.udp6 is not None
        self.assertEqual(
            [(each.protocol, each.port) for each in six],
            [("tcp", offer.tcp6_port), ("udp", offer.udp6.getsockname()[1])],
        )
        self.assertNotEqual(offer.tcp6_port, 0)
        with socket.socket(socket.AF_INET6) as other:
            other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self.assertRaises(OSError, other.bind, ("::", offer.tcp6_port))
            offer.close()
            other.bind(("::", offer.tcp6_port))

    def test_no_ipv6(self) -> None:
        """A machine that cannot have such a socket does without."""

        def none() -> Any:
            raise OSError("address family not supported")

        self.patch(module, "only_ipv6", none)
        self.local = [HERE, "2001:db8::2"]
        self.seen(5001)
        offer = self.offer()
        self.assertIsNone(offer.udp6)
        self.assertEqual([each for each in offer.candidates if ":" in each.address], [])

    def test_mapped(self) -> None:
        """The router is asked for both ports, and what it gives is offered."""
        self.seen(5001, 5003)
        offer = self.offer(mappings=self.mappings)
        assert offer.udp is not None
        port = offer.udp.getsockname()[1]
        self.assertEqual(self.mappings.asked, [("udp", port), ("tcp", 4000)])
        mapped = [each for each in self.candidates(offer) if each[1] == "mapped"]
        self.assertEqual(mapped, [("tcp", "mapped", OUTER, 7), ("udp", "mapped", OUTER, 7)])
        udp = offer.take_mapping("udp")
        self.assertIsNone(offer.take_mapping("udp"))
        offer.close()
        offer.close()
        self.assertIs(udp, self.mappings.made["udp"])
        self.assertEqual([each.released for each in self.mappings.made.values()], [0, 1])

    def test_patience(self) -> None:
        """It is waited for a router only where nothing else helps, or where it has helped."""
        for ports, known, wait in (
            ((5001, 5001), False, 0.0),
            ((5001, 5001), True, 1.0),
            ((5001, 5003), False, 1.0),
        ):
            self.mappings.known = known
            self.tcp = FakeTCPReflection()
            self.seen(*ports)
            self.offer(mappings=self.mappings)
            self.assertEqual(self.mappings.made["udp"].waits, [wait])

    def test_parallel(self) -> None:
        """What reflectors take is not waited for a second time."""
        gathering = self.gather(mappings=self.mappings)
        self.clock.advance(0.75)
        self.udp.callback(Reflection(((OUTER, 1), (OUTER, 5)), 0.5))
        self.tcp.done.callback(Reflection())
        self.successResultOf(gathering).close()
        self.assertEqual(self.mappings.made["udp"].waits, [0.25])

    def test_silent_router(self) -> None:
        """A router that is not asked is not waited for."""
        self.mappings.silent = True
        self.mappings.mapped = None
        self.seen(5001, 5003)
        offer = self.offer(mappings=self.mappings)
        self.assertEqual(offer.mappings, {})

    def test_gives_nothing(self) -> None:
        """A router that gives nothing in time adds nothing."""
        self.mappings.mapped = None
        self.seen(5001, 5003)
        offer = self.offer(mappings=self.mappings)
        self.assertEqual([each for each in offer.candidates if each.kind == "mapped"], [])

    def test_given_up(self) -> None:
        """Whenever it is given up, or fails, all that was had is given back."""
        gathering = self.gather(mappings=self.mappings)
        gathering.cancel()
        self.failureResultOf(gathering, CancelledError)
        self.udp = fail(RuntimeError("a fault"))
        self.failureResultOf(self.gather(mappings=self.mappings), RuntimeError)
        self.assertEqual(self.tcp.closed, 2)
        self.assertEqual([each.released for each in self.mappings.made.values()], [1, 1])

    def test_take_udp(self) -> None:
        """Whoever takes the sockets has to close them."""
        self.local = [HERE, "2001:db8::2"]
        self.seen(5001)
        offer = self.offer()
        socks = offer.take_udp()
        self.assertEqual([sock.family for sock in socks], [socket.AF_INET, socket.AF_INET6])
        offer.close()
        self.assertEqual(offer.take_udp(), [])
        for sock in socks:
            self.assertGreaterEqual(sock.fileno(), 0)
            sock.close()
