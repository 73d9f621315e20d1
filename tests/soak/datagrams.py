"""The long forms of udp services."""

from __future__ import annotations

import random
import select
import threading
import time

from relaytun.ends.flows import MOST_FLOWS
from relaytun.wire.datagram import BIND_SIZE, MAGIC

from ..integration.processes import Process, eventually, program
from ..integration.udp import (
    EchoService,
    UdpTestCase,
    is_bind,
    udp_socket,
)
from .long import Soak
from .nat import INSIDE, OUTSIDE, NatTestCase, network_of

_MIB = 1024 * 1024


class BehindNat(NatTestCase, UdpTestCase):
    """
    Both clients behind a NAT, the server outside.

    @ivar player: a program on the clients' side.
    """

    def setUp(self) -> None:
        super().setUp()
        self.places.update(provider=self.inside, visitor=self.inside, server=self.outside)
        with network_of(self.inside):
            self.echo = EchoService()
        self.addCleanup(self.close_echo)
        self.run_server(host=OUTSIDE)
        self.run_provider(self.echo.port)
        self.run_visitor()
        with network_of(self.inside):
            self.player = self.sender()
        self.wait_for_path("udp")
        self.assertEqual(self.player.ask(b"before"), b"before")

    def close_echo(self) -> None:
        """It ends by a datagram of its own network."""
        with network_of(self.inside):
            self.echo.close()

    def run_server(self, config: str = "", host: str | None = None) -> Process:
        """Outside, where every port is free."""
        server = self.start_server(
            f"--host={host}", f"--public-host={host}", control="9000", relay="9001", config=config
        )
        self.daemons["server"] = server
        return server


class UdpFirewall(BehindNat, Soak):
    """A packet filter on the way that takes UDP away, and gives it back."""

    def test_there_and_back(self) -> None:
        """Datagrams take the link as long as UDP is dropped, or refused, and UDP again then."""
        self.nft("add", "chain", "ip", "nat", "way", "{ type filter hook forward priority 0; }")
        for verdict in ("drop", "reject"):
            self.nft("add", "rule", "ip", "nat", "way", "udp", "dport", "9001", verdict)
            begin = time.perf_counter()
            self.wait_for_answer(self.player)
            self.note(f"{verdict}: seconds until the link is taken", since(begin))
            self.assertEqual(self.player.ask(bytes(1400)), bytes(1400))
            self.wait_for_path("link")
            self.nft("flush", "chain", "ip", "nat", "way")
            begin = time.perf_counter()
            self.wait_for_path("udp")
            self.note(f"{verdict} no more: seconds until UDP is taken", since(begin))
            self.assertEqual(self.player.ask(b"after"), b"after")

    def nft(self, *arguments: str) -> None:
        """Tell the NAT's packet filter."""
        self.places["nft"] = self.nat
        done = self.start("nft", program("nft"), *arguments)
        self.assertEqual(done.wait(), 0, done.output)


class UdpIdleNat(BehindNat, Soak):
    """Nothing to do for a long time, and a NAT that forgets."""

    IDLE = 20 * 60

    def test_idle(self) -> None:
        """After long silence the first datagram is answered, by UDP."""
        with network_of(self.inside):
            mapped = udp_socket(INSIDE)
        with network_of(self.outside):
            far = udp_socket(OUTSIDE)
        for sock in (mapped, far):
            self.addCleanup(sock.close)
        # Another program's mapping, to see that the NAT does what it should.
        mapped.sendto(b"out", far.getsockname())
        _, behind = far.recvfrom(10)
        far.sendto(b"back", behind)
        self.assertEqual(mapped.recv(10), b"back")
        threading.Event().wait(self.IDLE)
        far.sendto(b"too late", behind)
        mapped.settimeout(2)
        with self.assertRaises(TimeoutError):
            mapped.recv(10)
        before = self.session("visitor")
        self.assertEqual((before["streams"], self.paths()), (0, {"udp"}))
        self.assertEqual(self.player.ask(b"after"), b"after")
        after = self.session("visitor")["datagrams"]
        self.assertEqual(after["byUdp"], before["datagrams"]["byUdp"] + 1)
        self.assertEqual((after["byLink"], after["dropped"]), (0, 0))
        self.note("minutes idle", f"{self.IDLE / 60:g}")
        self.note("seconds after which the NAT forgets", f"{self.FORGETS}")
        self.note("first datagram after it", "answered, by UDP")


