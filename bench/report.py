"""Medians, ratios, verdicts: text for the terminal, RST and JSON for the repository."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .measures import Row, Settings
from .subjects import ENCRYPTED, Subject

#: measure -> subject -> round -> row
Samples = dict[str, dict[str, dict[int, Row]]]

#: Names of subjects; where they are several, the highest value of each round is what counts.
Versus = tuple[str, ...]

_RATHOLE: Versus = ("rathole",)
_FRP: Versus = ("frp",)
_FRP_DEFAULT: Versus = ("frp-default",)
_HAPROXY: Versus = ("haproxy",)


@dataclass(frozen=True)
class Column:
    """A column of a measure's table: `key` of the rows, or its ratio to the best of `versus`."""

    title: str
    key: str
    form: str = "{:.0f}"
    versus: Versus = ()


_FINE = "{:.2f}"
_TENTHS = "{:.1f}"
COLUMNS: dict[str, list[Column]] = {
    "throughput": [
        Column("MB/s", "mb_s"),
        Column("/ rathole", "mb_s", _FINE, _RATHOLE),
        Column("/ frp", "mb_s", _FINE, _FRP),
        Column("/ best encrypted", "mb_s", _FINE, ENCRYPTED),
        Column("server CPU s/GiB", "cpu_server", _FINE),
        Column("/ haproxy", "cpu_server", _FINE, _HAPROXY),
        Column("provider CPU s/GiB", "cpu_provider", _FINE),
        Column("visitor CPU s/GiB", "cpu_visitor", _FINE),
        Column("all CPU s/GiB", "cpu_all", _FINE),
        Column("load CPU s/GiB", "cpu_load", _FINE),
    ],
    "streams": [
        Column("MB/s", "mb_s"),
        Column("/ frp", "mb_s", _FINE, _FRP),
        Column("/ best encrypted", "mb_s", _FINE, ENCRYPTED),
        Column("slowest / average", "least", _FINE),
        Column("server CPU s/GiB", "cpu_server", _FINE),
        Column("provider CPU s/GiB", "cpu_provider", _FINE),
        Column("visitor CPU s/GiB", "cpu_visitor", _FINE),
        Column("all CPU s/GiB", "cpu_all", _FINE),
        Column("load CPU s/GiB", "cpu_load", _FINE),
    ],
    "rtt": [
        Column("p50 us", "p50"),
        Column("/ rathole", "p50", _FINE, _RATHOLE),
        Column("/ frp-default", "p50", _FINE, _FRP_DEFAULT),
        Column("p99 us", "p99"),
        Column("p99 / rathole", "p99", _FINE, _RATHOLE),
        Column("one core p50 us", "one_core"),
        Column("one core / rathole", "one_core", _FINE, _RATHOLE),
        Column("server CPU us", "cpu_server"),
    ],
    "fairness": [
        Column("quiet p50 us", "quiet_p50"),
        Column("quiet p99 us", "quiet_p99"),
        Column("beside p50 us", "p50"),
        Column("beside p99 us", "p99"),
        Column("p50 beside / quiet", "times_p50", _TENTHS),
        Column("p99 beside / quiet", "times_p99", _TENTHS),
        Column("bulk MB/s", "bulk_mb_s"),
    ],
    "connections": [
        Column("one by one /s", "sequential"),
        Column("/ frp", "sequential", _FINE, _FRP),
        Column("/ frp-default", "sequential", _FINE, _FRP_DEFAULT),
        Column("16 at a time /s", "parallel"),
        Column("16 / frp", "parallel", _FINE, _FRP),
        Column("16 / frp-default", "parallel", _FINE, _FRP_DEFAULT),
        Column("server CPU us", "cpu_server"),
        Column("all CPU us", "cpu_all"),
        Column("errors", "errors"),
    ],
    "idle": [
        Column("server PSS KiB", "pss", _TENTHS),
        Column("server RSS KiB", "rss", _TENTHS),
        Column("all hops PSS KiB", "pss_all", _TENTHS),
        Column("kernel KiB, all hops", "kernel", _TENTHS),
        Column("server before, MiB", "base_mib"),
        Column("all hops before, MiB", "base_all_mib"),
        Column("opening s", "open_s", _TENTHS),
        Column("errors", "errors"),
    ],
    "packets": [
        Column("packets/s", "packets"),
        Column("/ frp", "packets", _FINE, _FRP),
        Column("/ frp-default", "packets", _FINE, _FRP_DEFAULT),
        Column("MB/s", "mb_s"),
        Column("server CPU us", "cpu_server", _TENTHS),
        Column("provider CPU us", "cpu_provider", _TENTHS),
        Column("visitor CPU us", "cpu_visitor", _TENTHS),
        Column("load CPU us", "cpu_load", _TENTHS),
    ],
}
COLUMNS["http"] = [
    column
    for name in ("kept", "new")
    for column in (
        Column(f"{name}: requests/s", f"{name}_rps"),
        Column("/ frp", f"{name}_rps", _FINE, _FRP),
        Column("/ frp-default", f"{name}_rps", _FINE, _FRP_DEFAULT),
        Column("p99 ms", f"{name}_p99", _TENTHS),
        Column("server CPU us", f"{name}_cpu"),
        Column("errors", f"{name}_errors"),
    )
]
TITLES = {
    "throughput": "Throughput of one stream, and CPU for each GiB",
    "streams": "Throughput of many streams at once, and CPU for each GiB",
    "rtt": "Round trip of one byte",
    "fairness": "Round trip of one byte beside a stream that is kept full",
    "connections": "New streams for each second, each with one byte there and back",
    "idle": "Memory for each idle stream",
    "http": "HTTP requests through a host name, 32 connections, the server on one core",
    "packets": "UDP: datagrams of 1,200 bytes for each second without loss",
}


