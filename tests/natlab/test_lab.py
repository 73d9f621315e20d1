"""The lab is what it says: each NAT maps and filters as its type promises."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from ..integration.processes import ProcessTestCase, eventually, program
from .lab import SERVER, SERVER_TOO, Lab

Place = tuple[str, int]


class LabTestCase(SynchronousTestCase):
    """Builds labs that end with the test, and sockets in them."""

    def build(self, type_a: str, type_b: str, **options: object) -> Lab:
        lab = Lab(type_a, type_b, **options)  # type: ignore[arg-type]
        self.addCleanup(lab.close)
        return lab

    def udp(self, lab: Lab, host: str, address: str = "", port: int = 0) -> socket.socket:
        made = lab.udp(host, address, port)
        self.addCleanup(made.close)
        return made

    def seen(self, sender: socket.socket, receiver: socket.socket) -> Place:
        """From where a packet comes, in the eyes of the one who gets it."""
        sender.sendto(b"?", receiver.getsockname())
        data, place = receiver.recvfrom(99)
        self.assertEqual(data, b"?")
        return place[0], place[1]

    def assert_silent(self, receiver: socket.socket) -> None:
        """Nothing has come; what should have been is behind what has come elsewhere."""
        receiver.setblocking(False)
        with self.assertRaises(BlockingIOError):
            receiver.recv(99)
        receiver.settimeout(30)


class Behaviour(NamedTuple):
    """
    What a NAT does.

    @ivar ports: that three destinations see, relative to the sender's own; the second is another
        port, the third another address of the server.
    @ivar passes: who may answer the first packet: C{0} the first destination, 1 another port of
        the same address, 2 another address.
    """

    ports: list[int]
    passes: list[int]


class TypeTests(LabTestCase):
    """Mapping and filtering, as RFC 4787 names them."""

    def probe(self, lab: Lab, host: str) -> Behaviour:
        servers = [self.udp(lab, "s", address) for address in (SERVER, SERVER, SERVER_TOO)]
        sender = self.udp(lab, host)
        own = sender.getsockname()[1]
        mapped = self.seen(sender, servers[0])
        # The one that may is the last to answer: who comes before it is let in, too.
        for number in (2, 1, 0):
            servers[number].sendto(b"%d" % number, mapped)
        passes: list[int] = []
        while not passes or passes[-1]:
            passes.append(int(sender.recv(99)))
        outer = self.outer(lab, host)
        self.assertEqual(mapped[0], outer)
        ports = [mapped[1] - own]
        for server in servers[1:]:
            place = self.seen(sender, server)
            self.assertEqual(place[0], outer)
            ports.append(place[1] - own)
        return Behaviour(ports, sorted(passes))

    def outer(self, lab: Lab, host: str) -> str:
        return {"a": "198.51.100.2", "b": "192.0.2.2"}[host]

    def test_none(self) -> None:
        """Without a NAT everything is as it is; a firewall lets only answers in."""
        lab = self.build("public", "fw")
        self.assertEqual(self.probe(lab, "a"), Behaviour([0, 0, 0], [0, 1, 2]))
        self.assertEqual(self.probe(lab, "b"), Behaviour([0, 0, 0], [0]))
        self.assertEqual(lab.address("b"), "192.0.2.2")

    def test_cones(self) -> None:
        """One mapping for all destinations, and answers from whom the type says."""
        lab = self.build("fullcone", "addrrest")
        self.assertEqual(self.probe(lab, "a"), Behaviour([0, 0, 0], [0, 1, 2]))
        self.assertEqual(self.probe(lab, "b"), Behaviour([0, 0, 0], [0, 1]))

    def test_port_restricted(self) -> None:
        """The mapping is the same for all, answers come only from whom a packet went to."""
        lab = self.build("portrest", "portrest+nopreserve")
        self.assertEqual(self.probe(lab, "a"), Behaviour([0, 0, 0], [0]))
        ports, passes = self.probe(lab, "b")
        self.assertEqual((len(set(ports)), passes), (1, [0]))
        self.assertNotEqual(ports[0], 0, "the outer port is the inner one")

    def test_symmetric(self) -> None:
        """A port for each destination: random with one, in sequence with the other."""
        lab = self.build("symmetric", "symseq")
        ports, passes = self.probe(lab, "a")
        self.assertEqual((len(set(ports)), passes), (3, [0]))
        first, second, third = self.probe(lab, "b").ports
        self.assertEqual((second - first, third - first), (1, 2))

    def test_burnt_mapping(self) -> None:
        """An early packet to a linuxopen router costs the mapping its port, elsewhere not."""
        lab = self.build("linuxopen", "portrest")
        server = self.udp(lab, "s", SERVER)
        for host, same in (("a", False), ("b", True)):
            sender = self.udp(lab, host)
            port = sender.getsockname()[1]
            server.sendto(b"early", (self.outer(lab, host), port))
            self.assertEqual(self.seen(sender, server)[1] == port, same, host)

    def test_short_lived(self) -> None:
        """A packet with few hops to live makes a mapping, and dies between the homes."""
        lab = self.build("linuxopen", "public")
        one, other = self.udp(lab, "a"), self.udp(lab, "b", lab.address("b"))
        one.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 4)
        one.sendto(b"hole", other.getsockname())
        other.sendto(b"through", (self.outer(lab, "a"), one.getsockname()[1]))
        self.assertEqual(one.recv(99), b"through")
        self.assert_silent(other)

    def test_no_udp(self) -> None:
        """Where UDP is blocked, TCP goes."""
        lab = self.build("udpblock", "public")
        server, sender = self.udp(lab, "s", SERVER), self.udp(lab, "a")
        sender.sendto(b"?", server.getsockname())
        with lab.listen("s", SERVER) as listening, lab.dial("a", *listening.getsockname()):
            self.assert_silent(server)

    def test_resets(self) -> None:
        """A router with +rst refuses a connection that nobody waits for."""
        lab = self.build("portrest+rst", "fw+rst")
        for address in ("198.51.100.2", "192.0.2.2"):
            self.assertRaises(ConnectionRefusedError, lab.dial, "s", address, 9)

    def test_lifetime(self) -> None:
        """A mapping without packets is forgotten in its time, or at once when it is told."""
        lab = self.build("symmetric", "fullcone", udp_timeout=1)
        server, sender = self.udp(lab, "s", SERVER), self.udp(lab, "a")
        first = self.seen(sender, server)
        self.assertEqual(self.seen(sender, server), first)
        threading.Event().wait(1.5)
        second = self.seen(sender, server)
        self.assertNotEqual(second, first)
        lab.flush()
        self.assertNotEqual(self.seen(sender, server), second)

    def test_flushed_cone(self) -> None:
        """A cone that forgot its mappings lets nobody in."""
        lab = self.build("fullcone", "public")
        server, other = self.udp(lab, "s", SERVER), self.udp(lab, "s", SERVER_TOO)
        old, new = self.udp(lab, "a"), self.udp(lab, "a")
        mapped = self.seen(old, server)
        lab.flush()
        other.sendto(b"late", mapped)
        other.sendto(b"now", self.seen(new, server))
        self.assertEqual(new.recv(99), b"now")
        self.assert_silent(old)


class PlaceTests(LabTestCase):
    """Who lives where."""

    def direct(self, lab: Lab, address: str = "") -> tuple[socket.socket, socket.socket, Place]:
        """Sockets of a and b, after a has sent to b's own address, or another one."""
        one, other = self.udp(lab, "a"), self.udp(lab, "b")
        place = address or lab.address("b"), other.getsockname()[1]
        one.sendto(b"direct", place)
        return one, other, place

    def test_same_lan(self) -> None:
        """On one LAN the clients meet, by their own addresses."""
        lab = self.build("portrest", "same")
        one, other, _ = self.direct(lab)
        data, place = other.recvfrom(99)
        self.assertEqual((data, place), (b"direct", (lab.address("a"), one.getsockname()[1])))
        self.assertEqual((lab.router("a"), lab.router("b")), ("na", "na"))

    def test_isolation(self) -> None:
        """With client isolation they do not, but both reach the server."""
        lab = self.build("portrest", "same-isolated")
        _, other, _ = self.direct(lab)
        server = self.udp(lab, "s", SERVER)
        for host in "ab":
            self.seen(self.udp(lab, host), server)
        self.assert_silent(other)

    def test_hairpin(self) -> None:
        """What the LAN sends to the outer address comes back only where the router does that."""
        for modifier, comes in (("", False), ("+hairpin", True)):
            lab = self.build(f"portrest{modifier}", "same")
            server, one, other = self.udp(lab, "s", SERVER), self.udp(lab, "a"), self.udp(lab, "b")
            own, place = self.seen(one, server), self.seen(other, server)
            one.sendto(b"round", place)
            if comes:
                self.assertEqual(other.recvfrom(99), (b"round", own))
            else:
                self.seen(one, server)
                self.assert_silent(other)
            lab.close()

    def test_carrier(self) -> None:
        """Behind one carrier's NAT both have its address, and meet if it loops back."""
        lab = self.build("portrest", "portrest", cgn="fullcone+hairpin")
        server, one, other = self.udp(lab, "s", SERVER), self.udp(lab, "a"), self.udp(lab, "b")
        places = self.seen(one, server), self.seen(other, server)
        self.assertEqual({address for address, _ in places}, {lab.address("nc")})
        self.assertEqual((lab.address("na"), lab.address("nb")), ("100.64.0.2", "100.64.0.3"))
        other.sendto(b"hole", places[0])
        one.sendto(b"through", places[1])
        self.assertEqual(other.recvfrom(99), (b"through", places[0]))

    def test_colliding(self) -> None:
        """Two homes may have the same addresses."""
        lab = self.build("portrest", "portrest", lan_b="192.168.1")
        server = self.udp(lab, "s", SERVER)
        for host, address in (("a", "192.168.1.10"), ("b", "192.168.1.20")):
            self.assertEqual(lab.address(host), address)
            self.assertEqual(self.seen(self.udp(lab, host), server)[0], lab.address(f"n{host}"))

    def test_delay(self) -> None:
        """With a delay a way there and back takes it twice."""
        lab = self.build("portrest", "public", delay_ms=20)
        server, sender = self.udp(lab, "s", SERVER), self.udp(lab, "a")
        began = time.monotonic()
        server.sendto(b"!", self.seen(sender, server))
        sender.recv(99)
        self.assertGreaterEqual(time.monotonic() - began, 0.04)

    def test_several(self) -> None:
        """Two labs stand side by side, with the same addresses and without each other's packets."""
        labs = [self.build("public", "public") for _ in range(2)]
        one, other = (self.udp(lab, "s", SERVER, 9) for lab in labs)
        self.seen(self.udp(labs[0], "a"), one)
        self.assert_silent(other)


