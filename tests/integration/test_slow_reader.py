"""A program that does not read, beside one that does."""

from __future__ import annotations

import time

from .processes import Process, ProcessTestCase, dialled
from .services import ask_source, digest, digest_of, take

FAST = 256 * 1024 * 1024
SLOW = 64 * 1024 * 1024
#: Bytes by which a process may grow.
GROWTH = 32 * 1024 * 1024
#: Pairs of transfers that are made, at most, until the best ones show what has to be shown: other
#: programs may slow any of them down, and a slow reader would slow all of its half.
TIMES = 10


class SlowReaderTestCase(ProcessTestCase):
    """A source behind a tunnel."""

    def setUp(self) -> None:
        super().setUp()
        _, service = self.start_service("source")
        server = self.start_server()
        provider = self.start_provider(service)
        visitor, self.port = self.start_visitor()
        self.daemons: list[Process] = [server, provider, visitor]

    def transfer(self, count: int = FAST) -> float:
        """The seconds that a reader in a hurry needs."""
        with dialled(self.port) as connection:
            begin = time.perf_counter()
            ask_source(connection, count)
            self.assertEqual(take(connection, count), count)
            return time.perf_counter() - begin

    def check_growth(self, before: list[int]) -> None:
        """No daemon keeps what it cannot pass on."""
        for daemon, then in zip(self.daemons, before, strict=True):
            self.assertLess(daemon.memory() - then, GROWTH, daemon.name)


class SlowReader(SlowReaderTestCase):
    #: How many times as long the fast transfer may take; the soak test is stricter.
    MOST = 1.5

    def test_beside_a_fast_one(self) -> None:
        """A stream that nobody reads costs no memory and does not slow another."""
        self.transfer()
        before = [daemon.memory() for daemon in self.daemons]
        alone: list[float] = []
        beside: list[float] = []
        ratio = self.MOST
        while ratio >= self.MOST and len(beside) < TIMES:
            alone.append(self.transfer())
            with dialled(self.port) as slow:
                ask_source(slow, SLOW)
                take(slow, 1024)
                beside.append(self.transfer())
            ratio = min(beside) / min(alone)
        self.assertLess(ratio, self.MOST, f"alone {alone}, beside a slow one {beside}")
        self.check_growth(before)

    def test_resumed(self) -> None:
        """A stream that rested while another transferred is whole when it is read at last."""
        self.transfer(1024)
        before = [daemon.memory() for daemon in self.daemons]
        with dialled(self.port) as slow:
            ask_source(slow, SLOW)
            self.transfer()
            self.check_growth(before)
            self.assertEqual(digest_of(slow), (SLOW, digest(SLOW)))
