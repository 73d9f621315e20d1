"""Ports that a real router, miniupnpd, maps to a client in the lab."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest

from relaytun.nat.upnp import is_installed

from ..integration.processes import PATIENCE, ProcessTestCase
from .lab import SERVER, Lab
from .miniupnpd import start_miniupnpd


class MappingTests(ProcessTestCase):
    """A client behind a symmetric NAT, where nothing else helps."""

    def setUp(self) -> None:
        super().setUp()
        self.lab = Lab("symmetric", "public")
        self.addCleanup(self.lab.close)

    def mapping(self, *arguments: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        """A process at C{a} that maps a port, and what it says."""
        process = subprocess.Popen(
            self.lab.command("a", sys.executable, "-m", "tests.natlab.mapping", *arguments),
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    def assert_given_back(self, process: subprocess.Popen[str]) -> None:
        """When it ends in order, the router has no mapping any more."""
        self.assertIn("dnat", self.lab.run("na", "nft", "list", "table", "inet", "upnp"))
        said, _ = process.communicate("\n", PATIENCE)
        self.assertEqual(json.loads(said), {"closed": True})

    def assert_reached(self, own: socket.socket, place: tuple[str, int]) -> None:
        """A packet to the outer place comes to the socket."""
        with self.lab.udp("s", SERVER) as stranger:
            stranger.sendto(b"hello", place)
            self.assertEqual(own.recvfrom(99), (b"hello", stranger.getsockname()))

    def test_pcp(self) -> None:
        """A stranger reaches the mapped port until it is given back."""
        router, outer = start_miniupnpd(self, self.lab)
        with self.lab.udp("a") as own:
            port = own.getsockname()[1]
            process, said = self.mapping("udp", str(port))
            self.assertEqual(
                (said["by"], said["place"], said["private"]), ("pcp", [outer, port], False)
            )
            self.assert_reached(own, (outer, port))
        self.assert_given_back(process)
        router.wait_for(f"PCP: UDP port {port} mapping removed")

    def test_tcp(self) -> None:
        """For TCP as well."""
        start_miniupnpd(self, self.lab)
        with self.lab.listen("a", "") as own:
            process, said = self.mapping("tcp", str(own.getsockname()[1]))
            with self.lab.dial("s", *said["place"]) as stranger:
                accepted, place = own.accept()
                accepted.close()
                self.assertEqual(place, stranger.getsockname())
        self.assert_given_back(process)

    def test_upnp(self) -> None:
        """Where the router knows UPnP only, the library finds it."""
        if not is_installed():
            raise SkipTest("not installed: miniupnpc, the extra upnp")
        _, outer = start_miniupnpd(self, self.lab, pmp=False, upnp=True)
        with self.lab.udp("a") as own:
            process, said = self.mapping("udp", str(own.getsockname()[1]), "upnp")
            self.assertEqual(said.get("by"), "upnp", said)
            self.assert_reached(own, (outer, said["place"][1]))
        self.assert_given_back(process)

    def test_nobody(self) -> None:
        """A router that knows nothing of it costs a second."""
        _, said = self.mapping("udp", "5000")
        self.assertEqual(said["error"], "the router does not answer")
        self.assertLess(said["seconds"], 1.5)
