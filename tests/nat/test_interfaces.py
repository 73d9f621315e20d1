"""Tests of L{relaytun.nat.interfaces}."""

from __future__ import annotations

import ifaddr
from twisted.trial.unittest import SynchronousTestCase

from relaytun.nat.interfaces import MOST_ADDRESSES, local_address_towards, local_addresses


def adapter(name: str, *addresses: str) -> ifaddr.Adapter:
    ips = [
        ifaddr.IP((text, 0, 2) if ":" in text else text, 24, name)  # type: ignore[arg-type]
        for text in addresses
    ]
    return ifaddr.Adapter(name, name, ips)


class InterfaceTests(SynchronousTestCase):
    """Which addresses are offered."""

    def offered(self, *adapters: ifaddr.Adapter) -> list[str]:
        return local_addresses(lambda: adapters)

    def test_order(self) -> None:
        """IPv4 comes first, then IPv6, each in the order of the interfaces, and none twice."""
        self.assertEqual(
            self.offered(
                adapter("eth0", "2001:db8::1", "192.168.1.10"),
                adapter("wlan0", "10.0.0.7", "fd00::7"),
                adapter("eth0:1", "192.168.1.10"),
            ),
            ["192.168.1.10", "10.0.0.7", "2001:db8::1", "fd00::7"],
        )

    def test_others(self) -> None:
        """Addresses that nobody else can reach are left out."""
        for address in (
            "127.0.0.1",
            "169.254.3.4",
            "224.0.0.1",
            "0.0.0.0",
            "::1",
            "fe80::1%eth0",
            "ff02::1",
            "fec0::1",
            "::ffff:192.0.2.1",
            "::",
        ):
            self.assertEqual(self.offered(adapter("eth0", address)), [], address)

    def test_names(self) -> None:
        """Interfaces of containers, virtual machines and VPNs are left out; bridges are not."""
        for name in (
            "docker0", "veth12ab", "br-0a1b", "virbr0", "tun0", "tap0", "wg0", "tailscale0",
            "utun3", "cni0", "flannel.1", "cali12", "ztabcdef", "vboxnet0", "lxcbr0", "podman0",
        ):  # fmt: skip
            self.assertEqual(self.offered(adapter(name, "10.0.0.1")), [], name)
        for name in ("eth0", "enp3s0", "wlan0", "br0", "bond0", "en0", "Ethernet 2"):
            self.assertEqual(self.offered(adapter(name, "10.0.0.1")), ["10.0.0.1"], name)

    def test_most(self) -> None:
        """No more than a handful."""
        many = [f"10.0.0.{n}" for n in range(1, 20)]
        self.assertEqual(self.offered(adapter("eth0", *many)), many[:MOST_ADDRESSES])

    def test_here(self) -> None:
        """The machine that runs this can be asked."""
        self.assertNotIn("127.0.0.1", local_addresses())

    def test_towards(self) -> None:
        """The address on the way to somewhere is found without a packet."""
        self.assertEqual(local_address_towards("127.0.0.1"), "127.0.0.1")
        self.assertIsNone(local_address_towards("255.255.255.255"))