class DisturbanceTests(LabTestCase):
    """What can be done to a running lab."""

    def test_cut(self) -> None:
        """Cut off from each other, the clients still reach the server, and meet again after."""
        lab = self.build("public", "public")
        server, one, other = (
            self.udp(lab, "s", SERVER),
            self.udp(lab, "a", lab.address("a")),
            self.udp(lab, "b", lab.address("b")),
        )
        self.seen(one, other)
        lab.cut_direct()
        for here, there in ((one, other), (other, one)):
            here.sendto(b"lost", there.getsockname())
            server.sendto(b"back", self.seen(there, server))
            self.assertEqual(there.recv(99), b"back")
        lab.cut_direct("udp")
        with lab.listen("b", "") as listening:
            lab.dial("a", lab.address("b"), listening.getsockname()[1]).close()
        lab.restore()
        self.seen(one, other)

    def test_cut_on_a_lan(self) -> None:
        """It works on one LAN, too, where no router is between them."""
        lab = self.build("portrest", "same")
        one, other = self.udp(lab, "a"), self.udp(lab, "b", lab.address("b"))
        lab.cut_direct()
        one.sendto(b"lost", other.getsockname())
        self.seen(other, self.udp(lab, "s", SERVER))
        lab.restore()
        self.assertEqual(self.seen(one, other)[0], lab.address("a"))

    def test_block_udp(self) -> None:
        """Without UDP the sender is not told, and TCP goes on."""
        lab = self.build("public", "public")
        server, one = self.udp(lab, "s", SERVER), self.udp(lab, "a")
        lab.block_udp("a")
        one.sendto(b"lost", server.getsockname())
        with lab.listen("s", SERVER) as listening, lab.dial("a", *listening.getsockname()):
            self.assert_silent(server)
        lab.restore()
        self.seen(one, server)

    def test_renumber(self) -> None:
        """A client may get another address, and goes on with it."""
        lab = self.build("portrest", "same")
        server, old = self.udp(lab, "s", SERVER), self.udp(lab, "b", lab.address("b"))
        self.seen(old, server)
        self.assertEqual(lab.renumber("b"), "192.168.1.21")
        self.assertEqual(lab.address("b"), "192.168.1.21")
        self.seen(self.udp(lab, "b", "192.168.1.21"), server)

    def test_throughput(self) -> None:
        """There is a measure of what a path carries."""
        lab = self.build("portrest", "public")
        self.assertGreater(lab.throughput("a", "b", "-n", "4M"), 1e6)


