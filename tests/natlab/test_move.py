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
from ..integration.processes import PATIENCE as LONG
from .daemons import Daemons
from .lab import Lab
from .matrix import DIRECT

#: Seconds without a byte that are promised at most, when a path dies.
PAUSE = 2.0
#: Seconds until a lost path is found again, at most: a second try may be needed.
RETURN = 15.0
#: Seconds that a quiet path is left alone: more than a NAT with a short memory remembers.
_IDLE = 8.0


class MoveTests(SynchronousTestCase):
    def daemons(self, lab: Lab, client: str = "") -> Daemons:
        self.addCleanup(lab.close)
        daemons = Daemons(lab, client=client)
        self.addCleanup(daemons.close)
        return daemons

    def assert_comes_back(self, daemons: Daemons, path: str, cut: str = "") -> None:
        """
        A transfer goes over a path, over the relay, and over a direct path again.

        @param cut: what is cut all the time.
        """
        lab = daemons.lab
        if cut:
            lab.cut_direct(cut)
        with daemons.stream() as stream:
            traffic = Traffic(stream, MIB)
            daemons.await_path(path.__eq__)
            moves(traffic)
            traffic.pause = 0.0
            lab.cut_direct()
            daemons.await_path("relay".__eq__)
            moves(traffic)
            self.assertLess(traffic.pause, PAUSE)
            if cut:
                lab.cut_direct(cut)
            else:
                lab.restore()
            daemons.await_path(DIRECT.__contains__, RETURN)
            moves(traffic)
            traffic.finish()
        self.assertLess(traffic.pause, PAUSE)
        daemons.check_logs()

    def test_tcp(self) -> None:
        """By TCP; and a program's keystrokes beside the transfer pass as well."""
        daemons = self.daemons(Lab("portrest", "portrest"))
        with daemons.stream() as keys:
            exchange(*keys)
            self.assert_comes_back(daemons, "tcp-direct")
            exchange(*keys)

    def test_quic(self) -> None:
        """By QUIC, where no TCP comes through."""
        self.assert_comes_back(self.daemons(Lab("portrest", "portrest")), "quic", "tcp")

    def test_one_way(self) -> None:
        """Only the provider sends, and is heard no more: the visitor finds out by itself."""
        daemons = self.daemons(Lab("portrest", "portrest"))
        with daemons.stream() as stream:
            daemons.await_path(DIRECT.__contains__)
            with sending(stream, 0.05) as longest:
                daemons.lab.cut_direct(hosts="b")
                daemons.await_path("relay".__eq__)
            self.assertGreater(longest(), 0.2)
            self.assertLess(longest(), PAUSE)
        daemons.check_logs()

    def test_server_killed(self) -> None:
        """Streams on a direct path do not notice that there is no server any more."""
        daemons = self.daemons(Lab("portrest+rst", "portrest+rst"))
        with daemons.stream() as stream:
            traffic = Traffic(stream, MIB)
            daemons.await_path(DIRECT.__contains__)
            moves(traffic)
            traffic.pause = 0.0
            daemons.server.kill()
            daemons.visitor.wait_for("connection to the server is lost")
            moves(traffic)
            self.assertIn(daemons.path(), DIRECT)
            traffic.finish()
        self.assertLess(traffic.pause, 0.5)

    def test_provider_killed(self) -> None:
        """Streams end with an error, not as if they were whole, when their provider is no more."""
        daemons = self.daemons(Lab("portrest", "portrest"), "resume_timeout = 1s")
        daemons.lab.cut_direct("tcp")
        with daemons.stream() as stream:
            exchange(*stream)
            daemons.await_path(DIRECT.__contains__)
            daemons.provider.kill()
            with self.assertRaises(ConnectionError):
                while stream.near.recv(MIB):
                    pass

    def test_forgetful_nat(self) -> None:
        """An idle stream keeps its path open where a NAT forgets what is silent for 5 seconds."""
        daemons = self.daemons(Lab("portrest", "portrest", udp_timeout=5))
        daemons.lab.cut_direct("tcp")
        with daemons.stream() as stream:
            exchange(*stream)
            daemons.await_path("quic".__eq__)
            time.sleep(_IDLE)
            self.assertEqual(daemons.path(), "quic")
            exchange(*stream)
        self.assertNotIn("channel lost: nothing came", daemons.visitor.output)
        daemons.check_logs()

    def test_other_address(self) -> None:
        """A client that gets another address keeps its streams, and finds a direct path again."""
        daemons = self.daemons(Lab("portrest", "portrest"))
        with daemons.stream() as stream:
            traffic = Traffic(stream, MIB)
            daemons.await_path(DIRECT.__contains__)
            daemons.lab.renumber("b")
            moves(traffic)
            daemons.await_path("relay".__eq__)
            daemons.await_path(DIRECT.__contains__, RETURN)
            traffic.finish()
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
