"""What is measured: one run of one subject gives one row of numbers.

Every run starts the subject and the service afresh and ends them, so that nothing is carried over
from one measure to the next.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import proc, web
from .load import sunk
from .packets import highest_rate
from .processes import Processes, RunFailed, Script, echoes, free_port
from .subjects import Subject

Row = dict[str, float]

_SETTLE_SECONDS = 15.0
_LONGEST_RUN = 120.0
_LONGEST_ROUND_TRIPS = 20.0
_FILLING_SECONDS = 1.0
_DATAGRAM = 1200
HTTP = "http"


@dataclass(frozen=True)
class Settings:
    """How much of each measure."""

    gib: float
    seconds: float
    round_trips: int
    streams: int
    width: int


@dataclass(frozen=True)
class Loaded:
    """What a load process reported, and the CPU seconds used meanwhile, by role."""

    result: Row
    cpu: Row


@dataclass(frozen=True)
class Bench:
    """A started subject with its service."""

    processes: Processes
    service: Script
    service_port: int
    port: int

    def load(self, mode: str, **options: float) -> Loaded:
        """Run one load process against the subject."""
        with self.start_load(mode, options) as script:
            script.hear(_LONGEST_RUN)
            before = self.cpu(script)
            script.tell()
            result: Row = json.loads(script.hear(_LONGEST_RUN))
            after = self.cpu(script)
        return Loaded(result, {role: after[role] - before[role] for role in before})

    def start_load(self, mode: str, options: dict[str, float]) -> Script:
        """A load process that has still to be told to begin."""
        flags = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        return Script("load.py", mode, "--port", str(self.port), *flags)

    def cpu(self, load: Script) -> Row:
        """CPU seconds so far of each role, of the subject as a whole and of the load."""
        roles = self.processes.roles
        used = {role: proc.cpu_seconds(self.processes.pids(role)) for role in roles}
        return {
            **used,
            "all": sum(used.values()),
            "load": proc.cpu_seconds([load.pid, self.service.pid]),
        }


def throughput(bench: Bench, settings: Settings) -> Row:
    """One stream, one way: MB/s (10^6 bytes), and CPU seconds for each GiB (2^30 bytes)."""
    size = int(settings.gib * 2**30)
    loaded = bench.load("throughput", bytes=size)
    row = {"mb_s": size / 1e6 / loaded.result["seconds"]}
    return row | {f"cpu_{role}": used / settings.gib for role, used in loaded.cpu.items()}


def streams(bench: Bench, settings: Settings) -> Row:
    """Many streams at once, one way: MB/s of all, the slowest one's share, CPU for each GiB."""
    loaded = bench.load(
        "streams",
        width=settings.width,
        seconds=settings.seconds,
        service=bench.service_port,
    )
    size = max(1.0, loaded.result["bytes"])
    row = {"mb_s": size / 1e6 / loaded.result["seconds"], "least": loaded.result["least"]}
    return row | {f"cpu_{role}": used * 2**30 / size for role, used in loaded.cpu.items()}


def rtt(bench: Bench, settings: Settings) -> Row:
    """One byte there and back over one stream, in microseconds, and the CPU for it.

    Then once more with every process on one core (`one_core`, its p50): on a small virtual machine
    the first number depends on whether the scheduler wakes a sleeping core, which can change
    from one minute to the next; the second is the length of the path alone.
    """
    limits = {"count": settings.round_trips, "most": _LONGEST_ROUND_TRIPS}
    loaded = bench.load("rtt", **limits)
    each = 1e6 / loaded.result["count"]
    row = {f"cpu_{role}": used * each for role, used in loaded.cpu.items()}
    core = min(os.sched_getaffinity(0))
    proc.pin([*bench.processes.pids(), bench.service.pid], core)
    pinned = bench.load("rtt", **limits, core=core)
    return loaded.result | row | {"one_core": pinned.result["p50"]}


def fairness(bench: Bench, settings: Settings) -> Row:
    """A byte there and back on a quiet tunnel, then beside a stream that is kept full (us)."""
    limits = {"count": settings.round_trips, "most": settings.seconds}
    quiet = bench.load("rtt", **limits).result
    with bench.start_load("bulk", {}) as bulk:
        bulk.hear(_LONGEST_RUN)
        bulk.tell()
        time.sleep(_FILLING_SECONDS)
        began, before = time.perf_counter(), sum(sunk(bench.service_port))
        beside = bench.load("rtt", **limits).result
        moved = sum(sunk(bench.service_port)) - before
        seconds = time.perf_counter() - began
    return {
        "quiet_p50": quiet["p50"],
        "quiet_p99": quiet["p99"],
        "p50": beside["p50"],
        "p99": beside["p99"],
        "times_p50": beside["p50"] / quiet["p50"],
        "times_p99": beside["p99"] / quiet["p99"],
        "bulk_mb_s": moved / 1e6 / seconds,
    }


