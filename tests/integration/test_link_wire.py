"""What stands on the wire beside the relay, and which server the legs go by."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

from twisted.trial.unittest import SkipTest

from .links import MIB, Traffic, Tunnel, exchange
from .processes import Process, ProcessTestCase, eventually, needs, program


class Capture(ProcessTestCase):
    def setUp(self) -> None:
        super().setUp()
        needs("tcpdump")
        if os.geteuid() != 0:
            raise SkipTest("only root may capture packets")

    def captured(self, mode: str) -> tuple[bytes, list[bytes]]:
        """What went to and from the relay port, and what the programs had said."""
        tunnel = Tunnel(mode=mode)
        self.addCleanup(tunnel.kept.close)
        path = self.folder / f"{mode}.pcap"
        tcpdump = self.start(
            "tcpdump", program("tcpdump"), "-i", "lo", "-s", "0", "-B", "16384",
            *("-U", "-w", str(path), "-Z", "root", "tcp", "port", str(tunnel.ports[1])),
        )  # fmt: skip
        tcpdump.wait_for("listening on")
        marks = [secrets.token_bytes(24) for _ in range(4)]
        with tunnel.stream() as (near, far):
            exchange(near, far, marks[0])
            exchange(far, near, marks[1])
        with tunnel.stream() as (near, far):  # And in large frames.
            exchange(near, far, bytes(100_000) + marks[2] + bytes(100_000))
            exchange(far, near, bytes(100_000) + marks[3] + bytes(100_000))
        # All of it goes over two connections of the relay.
        eventually(
            lambda: path.stat().st_size > 2 * 400_000,
            lambda: f"not all is captured: {path.stat().st_size} bytes",
        )
        tcpdump.stop()
        return path.read_bytes(), marks

    def test_link(self) -> None:
        """Whoever listens beside the relay of a link finds nothing that a program has said."""
        packets, marks = self.captured("link")
        for mark in marks:
            self.assertNotIn(mark, packets)
            self.assertNotIn(mark[:8], packets)

    def test_raw(self) -> None:
        """The same capture finds all of it in raw mode: it would have been seen."""
        packets, marks = self.captured("raw")
        for mark in marks:
            self.assertIn(mark[:8], packets)


class TwoServers(ProcessTestCase):
    """Both clients list the same two servers."""

    def run_tunnel(self, first_is_up: bool) -> TwoServerTunnel:
        """One whose first server is there from the start, or not."""
        tunnel = TwoServerTunnel(first_is_up)
        self.addCleanup(tunnel.kept.close)
        return tunnel

    def test_first_dies(self) -> None:
        """When the first server is killed for good, streams go on over the second."""
        tunnel = self.run_tunnel(first_is_up=True)
        with tunnel.stream() as stream, tunnel.stream() as resting:
            traffic = Traffic(stream, 64 * MIB)
            traffic.wait_for(8 * MIB)
            (used,) = (each for each in (tunnel.server, tunnel.second) if carries(each))
            used.kill()
            traffic.finish()
            exchange(*resting)
        with tunnel.stream() as stream:
            exchange(*stream)

    def test_first_is_down(self) -> None:
        """A first server that is down from the start is no hindrance."""
        tunnel = self.run_tunnel(first_is_up=False)
        begin = time.monotonic()
        with tunnel.stream() as stream:
            exchange(*stream)
        self.assertLess(time.monotonic() - begin, 5)


class TwoServerTunnel(Tunnel):
    """
    @ivar second: the second server.
    """

    def __init__(self, first_is_up: bool) -> None:
        self._first_is_up = first_is_up
        super().__init__("resume_timeout = 30s")

    def run_server(self) -> Process:
        first = super().run_server()
        self.second = self.start_server(state="second")
        if not self._first_is_up:
            first.kill()
        return first

    def config(self, client_id: str, sections: str, client: str = "") -> Path:
        path = super().config(client_id, sections, client)
        lines = path.read_text().splitlines()
        invites = [
            (self.folder / name / "invite").read_text().strip() for name in ("server", "second")
        ]
        lines[1] = f"servers = {', '.join(invites)}"
        path.write_text("\n".join(lines))
        return path


def carries(server: Process) -> bool:
    """Whether a session was granted there."""
    return "granted" in server.output