class UdpSources(UdpTestCase, Soak):
    """Very many senders at one local port."""

    COUNT = 100_000
    AT_ONCE = 500
    #: MiB that a process may grow over all of them.
    MOST = 32

    def test_capped(self) -> None:
        """
        However many there are: flows, sockets and memory are bounded, one that plays on is served
        all the time, and when they are silent nothing of them stays.
        """
        echo = self.echo_service()
        self.run_tunnel(echo.port)
        self.wait_for_path("udp")
        player = self.sender()
        self.assertEqual(player.ask(b"before"), b"before")
        sockets = {name: daemon.sockets() for name, daemon in self.daemons.items()}
        memory = {name: daemon.memory() for name, daemon in self.daemons.items()}
        lost, most = 0, 0
        begin = time.perf_counter()
        for first in range(0, self.COUNT, self.AT_ONCE):
            for number in range(first, first + self.AT_ONCE):
                with udp_socket(address(number)) as source:
                    source.sendto(b"%d" % number, ("127.0.0.1", self.port))
            lost += not player.answered(b"%d" % first, 5)
            most = max(most, self.session("provider")["streams"])
        seconds = time.perf_counter() - begin
        self.note("senders", f"{self.COUNT:,}")
        self.note("seconds", f"{seconds:.0f}")
        self.note("flows at once, at most", f"{most:,}")
        self.assertLessEqual(most, MOST_FLOWS)
        self.assertLessEqual(self.session("visitor")["streams"], MOST_FLOWS)
        self.assertEqual(lost, 0)
        heard = echo.heard.total() - 1 - self.COUNT // self.AT_ONCE
        self.note("datagrams of theirs that reached the service", f"{heard:,}")
        self.assertEqual(heard, self.COUNT)
        for name, daemon in self.daemons.items():
            held = daemon.sockets() - sockets[name]
            growth = (daemon.memory() - memory[name]) / _MIB
            self.note(f"sockets more at the {name}", f"{held:,}")
            self.note(f"MiB that the {name} grew", f"{growth:.1f}")
            self.assertLessEqual(held, MOST_FLOWS)
            self.assertLess(growth, self.MOST, name)
        eventually(
            lambda: (
                all(self.session(name)["streams"] == 0 for name in ("visitor", "provider"))
                and all(self.daemons[name].sockets() <= sockets[name] for name in sockets)
            ),
            lambda: f"{self.session('provider')} and {self.daemons['provider'].sockets()} sockets",
            patience=120,
        )


def since(begin: float) -> str:
    """Seconds, as a result."""
    return f"{time.perf_counter() - begin:.1f}"


def address(number: int) -> str:
    """One of very many of this machine."""
    return f"127.{number // 62500 + 1}.{number // 250 % 250}.{number % 250 + 1}"


class UdpFuzz(UdpTestCase, Soak):
    """Strangers at the relay's UDP port, who have listened to it, too."""

    SECONDS = 60.0
    AT_ONCE = 200
    MOST = 8

    def test_strangers(self) -> None:
        """
        Garbage, altered and replayed packets from everywhere: no answer is larger than its
        question, nothing grows, and the service goes on.
        """
        echo = self.echo_service()
        router = self.run_tunnel_behind_router(echo.port)
        heard: list[bytes] = []
        withheld: list[bytes] = []

        def withhold(packet: bytes) -> bool:
            if is_bind(packet):
                withheld.append(packet)
            return not is_bind(packet)

        def overhear(packet: bytes) -> bool:
            if len(heard) < 1000:
                heard.append(packet)
            return True

        router.passes = overhear
        player = self.sender()
        self.wait_for_path("udp")
        for size in range(0, 1500, 10):
            self.assertEqual(player.ask(bytes(size)), bytes(size))
        # A good question that the relay has not seen yet: the next keep-alive.
        router.passes = withhold
        eventually(lambda: bool(withheld), lambda: "no keep-alive comes")
        good = withheld[0]
        relay = "127.0.0.1", self.ports[1]
        strangers = [udp_socket(f"127.3.0.{n}") for n in range(1, 51)]
        for stranger in strangers:
            self.addCleanup(stranger.close)
        server = self.daemons["server"]
        sent = answers = largest = lost = questions = 0
        for _ in range(3):
            strangers[0].sendto(good, relay)
        router.unblock()
        memory, begin = server.memory(), time.monotonic()
        while time.monotonic() - begin < self.SECONDS:
            for stranger in random.choices(strangers, k=self.AT_ONCE):
                packet = self.packet(heard)
                stranger.sendto(packet, relay)
                sent += 1
            questions += 1
            lost += not player.answered(b"%d" % questions, 5)
            for stranger in select.select(strangers, [], [], 0)[0]:
                answer = stranger.recv(65536)
                answers += 1
                largest = max(largest, len(answer))
                self.assertIs(stranger, strangers[0])
        growth = (server.memory() - memory) / _MIB
        self.note("packets of strangers", f"{sent:,}")
        self.note("answers to them", f"{answers}")
        self.note("MiB that the server grew", f"{growth:.1f}")
        self.note("questions of a player, and lost ones", f"{questions:,}, {lost}")
        # The good one is answered by a cookie, once; that it came from there binds nothing.
        self.assertEqual((answers, largest), (1, BIND_SIZE))
        self.assertEqual(lost, 0)
        self.assertLess(growth, self.MOST)
        self.assertNotIn("Traceback", server.output)

    @staticmethod
    def packet(heard: list[bytes]) -> bytes:
        """One that a stranger may send."""
        kind = random.randrange(6)
        known = bytearray(random.choice(heard))
        if kind == 0:
            return random.randbytes(random.randrange(2000))
        if kind == 1:
            return bytes(known)
        if kind == 2:
            known[random.randrange(len(known))] ^= 1 << random.randrange(8)
            return bytes(known)
        if kind == 3:
            return bytes(known[: random.randrange(len(known) + 1)])
        if kind == 4:
            body = random.randbytes(random.randrange(1500))
            return bytes(known[:4]) + len(body).to_bytes(2, "big") + body
        body = MAGIC + bytes([random.randrange(4), random.randrange(4), 0, 0])
        return bytes(known[:4]) + (48).to_bytes(2, "big") + body + random.randbytes(40)
