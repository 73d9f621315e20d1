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

from . import proc
from .processes import Processes, RunFailed, Script, echoes
from .subjects import Subject

Row = dict[str, float]

_SETTLE_SECONDS = 15.0
_LONGEST_RUN = 120.0


@dataclass(frozen=True)
class Settings:
    """How much of each measure."""

    gib: float
    seconds: float
    round_trips: int
    streams: int


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


def rtt(bench: Bench, settings: Settings) -> Row:
    """One byte there and back over one stream, in microseconds, and the CPU for it.

    Then once more with every process on one core (`one_core`, its p50): on a small virtual machine
    the first number depends on whether the scheduler wakes a sleeping core, which can change
    from one minute to the next; the second is the length of the path alone.
    """
    loaded = bench.load("rtt", count=settings.round_trips)
    each = 1e6 / settings.round_trips
    row = {f"cpu_{role}": used * each for role, used in loaded.cpu.items()}
    core = min(os.sched_getaffinity(0))
    proc.pin([*bench.processes.pids(), bench.service.pid], core)
    pinned = bench.load("rtt", count=settings.round_trips, core=core)
    return loaded.result | row | {"one_core": pinned.result["p50"]}


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
    """Memory of the server for each idle stream, in KiB: its PSS and RSS, and the kernel's.

    The kernel's is the whole machine's: it contains the sockets of all hops and of the load, which
    is why only differences between subjects with the same number of hops mean anything.
    """
    server = bench.processes.pids("server") or [bench.service.pid]
    with bench.start_load("idle", {"count": settings.streams, "width": 16}) as load:
        load.hear(_LONGEST_RUN)
        before, kernel_before = _settled(server)
        load.tell()
        result: Row = json.loads(load.hear(_LONGEST_RUN))
        after, kernel_after = _settled(server)
        load.tell()
        alive = json.loads(load.hear(_LONGEST_RUN))["alive"]
    if alive != settings.streams:
        raise RunFailed(f"{alive} of {settings.streams} idle streams lived")
    each = 1 / 1024 / settings.streams
    return {
        "pss": (after.pss - before.pss) * each,
        "rss": (after.rss - before.rss) * each,
        "kernel": (kernel_after - kernel_before) * each,
        "base_mib": before.pss / 2**20,
        "open_s": result["seconds"],
        "errors": result["errors"],
    }


def _settled(pids: list[int]) -> tuple[proc.Memory, int]:
    """Memory of `pids` and of the kernel once four looks in a row agree within half a percent."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    looks: list[int] = []
    while True:
        seen, kernel = proc.memory(pids), proc.kernel_memory()
        looks = [*looks[-3:], seen.pss]
        steady = len(looks) == 4 and max(looks) - min(looks) <= max(looks) * 0.005
        if steady or time.monotonic() > deadline:
            return seen, kernel
        time.sleep(0.25)


MEASURES: dict[str, Callable[[Bench, Settings], Row]] = {
    run.__name__: run for run in (throughput, rtt, connections, idle)
}


def run_once(subject: Subject, measure: str, settings: Settings) -> Row:
    """Start `subject`, take one `measure`, stop; RunFailed says what went wrong."""
    with Script("service.py") as service, Processes() as processes:
        service_port = int(service.hear(10))
        port = subject.start(processes, service_port)
        processes.wait(lambda: echoes(port), "an echo through the subject")
        bench = Bench(processes, service, port)
        row = MEASURES[measure](bench, settings)
        if not row:
            raise RunFailed("no numbers")
        return row
