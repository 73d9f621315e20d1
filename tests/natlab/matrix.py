"""
Which path two clients come to, for each pair of NATs, and how soon: C{docs/nat-matrix.rst}.

C{python -m tests.natlab.matrix [--write FILE] [--delay MS]... [--patience SECONDS]
[--hard-nat A/B] [A/B...]} runs real daemons in the lab, says what becomes of each pair, and fails
if one is not what L{predicted} says.  It takes some seconds for each.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from itertools import combinations_with_replacement
from pathlib import Path
from typing import NamedTuple

from ..integration.links import exchange
from .daemons import Daemons
from .lab import Lab

TYPES = (
    *("public", "fullcone", "addrrest", "fw", "portrest"),
    *("linuxopen", "symseq", "symmetric", "udpblock"),
)
HARD = {"symseq", "symmetric"}
#: With these they meet by guessing alone.
GUESSED = {"fw", "portrest", "linuxopen"}
#: What C{status} calls a path that the server is not on.
DIRECT = {"lan", "tcp-direct", "quic"}
#: Of both sides: the table is of what can be had.
POLICIES = "birthday", "birthday"
PATIENCE = 8.0


class Case(NamedTuple):
    """
    What is built.

    @ivar name: what is special about it, in words; nothing for a pair of the table.
    """

    type_a: str
    type_b: str
    delay_ms: int = 0
    lan_b: str = "192.168.2"
    cgn: str | None = None
    name: str = ""

    @property
    def special(self) -> bool:
        """Whether the table has no place for it."""
        return bool(self.name) or not {self.type_a, self.type_b} <= set(TYPES)

    def __str__(self) -> str:
        where = f" behind {self.cgn}" if self.cgn else ""
        return f"{self.type_a}/{self.type_b}{where}, {self.delay_ms} ms"


class Outcome(NamedTuple):
    """
    @ivar path: of the session, at the end: C{relay} or one of L{DIRECT}.
    @ivar seconds: from the stream's beginning to that path; for C{relay} all that were waited.
    @ivar first: seconds to the first byte.
    """

    path: str
    seconds: float
    first: float

    @property
    def direct(self) -> bool:
        return self.path in DIRECT

    def __str__(self) -> str:
        return f"{self.path} {self.seconds:.2f}" if self.direct else self.path


#: Beside the table; each with the delays that the table has.
SPECIAL = (
    Case("portrest", "same", name="on one LAN"),
    Case("portrest", "same-isolated", name="on one LAN that keeps its hosts apart"),
    Case(
        "portrest+hairpin",
        "same-isolated",
        name="the same, with a router that loops back",
    ),
    Case("portrest", "portrest", lan_b="192.168.1", name="two homes with the same addresses"),
    Case("portrest", "portrest", cgn="fullcone+hairpin", name="one carrier, which loops back"),
    Case("portrest", "portrest", cgn="portrest", name="one carrier, which does not"),
    Case("portrest+rst", "portrest+rst", name="routers that refuse instead of being silent"),
    Case("portrest+nopreserve", "portrest+nopreserve", name="other ports outside than inside"),
)
#: Of these it is not known before; and the relay is no fault of theirs.
_OPEN = {"the same, with a router that loops back", "one carrier, which does not"}


def pairs(types: Sequence[str] = TYPES, delays: Iterable[int] = (0, 20)) -> list[Case]:
    """Each pair once, with each delay; the special cases after them."""
    found = [
        Case(*pair, delay) for delay in delays for pair in combinations_with_replacement(types, 2)
    ]
    return found + [case._replace(delay_ms=delay) for delay in delays for case in SPECIAL]


def predicted(case: Case, policies: tuple[str, str] = POLICIES) -> bool | None:
    """
    Whether the clients come to a direct path; C{None}: nobody knows.

    With prediction and birthday all pairs do, but hard with hard; where UDP does not pass, TCP
    decides, which has neither.  What only one of the two allows is as if nobody did.
    """
    if case.name in _OPEN:
        return None
    if case.type_b == "same-isolated":
        return False
    kinds = {case.type_a, case.type_b}
    if (kinds & HARD and kinds & GUESSED) and not (
        set(policies) == {"birthday"} or ("no" not in policies and "symseq" in kinds)
    ):
        return False
    hard = [kind.partition("+")[0] in HARD for kind in (case.type_a, case.type_b)]
    if "udpblock" in (case.type_a, case.type_b):
        return not any(hard)
    return not all(hard)


class _Daemons(Daemons):
    """Each of the two with a policy of its own."""

    def __init__(self, lab: Lab, policies: tuple[str, str]) -> None:
        self._policies = dict(zip(("provider", "visitor"), policies, strict=True))
        super().__init__(lab)

    def config(self, client_id: str, sections: str, client: str = "") -> Path:
        client += f"\nhard_nat = {self._policies[client_id]}"
        return super().config(client_id, sections, client)


def run(case: Case, policies: tuple[str, str] = POLICIES, patience: float = PATIENCE) -> Outcome:
    """
    Real daemons, and one stream that stays open until a direct path is there, or the time over.

    @param policies: C{hard_nat} of a and b.
    @raise AssertionError: if its bytes do not arrive, then or later.
    """
    with Lab(
        case.type_a, case.type_b, delay_ms=case.delay_ms, lan_b=case.lan_b, cgn=case.cgn
    ) as lab:
        daemons = _Daemons(lab, policies)
        try:
            began = time.monotonic()
            with daemons.stream() as stream:
                exchange(*stream)
                first = time.monotonic() - began
                path, seconds = _await_direct(daemons, began, patience)
                exchange(*stream)
            daemons.check_logs()
            return Outcome(path, seconds, first)
        finally:
            daemons.close()


def _await_direct(daemons: Daemons, began: float, patience: float) -> tuple[str, float]:
    try:
        path = daemons.await_path(DIRECT.__contains__, patience)
    except AssertionError:
        path = daemons.path()
    return path, time.monotonic() - began


def page(outcomes: dict[Case, Outcome], note: str = "") -> str:
    """The text of the documentation's page."""
    lines = [
        *("Which path two clients come to", "==============================", ""),
        "Written by ``python -m tests.natlab.matrix``; each pair was run once, with real daemons",
        "in network namespaces.  A number is the time in seconds from the beginning of a stream,",
        "whose first bytes take the relay, until it has moved to that path.  Rows and columns are",
        "types of NAT, as ``tests/natlab/lab.sh types`` explains them; both sides have",
        "``hard_nat = birthday``.",
        "",
        *([note, ""] if note else []),
    ]
    for delay in sorted({case.delay_ms for case in outcomes}):
        title = f"{delay} ms one way, on each side" if delay else "Without delay"
        lines += [title, "-" * len(title), ""]
        there = {case: each for case, each in outcomes.items() if case.delay_ms == delay}
        plain = {case[:2]: each for case, each in there.items() if not case.special}
        if plain:
            names = [name for name in TYPES if any(name in pair for pair in plain)]
            rows = [[name, *(_cell(plain, name, other) for other in names)] for name in names]
            lines += _table(["", *names], rows)
        rows = [
            [case.name or "/".join(case[:2]), str(each)]
            for case, each in there.items()
            if case.special
        ]
        if rows:
            lines += _table(["Special", "path"], rows)
    return "\n".join(lines)