@dataclass(frozen=True)
class Target:
    """What `subject` has to reach: the median ratio to the best of `versus`, or a plain value."""

    text: str
    measure: str
    key: str
    versus: Versus
    limit: float
    at_least: bool
    subject: str = "relaytun"

    def judge(self, samples: Samples) -> str | None:
        """A sentence, or None when it was not measured."""
        value = cell(samples, self.measure, self.subject, self.key, self.versus)
        if value is None:
            return None
        good = value >= self.limit if self.at_least else value <= self.limit
        sign = ">=" if self.at_least else "<="
        word = "reached" if good else "FALLS SHORT"
        return f"{word}: {self.text}: {value:.2f} (to reach: {sign} {self.limit:g})"


_LINK = "relaytun-link"
_PUBLIC = "relaytun-public"
_PUBLIC_LINK = "relaytun-public-link"
_SPLICED: Versus = ("haproxy-splice",)
_STCP: Versus = ("frp-stcp",)
TARGETS = [
    Target("server CPU per GiB / haproxy", "throughput", "cpu_server", _HAPROXY, 0.6, False),
    Target("server CPU per GiB / haproxy-splice", "throughput", "cpu_server", _SPLICED, 0.6, False),
    Target("throughput / rathole", "throughput", "mb_s", _RATHOLE, 1.0, True),
    Target("throughput / frp", "throughput", "mb_s", _FRP, 1.3, True),
    Target("throughput / frp-stcp", "throughput", "mb_s", _STCP, 1.3, True),
    Target("round trip p50 / rathole", "rtt", "p50", _RATHOLE, 1.3, False),
    Target("round trip p99 / rathole", "rtt", "p99", _RATHOLE, 1.3, False),
    Target("round trip p50 on one core / rathole", "rtt", "one_core", _RATHOLE, 1.3, False),
    Target("new streams one by one / frp", "connections", "sequential", _FRP, 1.0, True),
    Target("new streams 16 at a time / frp", "connections", "parallel", _FRP, 1.0, True),
    Target("server PSS KiB per idle stream", "idle", "pss", (), 12.0, False),
    Target("link: throughput / best encrypted", "throughput", "mb_s", ENCRYPTED, 1.0, True, _LINK),
    Target("link: many streams / best encrypted", "streams", "mb_s", ENCRYPTED, 1.0, True, _LINK),
    Target(
        "link: new streams one by one / frp-default",
        "connections",
        "sequential",
        _FRP_DEFAULT,
        1.5,
        True,
        _LINK,
    ),
    Target(
        "link: new streams 16 at a time / frp-default",
        "connections",
        "parallel",
        _FRP_DEFAULT,
        1.5,
        True,
        _LINK,
    ),
    Target("public port: throughput / frp", "throughput", "mb_s", _FRP, 1.0, True, _PUBLIC),
    Target("HTTP, kept connections / frp", "http", "kept_rps", _FRP, 0.7, True, _PUBLIC),
    Target("HTTP, new connections / frp", "http", "new_rps", _FRP, 0.7, True, _PUBLIC),
    Target(
        "HTTP, kept connections, link / frp-default",
        "http",
        "kept_rps",
        _FRP_DEFAULT,
        0.7,
        True,
        _PUBLIC_LINK,
    ),
    Target(
        "HTTP, new connections, link / frp-default",
        "http",
        "new_rps",
        _FRP_DEFAULT,
        0.7,
        True,
        _PUBLIC_LINK,
    ),
    Target("UDP: packets/s / frp-default", "packets", "packets", _FRP_DEFAULT, 3.0, True, _LINK),
    Target("UDP: packets/s / frp", "packets", "packets", _FRP, 3.0, True, _LINK),
]


def cell(
    samples: Samples, measure: str, subject: str, key: str, versus: Versus = ()
) -> float | None:
    """The median over the rounds of `key`, or of its ratio to the best of `versus` in each round.

    `subject` itself is not among those that it is compared with, unless it is the only one.
    """
    taken = samples.get(measure, {})
    others = [name for name in versus if name != subject] or list(versus)
    values = []
    for number, row in taken.get(subject, {}).items():
        if key not in row:
            continue
        if not versus:
            values.append(row[key])
            continue
        best = max(taken.get(name, {}).get(number, {}).get(key, 0.0) for name in others)
        if best:
            values.append(row[key] / best)
    return statistics.median(values) if values else None


