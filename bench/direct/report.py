"""Medians, ratios, verdicts of a direct path: text for the terminal, RST for the documentation."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ..report import bullets, heading, machine, simple_table
from .measures import Row

_FORMS = {"mb_s": "{:.0f}", "cpu": "{:.1f}", "ratio": "{:.2f}", "seconds": "{:.3f}"}
_TO_REACH = 0.9
_PLAIN = ("tls", "socat-tls")
_VERSUS = (*_PLAIN, "relay", "frp-stcp", "frp-xtcp")


@dataclass
class Report:
    """
    A finished run.

    @ivar subjects: what each is.
    @ivar mib: the size of one transfer of each, without delay and with it.
    @ivar versions: of the programs.
    @ivar throughput: by the milliseconds of delay, the subject and the round.
    @ivar openings: pairs with direct = auto and off.
    """

    date: str
    rounds: int
    delay_ms: int
    subjects: dict[str, str]
    mib: dict[str, tuple[int, int]]
    versions: Sequence[str]
    throughput: dict[int, dict[str, dict[int, Row]]] = field(default_factory=dict)
    openings: list[tuple[Row, Row]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The tables and verdicts alone."""
        tables = [f"{title}\n\n{body}" for title, body in self._tables()]
        return "\n\n".join([*tables, bullets(self._verdicts())]) + "\n"

    def rst(self) -> str:
        """The page for the documentation."""
        facts = machine()
        parts = [
            heading("Benchmark of the direct path", "="),
            "Written by ``python -m bench.direct --output docs/benchmark-direct.rst`` (as root) "
            f"on {self.date}. Two homes behind NATs that filter by address and port (``portrest`` "
            "of ``tests/natlab``) and a server, as namespaces of one machine, once without "
            f"delay and once with {self.delay_ms} ms one way on the wire of each home, so "
            f"{4 * self.delay_ms} ms there and back between the clients, with or without the "
            f"server. Medians of {self.rounds} rounds, in which the subjects take turns; a ratio "
            f"is taken within each round. Machine: {facts['processor']}, {facts['cores']} cores, "
            f"{facts['kernel']}, Python {facts['python']}. The programs, the wires of the lab and "
            "both clients share these cores: read the ratios, not the values.",
            "Throughput: one stream, one way, from b to a, warmed up; MB = 10^6 bytes. CPU is user "
            "and system time for each GiB: of both clients, and of these, the server and the two "
            "programs together. In *tls* the programs do the work of the clients. Without delay "
            "CPU is what counts: *tls* is two processes on these cores, each tunnel four or five, "
            "with two more sockets to pass. With delay each has to keep enough on the way.",
            "The first streams: the visitor has just started, so that it has no link yet; with and "
            "without a direct path in turn. The direct path counts from the program's connection "
            "until ``relaytun status`` says so.",
            bullets(
                f"{name}: {about} ({low} MiB, with delay {high})"
                for name, about in self.subjects.items()
                for low, high in [self.mib[name]]
            ),
            bullets(self.versions),
            heading("What was to be reached", "-"),
            bullets(self._verdicts()),
        ]
        for title, body in self._tables():
            parts += [heading(title, "-"), body]
        if self.failures:
            parts += [heading("Not measured", "-"), bullets(self.failures)]
        return "\n\n".join(parts) + "\n"

    def json(self) -> str:
        """Every sample."""
        return json.dumps(
            {
                "date": self.date,
                "machine": machine(),
                "verdicts": self._verdicts(),
                "throughput": self.throughput,
                "openings": self.openings,
                "failures": self.failures,
            },
            indent=1,
        )

    def ratio(self, delay: int, subject: str, other: str) -> float | None:
        """The median over the rounds of one throughput divided by another one of the same round."""
        taken = self.throughput.get(delay, {})
        mine, others = taken.get(subject, {}), taken.get(other, {})
        return _median(
            row["mb_s"] / others[number]["mb_s"] for number, row in mine.items() if number in others
        )

    def _tables(self) -> list[tuple[str, str]]:
        found = []
        for delay, taken in self.throughput.items():
            head = ["subject", "MB/s", *(f"/ {other}" for other in _VERSUS)]
            lines = [[*head, "clients CPU s/GiB", "server CPU s/GiB", "all CPU s/GiB"]]
            for subject in filter(taken.__contains__, self.subjects):
                ratios = [self.ratio(delay, subject, other) for other in _VERSUS]
                rows = taken[subject].values()
                cpu = [
                    _median(row[f"cpu_{who}"] for row in rows if f"cpu_{who}" in row)
                    for who in ("clients", "server", "all")
                ]
                speed = _median(row["mb_s"] for row in rows)
                line = [_cell("mb_s", speed), *(_cell("ratio", each) for each in ratios)]
                lines.append([subject, *line, *(_cell("cpu", each) for each in cpu)])
            found.append((f"Throughput of one stream, {delay} ms one way", simple_table(lines)))
        if self.openings:
            found.append((f"The first stream, {self.delay_ms} ms one way", self._first_table()))
        return found

    def _first_table(self) -> str:
        lines = [["seconds", "direct = auto", "direct = off", "auto / off"]]
        for key, title in (("first", "to the first byte"), ("later", "the same, later streams")):
            auto, off = self._medians(key)
            ratio = auto / off if auto and off else None
            lines.append([title, *(_cell("seconds", each) for each in (auto, off))])
            lines[-1].append(_cell("ratio", ratio))
        times = sorted(row["direct"] for row, _ in self.openings)
        for title, value in (
            ("to a direct path, p50", statistics.median(times)),
            ("the fastest", times[0]),
            ("the slowest", times[-1]),
        ):
            lines.append([title, _cell("seconds", value), "--", "--"])
        return simple_table(lines)

    def _medians(self, key: str) -> tuple[float | None, float | None]:
        auto = _median(row[key] for row, _ in self.openings)
        return auto, _median(row[key] for _, row in self.openings)

    def _verdicts(self) -> list[str]:
        lines = []
        for delay in self.throughput:
            for other in _PLAIN:
                value = self.ratio(delay, "tcp-direct", other)
                text = f"throughput, {delay} ms: tcp-direct / {other}"
                lines.append(_verdict(text, value, _TO_REACH, _at_least))
        if self.openings:
            direct = _median(row["direct"] for row, _ in self.openings)
            text = f"seconds to a direct path, {self.delay_ms} ms, p50 of {len(self.openings)}"
            lines.append(_verdict(text, direct, 1.0, _at_most))
            for key, title in (("first", "first byte"), ("later", "first byte of later streams")):
                auto, off = self._medians(key)
                ratio = auto / off if auto and off else None
                lines.append(_verdict(f"{title}: auto / off", ratio, 1.05, _at_most))
        return [line for line in lines if line]


def _at_least(value: float, limit: float) -> bool:
    return value >= limit


def _at_most(value: float, limit: float) -> bool:
    return value <= limit


def _verdict(
    text: str, value: float | None, limit: float, good: Callable[[float, float], bool]
) -> str:
    if value is None:
        return ""
    word = "reached" if good(value, limit) else "FALLS SHORT"
    sign = ">=" if good is _at_least else "<="
    return f"{word}: {text}: {value:.2f} (to reach: {sign} {limit:g})"


def _median(values: Iterable[float]) -> float | None:
    known = list(values)
    return statistics.median(known) if known else None


def _cell(form: str, value: float | None) -> str:
    return "--" if value is None else _FORMS[form].format(value)
