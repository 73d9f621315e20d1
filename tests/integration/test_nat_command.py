"""C{relaytun nat}: on this machine, and behind NATs of the lab."""

from __future__ import annotations

import json
import socket
from typing import Any

from twisted.trial.unittest import SkipTest

from relaytun.wire import stun

from .command import CommandTestCase
from .processes import RELAYTUN, Process

natlab: Any
try:
    from ..natlab import lab as natlab
except ImportError:
    natlab = None

TRANSACTION = bytes(range(12))


class NatCommand(CommandTestCase):
    """Over loopback, where there is no NAT."""

    def test_open(self) -> None:
        """It says that there is none, to people and to programs."""
        self.start_server()
        config = str(self.config("guest", "", client="direct = off"))
        code, out, err = self.relaytun("nat", f"--config={config}")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("no NAT: the server sees this machine's own address", out)
        self.assertIn("seen as 127.0.0.1:", out)
        self.assertIn("direct = off: all goes by the relay", out)
        code, out, err = self.relaytun("nat", "--json", f"--invite={self.invite}")
        self.assertEqual((code, err), (0, ""))
        found = json.loads(out)["nat"]
        for each in (found, found["tcp"]):
            self.assertEqual((each["kind"], each["sure"]), ("open", True))
            self.assertEqual(each["external"], each["local"])
        self.assertTrue(found["udp"])

    def test_off(self) -> None:
        """A server without reflector says so in a line, and answers no STUN."""
        self.start_server(config="reflector_port =")
        self.assertIn("reflector_port is empty", self.fails("nat", f"--invite={self.invite}"))
        listening = self.status("server")["listening"]
        self.assertNotIn("reflector", listening)
        address = "127.0.0.1", listening["relay"]["port"]
        with socket.create_connection(address, timeout=10) as sock:
            sock.sendall(stun.encode_request(TRANSACTION))
            self.assertEqual(sock.recv(9), b"-\1")

    def test_stun(self) -> None:
        """Relay port and reflector port are STUN servers, over UDP and TCP, for any client."""
        self.start_server()
        listening = self.status("server")["listening"]
        for name in ("relay", "reflector"):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as sock:
                    sock.settimeout(10)
                    sock.connect(("127.0.0.1", listening[name]["port"]))
                    sock.sendall(stun.encode_request(TRANSACTION))
                    answer = stun.decode(sock.recv(99))
                    self.assertEqual(answer, stun.Answer(TRANSACTION, *sock.getsockname()))


class NatCommandInLab(CommandTestCase):
    """Behind routers whose behaviour is known: a client on each side of the lab."""

    lab: Any = None

    def start(self, name: str, *arguments: str, **environment: str) -> Process:
        """A process in the server's namespace, or in that of the client of this name."""
        host = "s" if name == "server" else name
        if name == "server":
            arguments = (*arguments, f"--host={natlab.SERVER}")
        return super().start(name, *self.lab.command(host, *arguments), **environment)

    def find_out(self, *kinds: str) -> list[dict[str, Any]]:
        """What is found behind routers of these two kinds."""
        if natlab is None:
            raise SkipTest("there is no NAT lab here (tests.natlab)")
        self.lab = natlab.Lab(*kinds)
        self.addCleanup(self.lab.close)
        server = self.start_server()
        commands = [
            self.start(
                name, *RELAYTUN, "nat", "--json", f"--invite={self.invite}", f"--state-dir={name}"
            )
            for name in "ab"
        ]
        found = []
        for command in commands:
            self.assertEqual(command.wait(), 0, command.output)
            found.append(json.loads(command.output)["nat"])
            self.assertNotEqual(found[-1]["tcp"]["external"], None)
        self.assertNotIn("Traceback", server.output)
        return found

    def test_portrest_and_symseq(self) -> None:
        """The usual router is easy and keeps the port; one that counts is hard, by one."""
        easy, hard = self.find_out("portrest", "symseq")
        for each in (easy, easy["tcp"]):
            self.assertEqual((each["kind"], each["keepsPort"], each["sure"]), ("easy", True, True))
            self.assertEqual(each["external"]["host"], self.lab.address("na"))
            self.assertEqual(each["external"]["port"], each["local"]["port"])
        self.assertEqual(easy["addresses"], [self.lab.address("a")])
        for each in (hard, hard["tcp"]):
            self.assertEqual((each["kind"], each["step"], each["sequential"]), ("hard", 1, True))
        self.assertEqual(hard["pairs"]["easy"], "predict")

    def test_symmetric_and_udpblock(self) -> None:
        """Ports at random are hard; where UDP does not pass TCP is still told."""
        hard, blocked = self.find_out("symmetric", "udpblock")
        self.assertEqual((hard["kind"], hard["tcp"]["kind"]), ("hard", "hard"))
        self.assertEqual(hard["external"]["host"], self.lab.address("na"))
        self.assertEqual((blocked["kind"], blocked["udp"]), ("blocked", False))
        self.assertEqual((blocked["external"], blocked["tcp"]["kind"]), (None, "easy"))
        self.assertEqual(set(blocked["pairs"].values()), {"tcp"})
