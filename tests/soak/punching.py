"""
Every pair of NATs: which meet by UDP, with which means, and which by TCP; written to
C{docs/punching-matrix.rst}.

Besides, what is not a pair of types: one LAN, carrier NATs, mappings that live for 5 s.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from relaytun.nat.candidates import NoPath
from relaytun.nat.guessing import Policy

from ..natlab.lab import Lab, require
from ..natlab.meeting import HARD, LAB_HOPS, TcpMeeting, UdpMeeting
from .long import Soak

TYPES = [
    *("public", "fullcone", "addrrest", "fw", "portrest"),
    *("linuxopen", "symseq", "symmetric"),
]
#: NATs that let in whoever the peer's address is known of, whatever its port.
OPEN = {"public", "fullcone", "addrrest"}
PAGE = Path(__file__).parents[2] / "docs" / "punching-matrix.rst"
#: Labs at a time.
_SIDE_BY_SIDE = 4
_USUAL_HOPS = 64
#: Seconds after which what cannot succeed is given up.
_SHORT = 1.5
_COLUMNS = ["UDP", "UDP, first packet near", "UDP, prediction", "UDP, birthday", "TCP"]
_HEAD = """\
Which NATs a punch gets through
===============================

What ``python -m tests.soak PunchingMatrix`` found; it writes this page. Two clients are behind
routers of the types of ``tests/natlab/lab.sh``, with 20 ms of one-way delay on the wire of each;
a number is the time from "go" to a proven path, in seconds.

"First packet near" means that the first packet to each address only opens one's own NAT.
Prediction and birthday were tried where exactly one side is hard (``symseq``, ``symmetric``) and
what came before had failed. Nothing direct gets through between two hard sides: their streams
stay on the relay.

.. list-table::
   :header-rows: 1

