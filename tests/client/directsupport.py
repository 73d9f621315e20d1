"""One side of a direct path, of which the test is the other side, the server and the network."""

from __future__ import annotations

import socket
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.client.direct import AT_ONCE, Direct
from relaytun.ends.legs import ClientSession
from relaytun.wire.messages import Candidate, Go, MeetingAnswer, MeetingOffer, Message, RelayAddress
from relaytun.wire.preamble import Role

SESSION = f"{7:032x}"
HERE = Candidate(kind="host", protocol="tcp", address="192.0.2.1", port=7)
THERE = Candidate(kind="host", protocol="tcp", address="192.0.2.2", port=8)


class FakeOffer:
    """What a client has to offer."""

    candidates = (HERE,)
    nat = "easy"
    hard_nat = "predict"
    rtt = 0.25
    quic = True

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class FakeNetwork:
    """
    @ivar gathering: the Deferreds of what is being gathered.
    @ivar meetings: arguments and Deferred of each meeting.
    @ivar cancelled: those of either that were cancelled.
    """

    def __init__(self) -> None:
        self.gathering: list[Deferred[Any]] = []
        self.offers: list[FakeOffer] = []
        self.meetings: list[tuple[tuple[Any, ...], Deferred[None]]] = []
        self.at_once = True
        self.cancelled: list[Deferred[Any]] = []

    def gather(self) -> Deferred[Any]:
        gathering: Deferred[Any] = Deferred(self.cancelled.append)
        self.gathering.append(gathering)
        if self.at_once:
            self.gathered()
        return gathering

    def gathered(self) -> None:
        """The last one is done."""
        self.offers.append(FakeOffer())
        self.gathering[-1].callback(self.offers[-1])

    def meet(self, *arguments: Any) -> Deferred[None]:
        meeting: Deferred[None] = Deferred(self.cancelled.append)
        self.meetings.append((arguments, meeting))
        return meeting


def channel(generation: int, path: str = "") -> Any:
    """A main channel that is secured."""
    made = mock.Mock()
    made.generation, made.path = generation, path
    made.secret = lambda label, size: bytes([generation]) * size
    return made


def session(service: str, told: list[Message]) -> ClientSession:
    """The visitor's session for C{service}; what it tells the server goes to C{told}."""
    return ClientSession(
        id=SESSION,
        peer="other",
        service=service,
        role=Role.VISITOR,
        channel_key=bytes(32),
        relay=RelayAddress(host="192.0.2.9", port=9),
        since=0,
        mode="link",
        tell=told.append,
    )


class DirectCase(SynchronousTestCase):
    """
    @ivar told: what was said to the server.
    """

    visitor = True

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = FakeNetwork()
        self.told: list[Message] = []
        self.session: ClientSession | None = session("web", self.told)
        self.ended: list[Direct] = []
        self.renewals = 0
        self.direct = Direct(
            self.clock,
            self.network,  # type: ignore[arg-type]
            self.visitor,
            lambda: self.session,
            self.found,
            renew=self.renew,
            ended=self.ended.append,
        )

    def tearDown(self) -> None:
        self.direct.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual([offer.closed for offer in self.network.offers if not offer.closed], [])

    def renew(self) -> None:
        self.renewals += 1

    def found(self, sock: socket.socket, path: str) -> Deferred[bool]:
        raise AssertionError("it is the network's to call")

    def offers(self) -> list[int]:
        """The attempts that were offered."""
        return [each.attempt for each in self.told if isinstance(each, MeetingOffer)]

    def offer(self, attempt: int = 1, generation: int = 1) -> MeetingOffer:
        return MeetingOffer(
            session_id=SESSION,
            attempt=attempt,
            generation=generation,
            candidates=(THERE,),
            nat="easy",
        )

    def answer(self, attempt: int = 1) -> MeetingAnswer:
        return MeetingAnswer(
            session_id=SESSION, attempt=attempt, generation=1, candidates=(THERE,), nat="hard"
        )

    def go(self, attempt: int = 1, delay: float = 0.0) -> Go:
        return Go(session_id=SESSION, attempt=attempt, delay=delay)

    def begin(self, generation: int = 1) -> None:
        """There is a channel through the relay, and the first offer is made."""
        self.direct.secured(channel(generation))
        self.clock.advance(AT_ONCE)

    def meet(self) -> None:
        """The first attempt gets as far as the network."""
        self.begin()
        self.direct.received(self.answer())
        self.direct.received(self.go())
        self.clock.advance(0)
