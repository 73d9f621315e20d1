"""
Live streams move to the direct path, and back when it is lost, and no byte is lost by that.

Real daemons in the lab; the traffic flows both ways all the time, at full speed.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

from twisted.trial.unittest import SynchronousTestCase

from ..integration.links import MIB, Stream, Traffic, exchange
from ..integration.processes import PATIENCE as LONG, side_by_side
from .daemons import Daemons
from .lab import Lab
from .matrix import DIRECT

#: Seconds without a byte that are promised at most, when a path dies.
PAUSE = 2.0
#: Seconds until a lost path is found again, at most: a second try may be needed.
RETURN = 15.0


class MoveTests(SynchronousTestCase):
    """Each builds a lab of its own, which takes longer than what happens in it."""

    def daemons(self, *types: str, client: str = "") -> Daemons:
        """In a lab with these NATs, with a relay that is no better than what they find."""
        lab = Lab(*types)
        self.addCleanup(lab.close)
        daemons = Daemons(lab, client=client, service="bandwidth = 4MB")
        self.addCleanup(daemons.close)
        return daemons

    def assert_comes_back(
        self, daemons: Daemons, traffic: Traffic, path: str, without: str = ""
    ) -> None:
        """
        A transfer goes over a path, over the relay, and over a direct path again.

        When the path is lost the server takes no new connections: what was in reserve serves.

        @param without: the protocol that never passes.
        """
        lab = daemons.lab
        daemons.await_path(path.__eq__)
        moves(traffic)
        traffic.pause = 0.0
        lab.refuse()
        lab.cut_direct()
        daemons.await_path("relay".__eq__)
        moves(traffic)
        self.assertLess(traffic.pause, PAUSE)
        lab.refuse(False)
        if without:
            lab.cut_direct(without)
        else:
            lab.restore()
        daemons.await_path(DIRECT.__contains__, RETURN)
        moves(traffic)
        self.assertLess(traffic.pause, PAUSE)

    def test_tcp(self) -> None:
        """By TCP, at full speed and with little to tell."""
        side_by_side(*map(MoveTests, ("both_ways", "one_way")))

    def both_ways(self) -> None:
        """By TCP; then the server dies, and no stream notices; then the provider, and all break."""
        daemons = self.daemons("portrest", "portrest", client="resume_timeout = 1s")
        with daemons.stream() as keys, daemons.stream() as stream:
            exchange(*keys)
            traffic = Traffic(stream, MIB)
            self.assert_comes_back(daemons, traffic, "tcp-direct")
            exchange(*keys)
            traffic.pause = 0.0
            daemons.server.kill()
            daemons.visitor.wait_for("connection to the server is lost")
            moves(traffic)
            exchange(*keys)
            self.assertIn(daemons.path(), DIRECT)
            traffic.finish()
            self.assertLess(traffic.pause, PAUSE / 2)
            daemons.provider.kill()
            with self.assertRaises(ConnectionError):
                keys.near.recv(1)
        daemons.check_logs()

    def test_quic(self) -> None:
        """By QUIC, where no TCP comes through."""
        daemons = self.daemons("portrest", "portrest")
        daemons.lab.cut_direct("tcp")
        with daemons.stream() as stream:
            traffic = Traffic(stream, MIB)
            self.assert_comes_back(daemons, traffic, "quic", "tcp")
            traffic.finish()
        daemons.check_logs()

    def test_large_packets_are_lost(self) -> None:
        """A path that lets only small packets through is not used; by UDP these are enough."""
        daemons = self.daemons("portrest", "portrest")
        daemons.lab.cut_large(1300)
        with daemons.stream() as stream:
            traffic = Traffic(stream, MIB)
            daemons.await_path("quic".__eq__)
            moves(traffic)
            traffic.finish()
            self.assertLess(traffic.pause, PAUSE)
        daemons.check_logs()

    def one_way(self) -> None:
        """Only the provider sends, and is heard no more: the visitor finds out by itself."""
        daemons = self.daemons("portrest+rst", "portrest+rst")
        with daemons.stream() as stream:
            daemons.await_path(DIRECT.__contains__)
            with sending(stream, 0.05) as longest:
                daemons.lab.cut_direct(hosts="b")
                daemons.await_path("relay".__eq__)
            self.assertGreater(longest(), 0.2)
            self.assertLess(longest(), PAUSE)
        daemons.check_logs()


def moves(traffic: Traffic) -> None:
    """Wait for bytes in both directions."""
    if not traffic.moves(list(traffic.taken), RETURN):
        raise AssertionError(f"nothing moves: {traffic.taken}")


@contextlib.contextmanager
def sending(stream: Stream, interval: float) -> Iterator[Callable[[], float]]:
    """
    A byte goes from far to near again and again meanwhile, and nothing else.

    @return: tells the longest time between two that came.
    """
    over, pauses = threading.Event(), [0.0]

    def send() -> None:
        while not over.wait(interval):
            stream.far.sendall(b".")
        stream.far.shutdown(socket.SHUT_WR)

    def take() -> None:
        last = time.monotonic()
        while stream.near.recv(MIB):
            now = time.monotonic()
            pauses.append(now - last)
            last = now

    threads = [threading.Thread(target=work, daemon=True) for work in (send, take)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: max(pauses)
    finally:
        over.set()
        for thread in threads:
            thread.join(LONG)
