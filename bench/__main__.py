"""``python -m bench``: arguments, the order of the rounds, and where the results go."""

from __future__ import annotations

import argparse
import datetime
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .measures import MEASURES, Settings, applies, run_once
from .processes import RunFailed
from .report import Report, Samples
from .subjects import SUBJECTS, Subject

_ROOT = Path(__file__).resolve().parent.parent
_PAGE = _ROOT / "docs" / "benchmark.rst"
_RESULTS = _ROOT / "bench" / "results"


def _names(known: Sequence[str]) -> type[list[str]]:
    """An argparse type: a comma-separated choice of `known`."""

    class Names(list[str]):
        def __init__(self, text: str) -> None:
            chosen = [name.strip() for name in text.split(",") if name.strip()]
            for name in chosen:
                if name not in known:
                    message = f"{name!r} is none of {', '.join(known)}"
                    raise argparse.ArgumentTypeError(message)
            super().__init__(chosen)

    return Names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = [subject.name for subject in SUBJECTS]
    parser.add_argument("--only", type=_names(list(MEASURES)), help=f"of {','.join(MEASURES)}")
    parser.add_argument("--subjects", type=_names(names), help=f"of {','.join(names)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gib", type=float, default=1.0, help="size of one transfer")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run that is timed")
    parser.add_argument("--round-trips", type=int, default=20_000)
    parser.add_argument("--streams", type=int, default=5000, help="idle streams")
    parser.add_argument("--width", type=int, default=200, help="streams of the measure streams")
    parser.add_argument(
        "--output",
        type=Path,
        help="the page to write, with a .json beside it; without it a complete run writes "
        "docs/benchmark.rst and bench/results/, and a partial one only prints",
    )
    return parser.parse_args()


def _raise_file_limit(streams: int) -> None:
    """Let this process and all that it starts hold every stream: up to six descriptors each."""
    wanted = 12 * streams + 5000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), max(hard, wanted)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if hard < wanted:
            _say(f"only {hard} open files are allowed: less than 12 for each idle stream")


def _available(wanted: Sequence[str] | None) -> tuple[list[Subject], dict[str, str], list[str]]:
    """The subjects to run, their versions, and a line for each that is missing."""
    chosen = [s for s in SUBJECTS if not wanted or s.name in wanted]
    versions = {subject.name: subject.version() for subject in chosen}
    present = [subject for subject in chosen if versions[subject.name] is not None]
    missing = [f"{s.name}: not installed" for s in chosen if versions[s.name] is None]
    return present, {name: text for name, text in versions.items() if text is not None}, missing


def _run(
    subjects: Sequence[Subject],
    measures: Sequence[str],
    rounds: int,
    settings: Settings,
    failures: list[str],
) -> Samples:
    """Every subject once for each measure in each round, every second round backwards."""
    samples: Samples = {measure: {} for measure in measures}
    for number in range(rounds):
        for measure in measures:
            for subject in subjects if number % 2 == 0 else reversed(subjects):
                if not applies(subject, measure):
                    continue
                label = f"round {number + 1}/{rounds} {measure} {subject.name}"
                try:
                    row = run_once(subject, measure, settings)
                except RunFailed as error:
                    failures.append(f"{subject.name}, {measure}, round {number + 1}: {error}")
                    _say(f"{label}: FAILED: {error}")
                    continue
                samples[measure].setdefault(subject.name, {})[number] = row
                _say(f"{label}: {', '.join(f'{k} {v:.4g}' for k, v in row.items())}")
    return samples


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run the benchmark; 0, or 1 when something failed, or 130 when interrupted."""
    options = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    measures = options.only or list(MEASURES)
    if "idle" in measures:
        _raise_file_limit(options.streams)
    subjects, versions, failures = _available(options.subjects)
    for line in failures:
        _say(f"SKIPPED {line}")
    settings = Settings(
        options.gib, options.seconds, options.round_trips, options.streams, options.width
    )
    missing = len(failures)
    try:
        samples = _run(subjects, measures, options.rounds, settings, failures)
    except KeyboardInterrupt:
        _say("interrupted: everything that was started has been ended, nothing is written")
        return 130
    now = datetime.datetime.now(datetime.timezone.utc)
    report = Report(
        f"{now:%Y-%m-%d %H:%M} UTC",
        options.rounds,
        settings,
        versions,
        subjects,
        samples,
        failures,
    )
    print(report.text(), end="")
    complete = not (options.only or options.subjects)
    page = options.output or (_PAGE if complete else None)
    if page is not None:
        page.write_text(report.rst())
        data = page.with_suffix(".json") if options.output else _RESULTS / f"{now:%Y-%m-%d}.json"
        data.parent.mkdir(exist_ok=True)
        data.write_text(report.json())
        _say(f"written: {page.name}, {data.name}")
    return 1 if len(failures) > missing else 0


if __name__ == "__main__":
    sys.exit(main())
