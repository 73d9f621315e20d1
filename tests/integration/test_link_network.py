"""A network that swallows packets for a moment; the long forms are in C{tests.soak}."""

from __future__ import annotations

import threading

from .links import MIB, Traffic
from .netns import NamespaceTunnel
from .processes import ProcessTestCase

#: Shorter than the 15 s after which a channel is given up, long enough to stop a transfer.
SILENCE = 2.0


class Network(ProcessTestCase):
    def test_packets_are_dropped(self) -> None:
        """Packets that vanish for a moment, without a reset, cost a transfer that moment only."""
        tunnel = NamespaceTunnel("resume_timeout = 30s")
        self.addCleanup(tunnel.unplug)
        self.addCleanup(tunnel.kept.close)
        with tunnel.stream() as stream:
            traffic = Traffic(stream, 64 * MIB)
            traffic.wait_for(4 * MIB)
            tunnel.drop_packets()
            threading.Event().wait(SILENCE)
            tunnel.let_packets_pass()
            traffic.finish()
        self.assertNotIn("channel lost", tunnel.visitor.output)
