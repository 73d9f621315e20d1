"""The long forms of links: many kills, much patience, and a keystroke beside a transfer."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from ..integration.links import MIB, Kills, Stream, Traffic, Tunnel
from ..integration.netns import NamespaceTunnel
from ..integration.processes import Process, receive_exactly
from .long import Soak

_GIB = 1024 * MIB


class _LinkSoak(Soak):
    """
    One tunnel for each form.

    @cvar patience: seconds that a program waits for bytes.
    """

    patience = 300.0

    def setUp(self) -> None:
        super().setUp()
        self.tunnel = Tunnel()
        self.addCleanup(self.tunnel.kept.close)

    def stream(self) -> contextlib.AbstractContextManager[Stream]:
        """A patient one."""
        return self.tunnel.stream(self.patience)


class LinkSurvivesKills(_LinkSoak):
    """One stream, both directions at once, and a server that is killed all the time."""

    SIZE = 10 * _GIB
    FAULTLESS = 2 * _GIB
    #: What is promised: seconds from the server that is ready, and bytes.
    RECOVERY = 2.0
    GROWTH = 20 * MIB

    def test_kills(self) -> None:
        """Every byte arrives, the pauses are short, and nothing is hoarded."""
        tunnel = self.tunnel
        clients = {"provider": tunnel.provider, "visitor": tunnel.visitor}
        with self.stream() as stream, watching(clients) as calm:
            Traffic(stream, self.FAULTLESS).finish(self.patience)
        begin = time.monotonic()
        with self.stream() as stream, watching(clients) as troubled:
            traffic = Traffic(stream, self.SIZE)
            kills = Kills(tunnel.restart_server, traffic)
            kills.go_on(lambda: min(traffic.taken) >= self.SIZE)
            traffic.finish(self.patience)
        self.note("GiB each way, equal by hash", f"{min(traffic.taken) / _GIB:.1f}")
        self.note("seconds, with the hashes", f"{time.monotonic() - begin:.0f}")
        self.note("kills, each 0.3 s after bytes moved again", f"{len(kills.rests)}")
        for number, since in enumerate(("the kill", "the server that is ready again")):
            rests = [rest[number] for rest in kills.rests]
            self.note(
                f"seconds of rest from {since}: p50, p99",
                f"{percentile(rests, 50):.2f}, {percentile(rests, 99):.2f}",
            )
        for name in calm:
            self.note(
                f"most MiB of the {name} without a kill, with kills",
                f"{calm[name] / MIB:.1f}, {troubled[name] / MIB:.1f}",
            )
            self.assertLess(troubled[name] - calm[name], self.GROWTH, name)
        ready = [rest[1] for rest in kills.rests]
        self.assertLess(percentile(ready, 99), self.RECOVERY)


class ServerAway(_LinkSoak):
    """A server that is gone, or asleep, for a minute."""

    AWAY = 60.0
    SIZE = 512 * MIB

    def test_killed(self) -> None:
        """A stream outlives a server that is not there for a minute."""
        with self.stream() as stream:
            traffic = Traffic(stream, self.SIZE)
            traffic.wait_for(self.SIZE // 4)
            self.tunnel.server.kill()
            threading.Event().wait(self.AWAY)
            self.tunnel.server = self.tunnel.run_server()
            self.note("seconds until bytes move after a minute", f"{rest(traffic):.1f}")
            traffic.finish(self.patience)

    def test_stopped(self) -> None:
        """A stream outlives a server that is stopped (SIGSTOP) for a minute."""
        with self.stream() as stream:
            traffic = Traffic(stream, self.SIZE)
            traffic.wait_for(self.SIZE // 4)
            self.tunnel.server.signal(signal.SIGSTOP)
            threading.Event().wait(self.AWAY)
            self.tunnel.server.signal(signal.SIGCONT)
            self.note("seconds until bytes move after a minute's stop", f"{rest(traffic):.1f}")
            traffic.finish(self.patience)


class SilentServer(_LinkSoak):
    """A server that is stopped, with another one to go to: the clients find out by themselves."""

    #: What is promised: 15 s of silence, looked at every 5 s, and a new channel.
    FOUND = 25.0
    SIZE = 512 * MIB

    def test_found(self) -> None:
        """A channel on which nothing comes any more is given up in time, and replaced."""
        with self.stream() as stream:
            traffic = Traffic(stream, self.SIZE)
            traffic.wait_for(self.SIZE // 4)
            silent = self.tunnel.server
            silent.signal(signal.SIGSTOP)
            # Its port is needed: another server can only have it when this one is gone.  So the
            # clients must have found out before, and say so.
            begin = time.monotonic()
            for client in (self.tunnel.provider, self.tunnel.visitor):
                client.wait_for("channel lost: nothing came", patience=2 * self.FOUND)
            found = time.monotonic() - begin
            self.note("seconds until a silent server is found out", f"{found:.1f}")
            silent.signal(signal.SIGCONT)
            self.note("seconds until bytes move after that", f"{rest(traffic):.1f}")
            traffic.finish(self.patience)
        self.assertLess(found, self.FOUND)


class Network(Soak):
    """The visitor is in a network namespace."""

    SILENCE = 40.0
    SIZE = 512 * MIB
    PATIENCE = 300.0

    def setUp(self) -> None:
        super().setUp()
        self.tunnel = NamespaceTunnel()
        self.addCleanup(self.tunnel.unplug)
        self.addCleanup(self.tunnel.kept.close)

    def test_half_open(self) -> None:
        """Packets vanish for longer than a channel lives: both sides find out, and go on."""
        with self.tunnel.stream(self.PATIENCE) as stream:
            traffic = Traffic(stream, self.SIZE)
            traffic.wait_for(self.SIZE // 8)
            begin = time.monotonic()
            self.tunnel.drop_packets()
            for client in (self.tunnel.visitor, self.tunnel.provider):
                client.wait_for("channel lost", patience=self.SILENCE)
                found = time.monotonic() - begin
                self.note(f"seconds until the {client.name} gives the channel up", f"{found:.1f}")
            threading.Event().wait(max(0, begin + self.SILENCE - time.monotonic()))
            self.tunnel.let_packets_pass()
            self.note("seconds until bytes move after 40 s of silence", f"{rest(traffic):.1f}")
            traffic.finish(self.PATIENCE)

    def test_other_address(self) -> None:
        """A visitor that gets another address goes on from there."""
        with self.tunnel.stream(self.PATIENCE) as stream:
            traffic = Traffic(stream, self.SIZE)
            traffic.wait_for(self.SIZE // 8)
            begin = time.monotonic()
            self.tunnel.change_address()
            self.tunnel.visitor.wait_for("channel lost", patience=self.SILENCE)
            rest(traffic)
            took = time.monotonic() - begin
            self.note("seconds until bytes move from another address", f"{took:.1f}")
            traffic.finish(self.PATIENCE)


class FairBesideBulk(_LinkSoak):
    """One byte there and back, beside a transfer in both directions on the same link."""

    TIMES = 500
    SIZE = 4 * _GIB

    def test_latency(self) -> None:
        """Measured, not judged: the programs of this test need the processors as well."""
        with self.stream() as keys:
            idle = echoes(keys, self.TIMES)
            with self.stream() as bulk:
                traffic = Traffic(bulk, self.SIZE)
                traffic.wait_for(self.SIZE // 8)
                beside = echoes(keys, self.TIMES)
                under_way = min(traffic.taken) < self.SIZE
                traffic.finish(self.patience)
        for name, seconds in (("idle", idle), ("beside the transfer", beside)):
            self.note(
                f"milliseconds of a byte there and back, {name}: p50, p99",
                f"{1000 * percentile(seconds, 50):.1f}, {1000 * percentile(seconds, 99):.1f}",
            )
        self.assertTrue(under_way, "the transfer was over before the measurement")


def echoes(stream: Stream, count: int) -> list[float]:
    """The seconds that each of C{count} bytes takes there and back."""
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        stream.near.sendall(b"k")
        stream.far.sendall(receive_exactly(stream.far, 1))
        receive_exactly(stream.near, 1)
        seconds.append(time.perf_counter() - begin)
    return seconds


def rest(traffic: Traffic, patience: float = 120.0) -> float:
    """Seconds from now until bytes move in both directions."""
    begin = time.monotonic()
    if not traffic.moves(list(traffic.taken), patience):
        raise AssertionError(f"nothing moves in {patience:.0f} s")
    return time.monotonic() - begin


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that C{percent} of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


@contextlib.contextmanager
def watching(daemons: Mapping[str, Process]) -> Iterator[dict[str, int]]:
    """The most memory that each of them has, looked at ten times a second."""
    most = dict.fromkeys(daemons, 0)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            for name in most:
                most[name] = max(most[name], daemons[name].memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()
