"""
A tunnel whose visitor lives in a network namespace, where packets can be dropped and addresses
changed.

The server and the programs are outside.  One veth pair has two networks: by the first the visitor
reaches the server, by the second programs reach the visitor, so that only what is between the
clients is disturbed.
"""

from __future__ import annotations

import os
import secrets
import subprocess

from twisted.trial.unittest import SkipTest

from .links import Tunnel
from .processes import PATIENCE, Process, needs, program

_RULES = """
table inet relaytun {
    chain input { type filter hook input priority 0; ip saddr %s drop; }
    chain output { type filter hook output priority 0; ip daddr %s drop; }
}
"""


class NamespaceTunnel(Tunnel):
    """
    @ivar name: of the namespace.
    """

    def __init__(self, client: str = "") -> None:
        """@raise SkipTest: if there are no namespaces to be had."""
        needs("ip", "nft")
        if os.geteuid() != 0:
            raise SkipTest("only root may make network namespaces")
        self.name = f"rt-{secrets.token_hex(4)}"
        # From the block for tests of devices (RFC 2544).
        self._net = f"198.18.{secrets.randbelow(256)}"
        self._far = f"198.19.{secrets.randbelow(256)}"
        self._address = 2
        self.host = f"{self._far}.2"
        try:
            run("ip", "netns", "add", self.name)
        except AssertionError as error:
            raise SkipTest(f"no network namespaces here: {error}") from None
        try:
            self._plug_in()
            super().__init__(client)
        except BaseException:
            if hasattr(self, "kept"):
                self.kept.close()
            self.unplug()
            raise

    def unplug(self) -> None:
        """The namespace goes, and its device; to be called when the processes are gone."""
        run("ip", "netns", "del", self.name)

    def _plug_in(self) -> None:
        device = self.name[:12]
        run("ip", "link", "add", device, "type", "veth", "peer", "name", "net", "netns", self.name)
        run("ip", "addr", "add", f"{self._net}.1/24", "dev", device)
        run("ip", "addr", "add", f"{self._far}.1/24", "dev", device)
        run("ip", "link", "set", device, "up")
        for words in (
            f"addr add {self._net}.2/24 dev net",
            f"addr add {self._far}.2/24 dev net",
            "link set dev net up",
            "link set dev lo up",
        ):
            self.inside("ip", *words.split())

    def inside(self, name: str, *arguments: str, given: str = "") -> None:
        """Run a program in the namespace."""
        run("ip", "netns", "exec", self.name, program(name), *arguments, given=given)

    def start(self, name: str, *arguments: str, **environment: str) -> Process:
        if name == "visitor":
            arguments = (program("ip"), "netns", "exec", self.name, *arguments)
        if name == "server":
            arguments = (*arguments, f"--host={self._net}.1")
        return super().start(name, *arguments, **environment)

    def launch_visitor(self) -> Process:
        return self.launch_client(
            "visitor",
            "[connect:it]\ntarget = provider\nservice = it\nlocal_host = 0.0.0.0\nlocal_port = 0\n",
            self.client,
        )

    def drop_packets(self) -> None:
        """Between the visitor and the server, without a word to either."""
        server = f"{self._net}.1"
        self.inside("nft", "-f", "-", given=_RULES % (server, server))

    def let_packets_pass(self) -> None:
        """Again."""
        self.inside("nft", "delete", "table", "inet", "relaytun")

    def change_address(self) -> None:
        """The visitor has another one from now on, and not the old one."""
        old, self._address = self._address, self._address + 1
        self.inside("ip", "addr", "del", f"{self._net}.{old}/24", "dev", "net")
        self.inside("ip", "addr", "add", f"{self._net}.{self._address}/24", "dev", "net")


def run(name: str, *arguments: str, given: str = "") -> None:
    """A program, to its end, which has to be a good one."""
    done = subprocess.run(
        [program(name), *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, f"{name} {' '.join(arguments)}: {done.stderr}"