def table(samples: Samples, measure: str, subjects: Sequence[Subject]) -> str:
    """One measure as an RST simple table."""
    columns = COLUMNS[measure]
    lines = [["subject", "hops", *(column.title for column in columns)]]
    for subject in subjects:
        if not samples.get(measure, {}).get(subject.name):
            continue
        line = [subject.name, str(subject.hops)]
        for column in columns:
            value = cell(samples, measure, subject.name, column.key, column.versus)
            line.append("--" if value is None else column.form.format(value))
        lines.append(line)
    return simple_table(lines)


def simple_table(lines: Sequence[Sequence[str]]) -> str:
    """An RST simple table; numbers stand at the right."""
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    rule = "  ".join("=" * width for width in widths)
    body = []
    for first, *others in lines:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        body.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join([rule, body[0], rule, *body[1:], rule])


def machine() -> dict[str, str]:
    """Processor, cores and kernel."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": str(len(models) or "?"),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


@dataclass(frozen=True)
class Report:
    """A finished run."""

    date: str
    rounds: int
    settings: Settings
    versions: dict[str, str]
    subjects: Sequence[Subject]
    samples: Samples
    failures: Sequence[str]

    def text(self) -> str:
        """The tables and verdicts alone."""
        parts = [f"{title}\n\n{body}" for title, body in self._tables()]
        verdicts = "\n".join(f"- {line}" for line in self._verdicts())
        return "\n\n".join([*parts, verdicts] if verdicts else parts) + "\n"

    def rst(self) -> str:
        """The page for the documentation."""
        facts = machine()
        parts = [
            heading("Benchmark", "="),
            f"Written by ``python -m bench`` on {self.date}. All programs side by side in one run "
            f"over loopback; medians of {self.rounds} rounds; a ratio is taken within each round. "
            f"Machine: {facts['processor']}, {facts['cores']} cores, {facts['kernel']}, Python "
            f"{facts['python']}. The load shares these cores. Two cores carry a whole tunnel, the "
            "sender and the receiver, so read the ratios, not the values.",
            "*server* is the public process: the forwarder itself where there is one hop. CPU is "
            "user and system time of its processes. Throughput: "
            f"{self.settings.gib:g} GiB one way over one stream, MB = 10^6 bytes. Many streams: "
            f"{self.settings.width} at once for {self.settings.seconds:g} s, counted where they "
            f"arrive. Round trip: {self.settings.round_trips} times one byte; *one core*: the same "
            "with all processes on one core, which takes the scheduler's choices out. Idle: "
            f"{self.settings.streams} streams.",
            "*/ best encrypted* compares with the fastest of what encrypts, in the same round: "
            f"{', '.join(ENCRYPTED)}. Only fowl and relaytun's link encrypt end to end; with the "
            "others the server, or each hop, sees plain text.",
            "UDP: one flow, one way, from the visitor's side to the service. The rate rises until "
            "more than 0.1 percent is lost in each of three trials, and is then searched to within "
            "3 percent; what counts is what arrived in the best trial without such loss. Datagrams "
            "come evenly, one by one (no segmentation offload), at most 64 at once. CPU is for "
            "each datagram sent, over all trials. Where *direct* is not far above a subject, the "
            "load was the limit.",
            bullets(self._programs()),
        ]
        if verdicts := self._verdicts():
            parts += [heading("What was to be reached", "-"), bullets(verdicts)]
        for title, body in self._tables():
            parts += [heading(title, "-"), body]
        if self.failures:
            parts += [heading("Not measured", "-"), bullets(self.failures)]
        return "\n\n".join(parts) + "\n"

    def json(self) -> str:
        """Every sample of every round."""
        content = {
            "date": self.date,
            "machine": machine(),
            "settings": {**asdict(self.settings), "rounds": self.rounds},
            "versions": self.versions,
            "verdicts": self._verdicts(),
            "failures": list(self.failures),
            "samples": self.samples,
        }
        return json.dumps(content, indent=1) + "\n"

    def _programs(self) -> list[str]:
        named = {s.name: [self.versions[s.name], s.about] for s in self.subjects}
        return [f"{name}: {', '.join(filter(None, parts))}" for name, parts in named.items()]

    def _tables(self) -> list[tuple[str, str]]:
        taken = [measure for measure in COLUMNS if self.samples.get(measure)]
        return [(TITLES[name], table(self.samples, name, self.subjects)) for name in taken]

    def _verdicts(self) -> list[str]:
        lines = (target.judge(self.samples) for target in TARGETS)
        return [line for line in lines if line is not None]


def heading(text: str, mark: str) -> str:
    """A title and the line below it."""
    return f"{text}\n{mark * len(text)}"


def bullets(lines: Iterable[str]) -> str:
    """A list."""
    return "\n".join(f"- {line}" for line in lines)
