"""``python -m bench.direct``: arguments, the order of the rounds, and where the page goes."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import signal
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.natlab.lab import require

from ..processes import RunFailed
from ..subjects import SUBJECTS as OTHERS
from . import __doc__ as about
from .measures import openings, throughput
from .report import Report
from .subjects import SUBJECTS, Place, Running, Subject

#: What a subject or a lab fails with: the report tells of it.
_FAILURES = RunFailed, AssertionError, SkipTest, OSError
_VERSIONS = ("relaytun", "socat", "frp")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.direct", description=about)
    names = [subject.name for subject in SUBJECTS]
    parser.add_argument("--subjects", help=f"of {','.join(names)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--attempts", type=int, default=9, help="first streams; 0: none")
    parser.add_argument("--delay", type=int, default=20, help="milliseconds one way")
    parser.add_argument("--part", type=float, default=1.0, help="of the sizes of the transfers")
    parser.add_argument("--output", type=Path, help="the page to write, with a .json beside it")
    return parser.parse_args()


def _start_all(
    kept: contextlib.ExitStack, subjects: list[Subject], delay: int, failures: list[str]
) -> dict[Subject, Running]:
    """All subjects, in as many labs as they need; what does not start is one of the failures."""
    places: dict[bool, Place] = {}
    started: dict[Subject, Running] = {}
    for subject in subjects:
        try:
            if subject.tcp not in places:
                places[subject.tcp] = Place.build(kept, delay, subject.tcp)
            started[subject] = subject.start(places[subject.tcp])
        except _FAILURES as error:
            _fail(failures, f"{subject.name}, {delay} ms", error)
    return started


def _throughputs(report: Report, subjects: list[Subject], delay: int, part: float) -> None:
    """Each subject once in each round, every second round backwards."""
    taken = report.throughput.setdefault(delay, {})
    with contextlib.ExitStack() as kept:
        started = _start_all(kept, subjects, delay, report.failures)
        for number in range(report.rounds):
            for subject in list(started) if number % 2 == 0 else list(reversed(started)):
                label = f"{subject.name}, {delay} ms, round {number + 1}"
                try:
                    size = max(1, round(subject.mib[bool(delay)] * part))
                    row = throughput(started[subject], size)
                except _FAILURES as error:
                    _fail(report.failures, label, error)
                    continue
                taken.setdefault(subject.name, {})[number] = row
                _say(f"{label}: {', '.join(f'{k} {v:.4g}' for k, v in row.items())}")


def _openings(report: Report, attempts: int) -> None:
    with contextlib.ExitStack() as kept:
        try:
            for auto, off in openings(Place.build(kept, report.delay_ms), attempts):
                report.openings.append((auto, off))
                _say(f"first stream: auto {auto}, off {off}")
        except _FAILURES as error:
            _fail(report.failures, "first streams", error)


def _fail(failures: list[str], what: str, error: BaseException) -> None:
    line = str(error).splitlines()[0] if str(error) else type(error).__name__
    failures.append(f"{what}: {line}")
    _say(f"FAILED {what}: {error}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run the benchmark; 0, or 1 when something failed, or 2 where there can be no lab."""
    options = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require()
    except SkipTest as reason:
        _say(str(reason))
        return 2
    wanted = options.subjects.split(",") if options.subjects else [s.name for s in SUBJECTS]
    chosen = [subject for subject in SUBJECTS if subject.name in wanted]
    versions = {other.name: other.version() for other in OTHERS if other.name in _VERSIONS}
    now = datetime.datetime.now(datetime.timezone.utc)
    report = Report(
        f"{now:%Y-%m-%d %H:%M} UTC",
        options.rounds,
        options.delay,
        {subject.name: subject.about for subject in chosen},
        {subject.name: subject.mib for subject in chosen},
        [version for version in versions.values() if version],
    )
    for subject in [each for each in chosen if each.missing()]:
        chosen.remove(subject)
        report.failures.append(f"{subject.name}: not installed: {', '.join(subject.missing())}")
    for delay in (0, options.delay):
        if chosen:
            _throughputs(report, chosen, delay, options.part)
    if options.attempts:
        _openings(report, options.attempts)
    print(report.text(), end="")
    if options.output is not None:
        options.output.write_text(report.rst())
        options.output.with_suffix(".json").write_text(report.json() + "\n")
        _say(f"written: {options.output.name}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
