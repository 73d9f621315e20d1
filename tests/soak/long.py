"""
The long forms: what only shows after many bytes, many streams or much patience.

They are tests, but not found by trial: C{python -m tests.soak} runs them.
"""

from __future__ import annotations

import contextlib
import random
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from twisted.logger import globalLogBeginner

from relaytun.adminsocket import ask

from ..integration.churn import open_and_close
from ..integration.processes import ProcessTestCase, dialled, free_port
from ..integration.services import ask_source, digest, digest_of, take
from ..integration.test_slow_reader import SlowReaderTestCase
from .fuzz import run_for

_MIB = 1024 * 1024


class Soak(ProcessTestCase):
    """
    @cvar results: what was measured: form, figure, value.
    """

    results: ClassVar[list[tuple[str, str, str]]] = []

    def note(self, figure: str, value: str) -> None:
        """Keep a result."""
        form = type(self).__name__
        self.results.append((form, figure, value))
        print(f"{form}: {figure}: {value}", flush=True)


class Bulk(Soak):
    """One long stream."""

    SIZE = 20 * 1024 * _MIB

    def test_by_hash(self) -> None:
        """Every byte of a very long stream arrives, in its place, and none stays in memory."""
        _, service = self.start_service("source")
        daemons = [self.start_server(), self.start_provider(service)]
        visitor, port = self.start_visitor()
        daemons.append(visitor)
        with dialled(port) as connection:
            ask_source(connection, _MIB)
            take(connection, _MIB)
        before = [daemon.memory() for daemon in daemons]
        begin = time.perf_counter()
        with dialled(port) as connection:
            ask_source(connection, self.SIZE)
            self.assertEqual(digest_of(connection), (self.SIZE, digest(self.SIZE)))
        seconds = time.perf_counter() - begin
        self.note("GiB equal by hash", f"{self.SIZE / 1024 / _MIB:g}")
        self.note("seconds, with both hashes", f"{seconds:.0f}")
        for daemon, then in zip(daemons, before, strict=True):
            self.note(f"MiB that the {daemon.name} grew", f"{(daemon.memory() - then) / _MIB:.1f}")
            self.assertLess(daemon.memory() - then, 32 * _MIB, daemon.name)


class Churn(Soak):
    """Many short streams."""

    COUNT = 100_000
    WARM_UP = 5_000

    def test_back_at_the_start(self) -> None:
        """After very many streams every daemon holds what it held before."""
        _, service = self.start_service("echo")
        daemons = {"server": self.start_server(), "provider": self.start_provider(service)}
        daemons["visitor"], port = self.start_visitor()
        open_and_close(port, self.WARM_UP)
        level = self.settled_level(**daemons)
        memory = {name: daemon.memory() for name, daemon in daemons.items()}
        begin = time.perf_counter()
        open_and_close(port, self.COUNT)
        seconds = time.perf_counter() - begin
        self.assert_back_at(level, **daemons)
        self.note("streams opened and closed", f"{self.COUNT}")
        self.note("a second, with both ends in Python", f"{self.COUNT / seconds:.0f}")
        for name, daemon in daemons.items():
            sockets = daemon.sockets()
            self.note(f"sockets of the {name}", f"{level[name]['sockets']}, then {sockets}")
            growth = daemon.memory() - memory[name]
            self.note(f"MiB that the {name} grew", f"{growth / _MIB:.1f}")
            self.assertLess(growth, 8 * _MIB, name)


class StrictSlowReader(SlowReaderTestCase, Soak):
    """A stream that is read at 1 KB/s beside one that is read as fast as it comes."""

    FAST = 2 * 1024 * _MIB
    SLOW = 64 * _MIB
    TIMES = 5
    MOST = 1.1

    def test_at_a_kilobyte_a_second(self) -> None:
        """A stream at 1 KB/s slows another by less than a tenth."""
        self.transfer(self.FAST)
        alone, beside = [], []
        for _ in range(self.TIMES):
            alone.append(self.transfer(self.FAST))
            with dialled(self.port) as slow, trickling(slow):
                ask_source(slow, self.SLOW)
                beside.append(self.transfer(self.FAST))
        ratio = min(beside) / min(alone)
        self.note("GiB for the fast reader, best of five", f"{self.FAST / 1024 / _MIB:g}")
        self.note("seconds alone", f"{min(alone):.2f}")
        self.note("seconds beside the slow reader", f"{min(beside):.2f}")
        self.note("ratio", f"{ratio:.3f}")
        self.assertLess(ratio, self.MOST, f"alone {alone}, beside a slow one {beside}")


@contextlib.contextmanager
def trickling(connection: socket.socket) -> Iterator[None]:
    """Read 1 KB a second, in the background."""
    over = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            while not over.wait(1.0) and connection.recv(1024):
                pass

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        over.set()
        connection.shutdown(socket.SHUT_RDWR)
        reader.join()


class FrameFuzz(Soak):
    """A hostile other side of a link."""

    SECONDS = 600.0

    def test_bounded_and_typed(self) -> None:
        """Whatever frames come for ten minutes, nothing breaks and nothing grows."""
        # Until somebody wants it, Twisted keeps what is logged, and all that it is about.
        globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
        seed = random.randrange(2**32)
        self.note("seed", f"{seed}")
        run_for(self.SECONDS / 60, seed)
        level = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seen = run_for(self.SECONDS, seed + 1)
        growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - level) / 1024
        self.note("frames decoded, and garbage", f"{seen['frames']}, {seen['no frame']}")
        self.note("steps of hostile links", f"{seen['steps']}")
        self.note("MiB that the process grew", f"{growth:.1f}")
        self.assertLess(growth, 64)


class HerdComesBack(Soak):
    """Ten thousand clients, and a server that is killed."""

    COUNT = 10_000
    #: What is promised: seconds until all are back, and until the server answers meanwhile.
    BACK = 60.0
    LAG = 0.5

    def test_all_back(self) -> None:
        """After a kill -9 all clients are registered again in time, and the server stays awake."""
        limits = f"max_clients = {2 * self.COUNT}"
        port = str(free_port())
        server = self.start_server(control=port, config=limits)
        token = (self.folder / "server" / "token").read_text().strip()
        herd = self.start(
            "herd", sys.executable, "-m", "tests.soak.herd", port, token, str(self.COUNT),
            PYTHONPATH=str(Path(__file__).parents[2]),
        )  # fmt: skip
        first = herd.wait_for(r"all up ([\d.]+)", patience=300)
        self.note(f"seconds until {self.COUNT:,} clients are registered", first[1])
        self.note("server memory for each, KiB", f"{server.memory() / 1024 / self.COUNT:.1f}")
        server.kill()
        herd.wait_for("all down", patience=60)
        said = len(herd.lines)
        self.start_server(control=port, config=limits)
        lags: list[float] = []
        back = None
        while back is None:
            begin = time.perf_counter()
            ask(self.folder / "server", "ping")
            lags.append(time.perf_counter() - begin)
            with contextlib.suppress(AssertionError):
                back = float(herd.wait_for(r"all up ([\d.]+)", after=said, patience=0.1)[1])
            self.assertLess(len(lags), 3000, "they do not come back")
        self.note("seconds until all are back after a kill", f"{back:.1f}")
        self.note("longest wait for an answer meanwhile, seconds", f"{max(lags):.2f}")
        self.assertLess(back, self.BACK)
        self.assertLess(max(lags), self.LAG)
