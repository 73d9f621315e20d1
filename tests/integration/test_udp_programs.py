"""Programs that everybody has, through a udp service: a name server, a speed test, an observer."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

from twisted.trial.unittest import SkipTest

from .processes import (
    PATIENCE,
    Process,
    eventually,
    free_port,
    needs,
    program,
)
from .udp import UdpTestCase

NAMES = 200
#: What iperf3 sends: bits a second for so many seconds, in datagrams of so many bytes.
RATE = "8M"
SECONDS = 2
LENGTH = 1200
#: Percent that may be lost where everything, iperf3 too, shares two busy cores.
LOST = 10


class Names(UdpTestCase):
    """dnsmasq behind the tunnel, dig in front of it."""

    def setUp(self) -> None:
        super().setUp()
        needs("dnsmasq", "dig")
        self.run_tunnel(self.start_dnsmasq())

    def start_dnsmasq(self) -> int:
        """Start it on some port that is free; returns that."""
        hosts = self.folder / "hosts"
        hosts.write_text(
            "".join(f"10.7.{n // 250}.{n % 250 + 1} h{n}.test\n" for n in range(NAMES))
        )
        hosts.chmod(0o644)
        self.folder.chmod(0o755)  # Started by root, it reads as nobody.
        while True:
            port = free_port()
            dnsmasq = self.start(
                "dnsmasq",
                *(program("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null"),
                *("--no-resolv", "--no-hosts", f"--addn-hosts={hosts}", "--log-facility=-"),
                *("--listen-address=127.0.0.1", "--bind-interfaces", f"--port={port}"),
                *("--txt-record=large.test," + ",".join(["x" * 250] * 12), "--pid-file="),
                "--edns-packet-max=4096",
            )
            eventually(
                lambda dnsmasq=dnsmasq: (
                    dnsmasq.popen.poll() is not None or f"read {hosts}" in dnsmasq.output
                ),
                lambda dnsmasq=dnsmasq: f"dnsmasq does not start: {dnsmasq.output}",
            )
            if dnsmasq.popen.poll() is None:
                return port
            self.assertIn("Address already in use", dnsmasq.output)

    def dig(self, *arguments: str) -> list[str]:
        """Ask through the tunnel, once for each question; returns the lines of the answer."""
        dig = self.start(
            "dig",
            *(program("dig"), "@127.0.0.1", f"-p{self.port}"),
            *("+tries=1", "+time=10", "+notcp", "+ignore", *arguments),
        )
        self.assertEqual(dig.wait(2 * PATIENCE), 0, dig.output)
        return dig.lines

    def test_names(self) -> None:
        """Each of many questions, each from a port of its own, gets its own answer at once."""
        questions = self.folder / "questions"
        questions.write_text("".join(f"h{n}.test A +short\n" for n in range(NAMES)))
        expected = [f"10.7.{n // 250}.{n % 250 + 1}" for n in range(NAMES)]
        self.assertEqual(self.dig("+short", "-f", str(questions)), expected)
        self.assertGreater(self.session("visitor")["streams"], 0.9 * NAMES)
        # An answer larger than an Ethernet packet arrives in one datagram.
        (answer,) = self.dig("+short", "+bufsize=4096", "large.test", "TXT")
        self.assertEqual(answer.count("x" * 250), 12)


class NamesBlocked(Names):
    """The same where UDP does not get to the relay."""

    blocked = True


class Speed(UdpTestCase):
    """
    iperf3, whose control connection is TCP on the same number: that is a second service.

    The local ports have the same number, one for each protocol.
    """

    def setUp(self) -> None:
        super().setUp()
        needs("iperf3")
        port = self.start_iperf3()
        self.run_server()
        self.run_provider(
            port,
            f"[service:control]\nprotocol = tcp\nlocal_host = 127.0.0.1\nlocal_port = {port}\n",
        )
        self.run_visitor()
        self.start_client(
            "talker",
            f"[connect:control]\ntarget = provider\nservice = control\nlocal_port = {self.port}\n",
        ).wait_for(f"127.0.0.1:{self.port} leads to provider/control")

    def start_iperf3(self) -> int:
        """Start it on some port that is free; returns that."""
        while True:
            port = free_port()
            iperf3 = self.start(
                "iperf3",
                program("iperf3"),
                "-s",
                "-B",
                "127.0.0.1",
                "-p",
                str(port),
                "--forceflush",
            )
            eventually(
                lambda iperf3=iperf3: (
                    iperf3.popen.poll() is not None or "Server listening" in iperf3.output
                ),
                lambda iperf3=iperf3: f"iperf3 does not listen: {iperf3.output}",
            )
            if iperf3.popen.poll() is None:
                return port
            self.assertIn("Address already in use", iperf3.output)

    def measure(self, *options: str) -> dict[str, float]:
        """A test through the tunnel: what iperf3 sums up."""
        client = self.start(
            "iperf3 client",
            *(program("iperf3"), "-c", "127.0.0.1", "-p", str(self.port), "-u", "-J"),
            *("-b", RATE, "-t", str(SECONDS), "-l", str(LENGTH), *options),
        )
        self.assertEqual(client.wait(2 * PATIENCE), 0, client.output)
        summary: dict[str, float] = json.loads(client.output)["end"]["sum"]
        return summary

    def test_both_ways(self) -> None:
        """Flows at a steady rate arrive, to the service (several at once) and from it."""
        self.wait_for_usual_path()
        for options in (("-P", "3"), ("-R",)):
            summary = self.measure(*options)
            self.assertGreater(summary["packets"], 1000)
            self.assertLess(summary["lost_percent"], LOST, f"{options}: {summary}")


class SpeedBlocked(Speed):
    """The same where UDP does not get to the relay."""

    blocked = True


class Observed(UdpTestCase):
    """tcpdump beside the relay."""

    def observe(self, name: str, *ports: int) -> tuple[Process, Path]:
        """Capture what goes over C{ports}, into a file."""
        path = self.folder / f"{name}.pcap"
        tcpdump = self.start(
            name,
            *(program("tcpdump"), "-i", "lo", "-s", "0", "-B", "65536", "--immediate-mode", "-U"),
            *(("-Z", "root") if os.geteuid() == 0 else ()),  # Whose folder this is.
            *("-w", str(path), " or ".join(f"port {port}" for port in ports)),
        )
        eventually(
            lambda: tcpdump.popen.poll() is not None or "listening on" in tcpdump.output,
            lambda: f"tcpdump does not start: {tcpdump.output}",
        )
        if tcpdump.popen.poll() is not None and "permission" in tcpdump.output:
            raise SkipTest("tcpdump may not look: run as root")
        self.assertIn("listening on", tcpdump.output)
        return tcpdump, path

    def test_no_plaintext(self) -> None:
        """
        Nothing of a datagram is to be seen on the relay's ports, by UDP or over the link; where
        it enters and leaves the tunnel, all of it is.
        """
        needs("tcpdump")
        echo = self.echo_service()
        self.run_tunnel(echo.port)
        outside, seen_outside = self.observe("outside", *self.ports)
        inside, seen_inside = self.observe("inside", echo.port, self.port)
        player = self.sender()
        secrets = [random.randbytes(48) for _ in range(50)]
        for n, secret in enumerate(secrets):
            if n == len(secrets) // 2:
                self.wait_for_path("udp")
            self.assertEqual(player.ask(secret), secret)
        # Larger than a sealed packet: these take the link now, too.
        large = random.randbytes(32) * 2000
        self.assertEqual(player.ask(large + bytes(1500)), large + bytes(1500))
        counts = self.session("visitor")["datagrams"]
        self.assertGreaterEqual(counts["byUdp"], len(secrets) // 2)
        for process in (outside, inside):
            process.stop()
        sealed, plain = seen_outside.read_bytes(), seen_inside.read_bytes()
        self.assertGreater(len(sealed), len(secrets) * 2 * 48 + 2 * len(large))
        for secret in secrets:
            self.assertEqual(plain.count(secret), 4)
            for start in range(0, len(secret), 16):
                self.assertNotIn(secret[start : start + 16], sealed)
        self.assertNotIn(large[:16], sealed)
