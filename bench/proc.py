"""CPU time and memory of process trees, read from ``/proc``.

CPU includes children that have been waited for, so that a forking forwarder (socat) is charged
for every connection it served.  All functions tolerate a process that ends while they look.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_TICK = os.sysconf("SC_CLK_TCK")


class Stat(NamedTuple):
    """The fields of ``/proc/<pid>/stat`` that matter here (proc(5)); `ticks` in clock ticks."""

    parent: int
    ticks: int
    start: int


@dataclass(frozen=True)
class Memory:
    """Bytes of resident memory (`rss`) and its proportional share (`pss`, shared pages divided)."""

    rss: int
    pss: int


def stat(pid: int) -> Stat | None:
    """The state of `pid`, or None when it is gone.  `ticks` includes its reaped children."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The command name, in parentheses, may itself hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return Stat(int(fields[1]), sum(int(field) for field in fields[11:15]), int(fields[19]))


def tree(roots: Iterable[int]) -> dict[int, Stat]:
    """Every living process in the trees under `roots`, the roots included."""
    found: dict[int, Stat] = {}
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in os.listdir(_PROC):
        if entry.isdigit() and (seen := stat(int(entry))) is not None:
            found[int(entry)] = seen
            children[seen.parent].append(int(entry))
    wanted: dict[int, Stat] = {}
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid in found and pid not in wanted:
            wanted[pid] = found[pid]
            todo += children[pid]
    return wanted


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system seconds that the trees under `roots` have used so far."""
    return sum(seen.ticks for seen in tree(roots).values()) / _TICK


def pin(roots: Iterable[int], core: int) -> None:
    """Keep every thread of the trees under `roots`, and what they start, on one core."""
    for pid in tree(roots):
        for thread in (_PROC / str(pid) / "task").glob("*"):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(thread.name), {core})


def memory(roots: Iterable[int]) -> Memory:
    """Resident memory of the trees under `roots`."""
    rss = pss = 0
    for pid in tree(roots):
        try:
            text = (_PROC / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        sizes = _sizes(text)
        rss += sizes.get("Rss", 0)
        pss += sizes.get("Pss", 0)
    return Memory(rss, pss)


def kernel_memory() -> int:
    """Bytes that the kernel of the whole machine holds for sockets, pipes, tasks and page tables.

    RSS does not show what a stream costs in there (a pipe, a socket), so a benchmark that looks
    at RSS alone flatters a program that keeps its bytes in the kernel.
    """
    sizes = _sizes((_PROC / "meminfo").read_text())
    return sizes["Slab"] + sizes["KernelStack"] + sizes["PageTables"]


def _sizes(text: str) -> dict[str, int]:
    """The ``Name:  123 kB`` lines of a /proc file, in bytes."""
    sizes: dict[str, int] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == "kB":
            sizes[words[0].rstrip(":")] = int(words[1]) * 1024
    return sizes
