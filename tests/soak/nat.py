"""
A NAT of the kernel's own between two networks of this machine.

::

    inside 10.77.1.2 -- 10.77.1.1 NAT 10.77.2.1 -- 10.77.2.2 outside

Each is a network namespace, and ends with the process that holds it.  Needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SkipTest

from ..integration.processes import Process, ProcessTestCase, needs, program

INSIDE, OUTSIDE = "10.77.1.2", "10.77.2.2"
_CLONE_NEWNET = 0x40000000
_SETUP = """
set -e
inside() {{ nsenter --net=/proc/{inside}/ns/net "$@"; }}
nat() {{ nsenter --net=/proc/{nat}/ns/net "$@"; }}
outside() {{ nsenter --net=/proc/{outside}/ns/net "$@"; }}
ip link add in0 netns {inside} type veth peer name in1 netns {nat}
ip link add out0 netns {outside} type veth peer name out1 netns {nat}
for place in inside nat outside; do $place ip link set lo up; done
inside ip addr add 10.77.1.2/24 dev in0
nat ip addr add 10.77.1.1/24 dev in1
nat ip addr add 10.77.2.1/24 dev out1
outside ip addr add 10.77.2.2/24 dev out0
inside ip link set in0 up
nat ip link set in1 up
nat ip link set out1 up
outside ip link set out0 up
inside ip route add default via 10.77.1.1
nat sysctl -qw net.ipv4.ip_forward=1
nat nft add table ip nat
nat nft add chain ip nat out '{{ type nat hook postrouting priority 100; }}'
nat nft add rule ip nat out oifname out1 masquerade fully-random
nat sysctl -qw net.netfilter.nf_conntrack_udp_timeout={seconds}
nat sysctl -qw net.netfilter.nf_conntrack_udp_timeout_stream={seconds}
"""


class NatTestCase(ProcessTestCase):
    """
    @ivar places: the namespace in which a process is to be started, by its name.
    """

    #: Seconds after which the NAT forgets a UDP mapping.
    FORGETS = 30

    def setUp(self) -> None:
        super().setUp()
        needs("ip", "nft", "unshare", "nsenter", "sysctl")
        if os.geteuid() != 0:
            raise SkipTest("network namespaces need root")
        self.places: dict[str, int] = {}
        self.inside, self.nat, self.outside = (
            self.hold(name).pid for name in ("inside", "nat", "outside")
        )
        script = _SETUP.format(
            inside=self.inside, nat=self.nat, outside=self.outside, seconds=self.FORGETS
        )
        made = self.start("networks", "/bin/sh", "-c", script)
        self.assertEqual(made.wait(), 0, made.output)

    def hold(self, name: str) -> Process:
        """A process in a namespace of its own."""
        holder = self.start(
            name, program("unshare"), "--net", "/bin/sh", "-c", "echo there; exec sleep infinity"
        )
        holder.wait_for("there")
        return holder

    def start(self, name: str, *arguments: str, **environment: str) -> Process:
        """In the namespace that is meant for it."""
        if name in self.places:
            enter = f"--net=/proc/{self.places[name]}/ns/net"
            arguments = (program("nsenter"), enter, *arguments)
        return super().start(name, *arguments, **environment)


@contextlib.contextmanager
def network_of(pid: int) -> Iterator[None]:
    """What this thread opens in the meantime belongs to the namespace of C{pid}."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (
        Path("/proc/thread-self/ns/net").open("rb") as own,
        Path(f"/proc/{pid}/ns/net").open("rb") as other,
    ):
        _enter(libc, other.fileno())
        try:
            yield
        finally:
            _enter(libc, own.fileno())


def _enter(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