class EndTests(ProcessTestCase):
    """Nothing is left of a lab."""

    def test_process(self) -> None:
        """The process that a test starts inside is the program's own: to kill it is enough."""
        with Lab("public", "public") as lab:
            process = lab.start(self, "a", "cat", "cat", "/proc/self/stat", "-")
            self.assertIn(f"{process.pid} (cat)", process.wait_for(r"\(cat\)").string)
            process.kill()

    def test_python(self) -> None:
        """What is forked is inside like what is started."""
        with Lab("public", "public") as lab:
            words = sys.executable, "-c", "import os; print(os.readlink('/proc/self/ns/net'))"
            forked = lab.start(self, "a", "forked", *words).wait_for("net:").string
            started = lab.start(self, "a", "started", "readlink", "/proc/self/ns/net")
            self.assertEqual(started.wait_for("net:").string, forked)
            self.assertNotEqual(os.readlink("/proc/self/ns/net"), forked)

    def test_close(self) -> None:
        """What still runs inside ends with the lab, and its namespaces go."""
        lab = Lab("portrest", "public", delay_ms=1)
        sleeper = lab.start(self, "a", "sleep", "sleep", "1000")
        lab.close()
        lab.close()
        self.assertEqual(sleeper.wait(), -9)
        self.assertNotIn(lab.name, namespaces())

    def test_remains(self) -> None:
        """What a killed run left behind goes with the next lab; another run's stays."""
        gone = subprocess.Popen(["true"])
        gone.wait()
        left, others = f"rtl-{gone.pid}-0-a", f"rtl-{os.getppid()}-{os.getpid()}-a"
        for name in (left, others):
            subprocess.run([program("ip"), "netns", "add", name], check=True)
        self.addCleanup(subprocess.run, [program("ip"), "netns", "del", others], check=True)
        with Lab("public", "public"):
            eventually(lambda: left not in namespaces(), namespaces)
            self.assertIn(others, namespaces())


def namespaces() -> str:
    """All of the machine's."""
    return subprocess.run(
        [program("ip"), "netns", "list"], capture_output=True, text=True, check=True
    ).stdout
