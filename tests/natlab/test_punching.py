"""Hole punching and simultaneous open between NATs: a few pairs of the table of all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from relaytun.nat.candidates import FIRST_HOPS, TIMEOUT, NoPath
from relaytun.nat.guessing import Policy

from .lab import Lab, require
from .meeting import LAB_HOPS, TcpMeeting, UdpMeeting

Meeting = TypeVar("Meeting", UdpMeeting, TcpMeeting)


@dataclass(frozen=True)
class Case:
    """
    A lab, and what is expected there.

    @ivar udp: how a path is found; C{no} if none is; nothing if it is not tried.
    @ivar tcp: b's address as a is connected to it, without the port; likewise.
    """

    types: tuple[str, str]
    udp: str = ""
    tcp: str = ""
    policy: Policy = "no"
    hops: int = FIRST_HOPS
    timeout: float = TIMEOUT
    lab: dict[str, Any] = field(default_factory=dict)


#: Seconds after which what cannot succeed is given up here.
SHORT = 1.5
CASES = [
    Case(("portrest", "portrest"), "candidate", "192.0.2.2"),
    Case(("portrest", "linuxopen"), "candidate", "192.0.2.2", hops=LAB_HOPS, lab={"delay_ms": 20}),
    Case(("addrrest", "symmetric"), "reflexive"),
    Case(("linuxopen", "symseq"), "predicted", policy="predict", hops=LAB_HOPS),
    Case(
        ("portrest", "symmetric"),
        "birthday",
        policy="birthday",
        hops=LAB_HOPS,
        lab={"delay_ms": 20},
    ),
    Case(("symmetric", "symseq"), "no", "no", timeout=SHORT, policy="birthday"),
    Case(("udpblock", "udpblock"), "no", "192.0.2.2", timeout=SHORT),
    Case(("portrest", "same"), "candidate", "192.168.1.20"),
    Case(("portrest", "fw+rst"), tcp="192.0.2.2", lab={"delay_ms": 20}),
    Case(("portrest", "portrest"), "candidate", "192.0.2.2", lab={"lan_b": "192.168.1"}),
]


class MeetingTests(TestCase):
    timeout = 60

    async def test_pairs(self) -> None:
        """Each pair meets as the table says; all do so side by side."""
        require()
        with ThreadPoolExecutor(4) as pool:
            labs = list(pool.map(self.build, CASES))
            meetings = list(pool.map(self.prepare, CASES, labs))
        results = await gatherResults(
            [
                Deferred.fromCoroutine(self.meet(*each))
                for each in zip(CASES, labs, meetings, strict=True)
            ],
            consumeErrors=True,
        )
        self.assertEqual(
            [(case.types, *result) for case, result in zip(CASES, results, strict=True)],
            [(case.types, case.udp, case.tcp) for case in CASES],
        )

    def build(self, case: Case) -> Lab:
        lab = Lab(*case.types, **case.lab)
        self.addCleanup(lab.close)
        return lab

    def prepare(self, case: Case, lab: Lab) -> tuple[UdpMeeting | None, TcpMeeting | None]:
        return (
            self.meeting(UdpMeeting, lab) if case.udp else None,
            self.meeting(TcpMeeting, lab) if case.tcp else None,
        )

    def meeting(self, kind: type[Meeting], lab: Lab) -> Meeting:
        meeting = kind(lab)
        self.addCleanup(meeting.close)
        return meeting

    async def meet(
        self, case: Case, lab: Lab, meetings: tuple[UdpMeeting | None, TcpMeeting | None]
    ) -> tuple[str, str]:
        found, address = "", ""
        udp, tcp = meetings
        if udp is not None:
            found = await self.udp(case, udp)
            if found == "no" and case.udp == "birthday":
                # One attempt in fifty finds nothing; a client makes three.
                found = await self.udp(case, await deferToThread(self.meeting, UdpMeeting, lab))
        if tcp is not None:
            try:
                address = (await tcp.go(reactor, case.timeout))[0]
            except NoPath:
                address = "no"
        return found, address

    async def udp(self, case: Case, meeting: UdpMeeting) -> str:
        try:
            return await meeting.go(reactor, case.policy, case.hops, case.timeout)
        except NoPath:
            return "no"