def connections(bench: Bench, settings: Settings) -> Row:
    """New streams for each second, one by one and 16 at a time; CPU in us for each stream."""
    one = bench.load("sequential", seconds=settings.seconds)
    many = bench.load("parallel", seconds=settings.seconds, width=16)
    row = {
        "sequential": one.result["count"] / one.result["seconds"],
        "parallel": many.result["count"] / many.result["seconds"],
        "errors": many.result["errors"],
    }
    count = max(1.0, many.result["count"])
    return row | {f"cpu_{role}": 1e6 * used / count for role, used in many.cpu.items()}


def idle(bench: Bench, settings: Settings) -> Row:
    """Memory for each idle stream, in KiB: PSS of the server and of all, RSS, and the kernel's.

    The kernel's is the whole machine's: it contains the sockets of all hops and of the load, which
    is why only differences between subjects with the same number of hops mean anything.
    """
    with bench.start_load("idle", {"count": settings.streams, "width": 16}) as load:
        load.hear(_LONGEST_RUN)
        before = _settled(bench)
        load.tell()
        result: Row = json.loads(load.hear(_LONGEST_RUN))
        after = _settled(bench)
        load.tell()
        alive = json.loads(load.hear(_LONGEST_RUN))["alive"]
    if alive != settings.streams:
        raise RunFailed(f"{alive} of {settings.streams} idle streams lived")
    each = 1 / 1024 / settings.streams
    return {
        "pss": (after.server.pss - before.server.pss) * each,
        "rss": (after.server.rss - before.server.rss) * each,
        "pss_all": (after.everyone.pss - before.everyone.pss) * each,
        "kernel": (after.kernel - before.kernel) * each,
        "base_mib": before.server.pss / 2**20,
        "base_all_mib": before.everyone.pss / 2**20,
        "open_s": result["seconds"],
        "errors": result["errors"],
    }


@dataclass(frozen=True)
class _Look:
    """Memory of the server, of all hops and of the kernel, at one time."""

    server: proc.Memory
    everyone: proc.Memory
    kernel: int


def _settled(bench: Bench) -> _Look:
    """What is seen once four looks in a row agree within half a percent."""
    everyone = bench.processes.pids() or [bench.service.pid]
    server = bench.processes.pids("server") or everyone
    deadline = time.monotonic() + _SETTLE_SECONDS
    sizes: list[int] = []
    while True:
        seen = _Look(proc.memory(server), proc.memory(everyone), proc.kernel_memory())
        sizes = [*sizes[-3:], seen.everyone.pss]
        steady = len(sizes) == 4 and max(sizes) - min(sizes) <= max(sizes) * 0.005
        if steady or time.monotonic() > deadline:
            return seen
        time.sleep(0.25)


def packets(bench: Bench, settings: Settings) -> Row:
    """Datagrams of 1,200 bytes each second that arrive, one way, without loss; CPU in us each."""
    with Script("datagrams.py", "source", str(bench.port), str(_DATAGRAM)) as source:
        source.hear(_LONGEST_RUN)
        before = bench.cpu(source)
        rate, sent = highest_rate(source, bench.service, settings.seconds / 3)
        after = bench.cpu(source)
    cpu = {f"cpu_{role}": (after[role] - before[role]) * 1e6 / sent for role in before}
    return {"packets": rate, "mb_s": rate * _DATAGRAM / 1e6} | cpu


def http(run: Processes, subject: Subject, settings: Settings) -> Row:
    """Small requests through a host name, on kept and on new connections, 32 at a time."""
    service, starting = free_port(), subject.start_http
    assert starting is not None
    web.service(run, service)
    port = starting(run, service)
    web.await_answer(port)
    return web.load(run, port, settings.seconds)


MEASURES: dict[str, Callable[[Bench, Settings], Row] | None] = {
    run.__name__: run for run in (throughput, streams, rtt, fairness, connections, idle, packets)
} | {HTTP: None}


def applies(subject: Subject, measure: str) -> bool:
    """Whether `subject` can do `measure` at all: not all of them carry UDP."""
    if measure == HTTP:
        return subject.start_http is not None and not web.missing()
    return measure != packets.__name__ or subject.start_udp is not None


def run_once(subject: Subject, measure: str, settings: Settings) -> Row:
    """Start `subject`, take one `measure`, stop; RunFailed says what went wrong."""
    if measure == HTTP:
        with Processes() as processes:
            return http(processes, subject, settings)
    udp = measure == packets.__name__
    script = ["datagrams.py", "sink"] if udp else ["service.py"]
    with Script(*script) as service, Processes() as processes:
        service_port = int(service.hear(10))
        if udp:
            assert subject.start_udp is not None
            port = subject.start_udp(processes, service_port)
        else:
            port = subject.start(processes, service_port)
            processes.wait(lambda: echoes(port), "an echo through the subject")
        bench = Bench(processes, service, service_port, port)
        take = MEASURES[measure]
        assert take is not None
        row = take(bench, settings)
        if not row:
            raise RunFailed("no numbers")
        return row