def _cell(outcomes: dict[tuple[str, str], Outcome], one: str, other: str) -> str:
    found = outcomes.get((one, other)) or outcomes.get((other, one))
    return str(found) if found else ""


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", "   :stub-columns: 1", ""]
    for row in (head, *rows):
        for number, text in enumerate(row):
            lines.append(f"   {'-' if number else '*'} - {text}".replace("   - - ", "     - "))
    return [*(line.rstrip() for line in lines), ""]


def main(words: Sequence[str]) -> int:
    """@return: how many pairs are not what was predicted."""
    parser = argparse.ArgumentParser(prog="python -m tests.natlab.matrix")
    parser.add_argument("--write", type=Path, help="where the page goes")
    parser.add_argument("--delay", type=int, action="append", help="milliseconds one way [0, 20]")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="seconds for each pair")
    parser.add_argument(
        "--hard-nat", metavar="A/B", default="/".join(POLICIES), help="of the two [%(default)s]"
    )
    parser.add_argument("pairs", nargs="*", metavar="A/B", help="types [all, and special cases]")
    options = parser.parse_args(words)
    one, other = options.hard_nat.split("/")
    policies = one, other
    delays = options.delay or [0, 20]
    cases = pairs(delays=delays)
    if options.pairs:
        wished = [pair.split("/") for pair in options.pairs]
        cases = [Case(one, other, delay) for delay in delays for one, other in wished]
    outcomes: dict[Case, Outcome] = {}
    wrong = 0
    for case in cases:
        outcome = outcomes[case] = run(case, policies, options.patience)
        expected = predicted(case, policies)
        is_wrong = expected is not None and expected != outcome.direct
        wrong += is_wrong
        verdict = "  NOT AS PREDICTED" if is_wrong else ""
        print(f"{case}: {outcome}, first byte {outcome.first:.3f}{verdict}", flush=True)
        if options.write:
            when = datetime.now(timezone.utc)
            note = f"{when:%Y-%m-%d}, {len(outcomes)} pairs, {wrong} not as predicted."
            options.write.write_text(page(outcomes, note))
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 99))
