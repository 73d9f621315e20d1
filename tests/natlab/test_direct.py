"""
Daemons that meet directly where that takes more than punching: by a port that a router maps, over
IPv6, and again after one of them has got another address.
"""

from __future__ import annotations

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from relaytun.client.direct import SOON
from relaytun.nat.candidates import TIMEOUT
from relaytun.nat.upnp import is_installed

from ..integration.links import exchange
from ..integration.processes import ProcessTestCase, side_by_side
from .daemons import Daemons
from .lab import Lab
from .miniupnpd import start_miniupnpd

#: Seconds in which no second attempt can have led anywhere.
FIRST_ATTEMPT = TIMEOUT + SOON - 1


class MappingTests(ProcessTestCase):
    """Real daemons, and a real router."""

    def test_symmetric(self) -> None:
        """A direct path comes about, and the mapping is given back when the daemon ends."""
        lab = Lab("symmetric", "symmetric")
        self.addCleanup(lab.close)
        router, _ = start_miniupnpd(self, lab)
        daemons = Daemons(lab)
        self.addCleanup(daemons.close)
        with daemons.stream() as stream:
            exchange(*stream)
            path = daemons.await_path(lambda path: path in {"tcp-direct", "quic"})
            exchange(*stream)
            self.assertEqual(path, "tcp-direct")
            self.assertIn("dnat", lab.run("na", "nft", "list", "table", "inet", "upnp"))
        daemons.provider.stop()
        router.wait_for("PCP: TCP port")
        self.assertNotIn("dnat", lab.run("na", "nft", "list", "table", "inet", "upnp"))
        daemons.check_logs()

    def test_upnp(self) -> None:
        """So it does where the router knows UPnP only, and no later: in the first attempt."""
        if not is_installed():
            raise SkipTest("not installed: miniupnpc, the extra upnp")
        lab = Lab("symmetric", "symmetric")
        self.addCleanup(lab.close)
        router, _ = start_miniupnpd(self, lab, pmp=False, upnp=True)
        daemons = Daemons(lab)
        self.addCleanup(daemons.close)
        router.wait_for("GET /rootDesc.xml")
        with daemons.stream() as stream:
            exchange(*stream)
            daemons.await_path("tcp-direct".__eq__, FIRST_ATTEMPT)
            exchange(*stream)
        daemons.check_logs()


class HomeTests(SynchronousTestCase):
    """Real daemons, in one home."""

    def start(self, client: str) -> tuple[Lab, Daemons]:
        lab = Lab("portrest", "same")
        self.addCleanup(lab.close)
        daemons = Daemons(lab, client=client)
        self.addCleanup(daemons.close)
        return lab, daemons

    def test_home(self) -> None:
        """They meet by whichever of their addresses will do."""
        side_by_side(*map(HomeTests, ("renumbered", "ipv6")))

    def renumbered(self) -> None:
        """With C{direct = lan}, too, which asks nobody."""
        lab, daemons = self.start("direct = lan")
        with daemons.stream() as stream:
            exchange(*stream)
            daemons.await_path(lambda path: path == "lan")
            exchange(*stream)
            lab.renumber("b")
            exchange(*stream)
            daemons.await_path(lambda path: path != "lan")
            daemons.await_path(lambda path: path == "lan")
            exchange(*stream)
        daemons.check_logs()

    def ipv6(self) -> None:
        """Where only IPv6 passes between them, they meet by that."""
        lab = Lab("portrest", "same")
        self.addCleanup(lab.close)
        for host in "ab":
            lab.run(host, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0")
            lab.run(host, "ip", "addr", "add", f"fd00::{host}/64", "dev", "eth0", "nodad")
        lab.cut_direct()
        daemons = Daemons(lab)
        self.addCleanup(daemons.close)
        with daemons.stream() as stream:
            exchange(*stream)
            daemons.await_path(lambda path: path == "lan")
            exchange(*stream)
        daemons.check_logs()
