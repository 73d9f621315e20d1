"""Datagrams of a udp service that go from home to home without the relay."""

from __future__ import annotations

import contextlib

from twisted.trial.unittest import SynchronousTestCase

from ..integration.links import QUICK
from ..integration.processes import eventually, side_by_side
from ..integration.shared import Keeper
from .daemons import HOSTS, Daemons
from .lab import Lab

#: Seconds after which a datagram that was not answered is sent again.
AGAIN = 0.2


class UdpDaemons(Daemons):
    """
    A server, a provider at C{a} of a udp service, and a visitor at C{b}.

    @ivar far: the service.
    @ivar near: a program of the visitor's.
    """

    def __init__(self, lab: Lab, client: str = "") -> None:
        Keeper.__init__(self)
        self.lab = lab
        try:
            self.far = lab.udp(HOSTS["provider"], "127.0.0.1")
            self.kept.callback(self.far.close)
            self.server = self.start_server()
            number = self.far.getsockname()[1]
            self.provider = self.launch_client(
                "provider",
                f"[service:it]\nprotocol = udp\nlocal_host = 127.0.0.1\nlocal_port = {number}\n",
                f"{QUICK}\n{client}",
            )
            self.visitor = self.launch_client(
                "visitor",
                "[connect:it]\ntarget = provider\nservice = it\nlocal_port = 0\n",
                f"{QUICK}\n{client}",
            )
            found = self.visitor.wait_for(r"udp 127\.0\.0\.1:(\d+) leads to provider/it")
            self.port = int(found[1])
            self.near = lab.udp(HOSTS["visitor"], "127.0.0.1")
            self.kept.callback(self.near.close)
            self.near.connect(("127.0.0.1", self.port))
        except BaseException:
            self.close()
            raise

    def echoes(self, payload: bytes) -> bool:
        """Whether a datagram gets to the service and back now; older ones are passed over."""
        for sock in (self.near, self.far):
            sock.settimeout(AGAIN)
        self.near.send(payload)
        with contextlib.suppress(TimeoutError):
            while True:
                data, address = self.far.recvfrom(65536)
                if data == payload:
                    break
            self.far.sendto(payload, address)
            while self.near.recv(65536) != payload:
                pass
            return True
        return False

    def await_echo(self) -> None:
        """Until one does."""
        eventually(lambda: self.echoes(b"anybody?"), lambda: "no datagram comes back")

    def ways(self) -> set[str]:
        """Which way datagrams take, there and back."""
        return {
            self.session(name).get("datagrams", {}).get("path", "")
            for name in HOSTS.keys() - {"server"}
        }

    def await_ways(self, ways: set[str], patience: float = 20.0) -> None:
        """Until they do, while datagrams are under way."""

        def are_right() -> bool:
            self.echoes(b"on the way")
            return self.ways() == ways

        eventually(are_right, lambda: f"datagrams take {self.ways()}", patience)


class UdpDirectTests(SynchronousTestCase):
    """Real daemons in two usual homes."""

    def daemons(self, without: str = "") -> UdpDaemons:
        """
        When datagrams take the direct way.

        @param without: a protocol that the homes do not pass from each other.
        """
        lab = Lab("portrest", "portrest")
        self.addCleanup(lab.close)
        if without:
            lab.cut_direct(without)
        daemons = UdpDaemons(lab)
        self.addCleanup(daemons.close)
        daemons.await_echo()
        daemons.await_ways({"direct"})
        return daemons

    def test_without_the_server(self) -> None:
        """Datagrams go from home to home, of any size, also when the server is no more."""
        daemons = self.daemons()
        before = daemons.session()["datagrams"]
        for size in (0, 1, 1200, 1400, 9000):
            self.assertTrue(daemons.echoes(bytes(size)), size)
        counts = daemons.session()["datagrams"]
        self.assertEqual(counts["byDirect"], before["byDirect"] + 4)
        self.assertEqual(counts["byUdp"], before["byUdp"])
        self.assertEqual(counts["byLink"], before["byLink"] + 1)
        daemons.server.kill()
        for number in range(100):
            self.assertTrue(daemons.echoes(b"%d" % number))
        daemons.check_logs()

    def test_back(self) -> None:
        """What was cut comes back."""
        side_by_side(*map(UdpDirectTests, ("cut", "cut_for_udp")))

    def cut(self) -> None:
        """When the way between the homes is cut the relay carries them, and later not any more."""
        daemons = self.daemons()
        daemons.lab.cut_direct()
        daemons.await_ways({"udp"}, 10)
        self.assertTrue(daemons.echoes(b"by the relay"))
        daemons.lab.restore()
        daemons.await_ways({"direct"}, 45)
        self.assertTrue(daemons.echoes(b"direct again"))
        daemons.check_logs()

    def test_with_quic(self) -> None:
        """Where TCP does not pass one path carries QUIC and the datagrams."""
        daemons = self.daemons(without="tcp")
        daemons.await_path("quic".__eq__)
        for number in range(100):
            self.assertTrue(daemons.echoes(b"%d" % number))
        self.assertEqual((daemons.path(), daemons.ways()), ("quic", {"direct"}))
        daemons.check_logs()

    def cut_for_udp(self) -> None:
        """When only UDP stops, the channel stays, and the datagrams come back when it passes."""
        daemons = self.daemons()
        daemons.await_path("tcp-direct".__eq__)
        daemons.lab.cut_direct("udp")
        daemons.await_ways({"udp"}, 10)
        daemons.lab.restore()
        daemons.await_ways({"direct"}, 45)
        self.assertEqual(daemons.path(), "tcp-direct")
        daemons.check_logs()