"""


class PunchingMatrix(Soak, TestCase):
    """All pairs."""

    timeout = 1800

    async def test_pairs(self) -> None:
        """Each pair meets as the design says, over wires with delay and without."""
        require()
        for delay in (0, 20):
            rows, wrong = [], []
            pairs = list(itertools.combinations_with_replacement(TYPES, 2))
            for some in _batches(pairs, _SIDE_BY_SIDE):
                for pair, row in zip(some, await self.side_by_side(some, delay), strict=True):
                    rows.append((pair, row))
                    if problem := _problem(*pair, row, delay):
                        wrong.append(f"{' and '.join(pair)}: {problem}")
                    self.note(f"{' and '.join(pair)}, {delay} ms", _text(row))
            self.assertEqual(wrong, [])
        PAGE.write_text(_page(rows), encoding="utf-8")

    async def test_places(self) -> None:
        """What depends on where the two are, rather than on their types."""
        require()
        for a, b, expected, options in [
            ("portrest", "same", True, {}),
            ("portrest+hairpin", "same-isolated", True, {}),
            ("portrest", "same-isolated", False, {}),
            ("portrest", "portrest", True, {"cgn": "portrest+hairpin"}),
            ("portrest", "portrest", False, {"cgn": "portrest"}),
            ("portrest", "portrest", True, {"lan_b": "192.168.1"}),
            ("portrest+nopreserve", "portrest+nopreserve", True, {}),
            ("portrest+rst", "portrest+rst", True, {"delay_ms": 20}),
            ("udpblock", "portrest", False, {}),
        ]:
            lab = await deferToThread(Lab, a, b, **options)  # type: ignore[arg-type]
            with lab:
                found = await self.udp(lab, "no", LAB_HOPS, _SHORT)
                self.note(f"{a} and {b}, {options or 'as usual'}", _text([found]))
                self.assertEqual(found is not None, expected, (a, b, options))

    async def test_skew(self) -> None:
        """Two behind routers that refuse with RST meet by TCP though one is late."""
        require()
        lab = await deferToThread(Lab, "portrest+rst", "portrest+rst", delay_ms=20)
        with lab:
            for skew in (0.03, 0.2, 0.25, 0.3):
                seconds = await self.tcp(lab, skew)
                self.note(f"TCP, RST routers, one {skew:g} s late", _text([seconds]))
                self.assertIsNotNone(seconds)

    async def test_short_memory(self) -> None:
        """A path through NATs that forget after 5 s lives on, be it used or idle."""
        require()
        lab = await deferToThread(Lab, "portrest", "portrest", udp_timeout=5)
        with lab:
            for idle in (3.0, 15.0):
                meeting = await deferToThread(UdpMeeting, lab)
                self.addCleanup(meeting.close)
                await meeting.go(reactor, hops=LAB_HOPS, idle=idle)
                one, other = meeting.paths
                lost: list[object] = []
                one.lost = other.lost = lambda lost=lost: lost.append(None)  # type: ignore[misc]
                real: Any = reactor
                await deferLater(real, 40, lambda: None)
                arrived: Deferred[bytes] = Deferred()
                other.received = arrived.callback
                one.send(b"\x40 still there")
                self.assertEqual(await arrived.addTimeout(5, real), b"\x40 still there")
                self.assertEqual(lost, [])
                self.note(f"idle path, mappings of 5 s, ping each {idle:g} s", "alive after 40 s")

    # --- How ------------------------------------------------------------------------------------

    async def side_by_side(
        self, pairs: list[tuple[str, str]], delay: int
    ) -> list[list[float | None]]:
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            labs = list(pool.map(lambda pair: Lab(*pair, delay_ms=delay), pairs))
        try:
            return await gatherResults(
                [Deferred.fromCoroutine(self.row(lab)) for lab in labs], consumeErrors=True
            )
        finally:
            for lab in labs:
                lab.close()

    async def row(self, lab: Lab) -> list[float | None]:
        """Seconds by each of the means; nothing if it fails, or is not needed."""
        one_hard = len([kind for kind in lab.types if kind in HARD]) == 1
        row = [
            await self.udp(lab, "no", _USUAL_HOPS, _SHORT),
            near := await self.udp(lab, "no", LAB_HOPS, _SHORT),
        ]
        predicted = birthday = None
        if near is None and one_hard:
            predicted = await self.udp(lab, "predict", LAB_HOPS, 3)
            for _ in range(3):  # As often as a client tries.
                if predicted is None and birthday is None:
                    birthday = await self.udp(lab, "birthday", LAB_HOPS, 5)
        return [*row, predicted, birthday, await self.tcp(lab)]

    async def udp(self, lab: Lab, policy: Policy, hops: int, timeout: float) -> float | None:
        await deferToThread(lab.flush)
        meeting = await deferToThread(UdpMeeting, lab)
        real: Any = reactor
        began = real.seconds()
        try:
            await meeting.go(reactor, policy, hops, timeout)
        except NoPath:
            return None
        finally:
            meeting.close()
        return float(real.seconds() - began)

    async def tcp(self, lab: Lab, skew: float = 0) -> float | None:
        await deferToThread(lab.flush)
        meeting = await deferToThread(TcpMeeting, lab)
        real: Any = reactor
        began = real.seconds()
        try:
            await meeting.go(reactor, 2 * _SHORT, skew)
        except NoPath:
            return None
        finally:
            meeting.close()
        return float(real.seconds() - began)


def _problem(a: str, b: str, row: list[float | None], delay: int) -> str:
    """What differs from the design, or nothing."""
    plain, near, predicted, birthday, tcp = (seconds is not None for seconds in row)
    easy = bool({a, b} & OPEN)
    hard = {a, b} & HARD
    router = "linuxopen" in (a, b)
    # Where a router lets an early packet burn the mapping, it depends on who is first.
    either = router and not hard and not easy
    if not either and plain != (easy or not hard):
        return "plain UDP"
    if near != (easy or not hard):
        return "UDP with the first packet near"
    both_hard = a in HARD and b in HARD
    if easy or not hard or both_hard:
        if predicted or birthday:
            return "guesses that were not needed"
    elif predicted != (hard == {"symseq"}) or birthday != (hard == {"symmetric"}):
        return "guesses"
    if hard and not easy:
        return "TCP" if tcp else ""
    # Between two such routers, who is first by a little decides; with delay, nobody is.
    return "" if tcp or (a == b == "linuxopen" and not delay) else "TCP"


def _batches(pairs: list[tuple[str, str]], size: int) -> Iterator[list[tuple[str, str]]]:
    for start in range(0, len(pairs), size):
        yield pairs[start : start + size]


def _text(row: Iterable[float | None]) -> str:
    return ", ".join("-" if seconds is None else f"{seconds:.2f}" for seconds in row)


def _page(rows: list[tuple[tuple[str, str], list[float | None]]]) -> str:
    text = _HEAD
    cells: list[list[str]] = [["A", "B", *_COLUMNS]]
    for pair, row in rows:
        seconds = ["" if each is None else f"{each:.2f}" for each in row]
        cells.append([f"``{kind}``" for kind in pair] + seconds)
    for line in cells:
        text += "".join(
            f"   {'* -' if number == 0 else '  -'} {cell}".rstrip() + "\n"
            for number, cell in enumerate(line)
        )
    return text
