"""Tests of L{relaytun.nat.gateway}."""

from __future__ import annotations

import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from relaytun.nat.gateway import default_gateway
from relaytun.nat.interfaces import source_address

_HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


def number(address: str) -> str:
    """As the kernel shows it."""
    data = bytes(map(int, address.split(".")))
    return f"{int.from_bytes(data, sys.byteorder):08X}"


def route(destination: str, gateway: str, flags: str, metric: int, mask: str = "0.0.0.0") -> str:
    places = number(destination), number(gateway)
    return f"eth0\t{places[0]}\t{places[1]}\t{flags}\t0\t0\t{metric}\t{number(mask)}\t0\t0\t0\n"


class GatewayTests(SynchronousTestCase):
    def gateway(self, *lines: str) -> str | None:
        path = Path(self.mktemp())
        path.write_text(_HEAD + "".join(lines))
        return default_gateway(path)

    def test_best(self) -> None:
        """Of several default routes the one with the lowest metric counts."""
        routes = [
            route("0.0.0.0", "192.168.1.1", "0003", 600),
            route("0.0.0.0", "10.0.0.1", "0003", 100),
            route("192.168.1.0", "0.0.0.0", "0001", 0, "255.255.255.0"),
        ]
        self.assertEqual(self.gateway(*routes), "10.0.0.1")

    def test_none(self) -> None:
        """No route, one that is down, one to half of the world, or nonsense: no gateway."""
        self.assertIsNone(self.gateway())
        self.assertIsNone(self.gateway(route("0.0.0.0", "10.0.0.1", "0002", 0)))
        self.assertIsNone(self.gateway(route("0.0.0.0", "0.0.0.0", "0001", 0)))
        self.assertIsNone(self.gateway(route("0.0.0.0", "10.0.0.1", "0003", 0, "128.0.0.0")))
        self.assertIsNone(self.gateway("\n", "eth0\tnonsense\n", "eth0 1 2 3 4 5 6 x\n"))

    def test_elsewhere(self) -> None:
        """Where there is no such table nobody knows."""
        self.assertIsNone(default_gateway(Path(self.mktemp())))

    def test_own(self) -> None:
        """To itself a host has the address of the loopback."""
        self.assertEqual(source_address("127.0.0.1"), "127.0.0.1")
