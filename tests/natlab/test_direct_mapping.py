"""Between two symmetric NATs, one of whose routers maps ports, the daemons meet directly."""

from __future__ import annotations

from ..integration.links import exchange
from ..integration.processes import ProcessTestCase
from .daemons import Daemons
from .lab import Lab
from .miniupnpd import start_miniupnpd


class DirectMappingTests(ProcessTestCase):
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
