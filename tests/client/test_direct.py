"""Tests of L{relaytun.client.direct}: when a way without the relay is tried, and what is said."""

from __future__ import annotations

import dataclasses
import itertools
import socket
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.client import direct as module
from relaytun.client.direct import (
    ANSWER_TIMEOUT,
    AT_ONCE,
    FIRST_WAIT,
    LONGEST_WAIT,
    SOON,
    STEADY,
    Direct,
)
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
    made.tls.export_keying_material = lambda label, size: bytes([generation]) * size
    return made


class DirectCase(SynchronousTestCase):
    """
    @ivar told: what was said to the server.
    """

    visitor = True

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = FakeNetwork()
        self.told: list[Message] = []
        self.session: ClientSession | None = ClientSession(
            id=SESSION,
            peer="other",
            service="web",
            role=Role.VISITOR,
            channel_key=bytes(32),
            relay=RelayAddress(host="192.0.2.9", port=9),
            since=0,
            mode="link",
            tell=self.told.append,
        )
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


class VisitorTests(DirectCase):
    """The side that begins."""

    def begin(self, generation: int = 1) -> None:
        """There is a channel through the relay, and the first offer is made."""
        self.direct.secured(channel(generation))
        self.clock.advance(AT_ONCE)

    def test_offer(self) -> None:
        """As soon as there is a channel, what was gathered is offered."""
        self.assertEqual(self.direct.why, module.NOT_TRIED)
        self.direct.secured(channel(3))
        self.assertEqual(self.network.gathering, [])
        self.clock.advance(AT_ONCE)
        (offer,) = self.told
        self.assertEqual(
            offer,
            MeetingOffer(
                session_id=SESSION,
                attempt=1,
                generation=3,
                candidates=(HERE,),
                nat="easy",
                hard_nat="predict",
                rtt=0.25,
                quic=True,
            ),
        )

    def test_meeting(self) -> None:
        """After answer and go, and the delay of that, both meet with the channel's key."""
        self.begin()
        answer = self.answer()
        self.direct.received(answer)
        self.direct.received(self.go(delay=0.5))
        self.clock.advance(0.4)
        self.assertEqual(self.network.meetings, [])
        self.clock.advance(0.2)
        ((arguments, _),) = self.network.meetings
        (offer,) = self.network.offers
        self.assertEqual(arguments, (offer, answer, b"\1" * 32, True, self.direct._found, None))
        self.assertEqual(offer.closed, 0)

    def test_go_overtakes(self) -> None:
        """The word to begin may come before the answer."""
        self.begin()
        self.direct.received(self.go())
        self.direct.received(self.answer())
        self.clock.advance(0)
        self.assertEqual(len(self.network.meetings), 1)

    def test_of_another_attempt(self) -> None:
        """What belongs to another attempt, or comes twice, or is the other side's, is nothing."""
        self.begin()
        for message in (self.answer(2), self.go(2), self.answer(0), self.offer()):
            self.direct.received(message)
        self.clock.advance(1)
        self.assertEqual(self.network.meetings, [])
        for message in (self.answer(), self.answer(), self.go(), self.go()):
            self.direct.received(message)
        self.clock.advance(0)
        self.assertEqual(len(self.network.meetings), 1)

    def test_key_of_the_offer(self) -> None:
        """The key is of the channel that was there when the offer was made."""
        self.begin()
        self.direct.received(self.answer())
        self.direct.secured(channel(2))
        self.direct.received(self.go())
        self.clock.advance(0)
        self.assertEqual(self.network.meetings[0][0][2], b"\1" * 32)
        self.assertEqual(len(self.network.gathering), 1)

    def test_success(self) -> None:
        """With a direct channel nothing more is tried."""
        self.meet()
        self.network.meetings[0][1].callback(None)
        self.direct.secured(channel(2, "lan"))
        self.assertEqual(self.direct.why, "")
        self.clock.advance(LONGEST_WAIT)
        self.assertEqual(self.offers(), [1])
        self.assertEqual(self.network.offers[0].closed, 1)

    def meet(self) -> None:
        """The first attempt gets as far as the network."""
        self.begin()
        self.direct.received(self.answer())
        self.direct.received(self.go())
        self.clock.advance(0)

    def test_lost(self) -> None:
        """When a direct channel that has served for a while is lost, it is tried anew at once."""
        self.test_success()
        self.direct.secured(channel(3))
        self.clock.advance(AT_ONCE)
        self.assertEqual(self.offers(), [1, 2])
        self.assertEqual(self.direct.why, module.LOST)

    def test_slower_than_the_relay(self) -> None:
        """What was given up for the relay is not looked for again soon."""
        self.test_success()
        self.direct.demoted()
        self.direct.secured(channel(3))
        self.assertEqual(self.direct.why, module.SLOWER)
        self.clock.advance(LONGEST_WAIT - 1)
        self.assertEqual(self.offers(), [1])
        self.clock.advance(1)
        self.assertEqual(self.offers(), [1, 2])

    def test_flapping(self) -> None:
        """A direct channel that does not last is tried less and less often."""
        for generation in range(0, 10, 2):
            self.direct.secured(channel(generation))
            self.clock.pump([STEADY / 2] * 30)
            self.direct.secured(channel(generation + 1, "quic"))
            self.clock.advance(STEADY / 2)
        before = len(self.offers())
        self.direct.secured(channel(99))
        self.clock.advance(FIRST_WAIT - 1)
        self.assertEqual(len(self.offers()), before)

    def test_failure(self) -> None:
        """If they do not meet, it says why, and tries again soon."""
        self.meet()
        self.network.meetings[0][1].errback(RuntimeError("both are asleep"))
        self.assertEqual(self.direct.why, "both are asleep")
        self.clock.advance(SOON - 0.1)
        self.assertEqual(self.offers(), [1])
        self.clock.advance(0.1)
        self.assertEqual(self.offers(), [1, 2])
        self.assertEqual([offer.closed for offer in self.network.offers], [1, 0])

    def test_schedule(self) -> None:
        """Three times at once, then less and less often; nobody's answer is waited for long."""
        self.direct.secured(channel(1))
        times: list[float] = []
        while len(times) < 9:
            self.clock.advance(0.05)
            while len(self.offers()) > len(times):
                times.append(self.clock.seconds())
        waits = [b - a - ANSWER_TIMEOUT for a, b in itertools.pairwise(times)]
        self.assertEqual([round(wait) for wait in waits], [SOON, SOON, 30, 60, 120, 240, 300, 300])
        self.assertEqual(self.direct.why, module.NO_ANSWER)

    def test_no_go(self) -> None:
        """An answer without the word to begin is a failure as well, of the server's."""
        self.begin()
        self.direct.received(self.answer())
        self.clock.advance(ANSWER_TIMEOUT)
        self.assertEqual(self.direct.why, module.NO_GO)
        self.direct.received(self.go())
        self.direct.received(self.answer())
        self.assertEqual(self.network.meetings, [])

    def test_nameless_failure(self) -> None:
        """An error without words is told by its name."""
        self.meet()
        self.network.meetings[0][1].errback(ValueError())
        self.assertEqual(self.direct.why, "ValueError")

    def test_no_session(self) -> None:
        """Without a session, or a server to talk to, nothing is gathered; it is tried later."""
        for session in (None, self.session):
            self.session = session
            if session is not None:
                session.tell = None
            self.direct.secured(channel(1))
            self.clock.advance(AT_ONCE)
            self.assertEqual(self.network.gathering, [])
        self.assertEqual(self.direct.why, module.OLD_SERVER)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_session_over(self) -> None:
        """A session of which nobody passes on a word is renewed first, then it is tried at once."""
        assert self.session is not None
        self.session.live = False
        self.begin()
        self.assertEqual((self.renewals, self.network.gathering), (1, []))
        self.session.live = True
        self.direct.secured(channel(2))
        self.clock.advance(SOON)
        self.assertEqual((self.renewals, self.offers()), (1, [1]))
        self.clock.advance(ANSWER_TIMEOUT)

    def test_new_session(self) -> None:
        """In a new session what was said in the old one is void: it is tried anew at once."""
        self.begin()
        assert self.session is not None
        self.session = dataclasses.replace(self.session)
        self.direct.secured(channel(2))
        self.assertEqual(self.network.offers[0].closed, 1)
        self.clock.advance(AT_ONCE)
        self.assertEqual(self.offers(), [1, 2])
        self.direct.received(self.answer(1))
        self.direct.received(self.go(1))
        self.clock.advance(0)
        self.assertEqual(self.network.meetings, [])

    def test_hurry(self) -> None:
        """When the network has changed, what waits is tried at once, as if for the first time."""
        self.direct.secured(channel(1))
        self.clock.pump([1] * 70)
        before = len(self.offers())
        self.direct.hurry()
        self.clock.advance(AT_ONCE)
        self.assertEqual(len(self.offers()), before + 1)
        self.clock.advance(ANSWER_TIMEOUT)
        self.clock.advance(SOON)
        self.assertEqual(len(self.offers()), before + 2)

    def test_hurry_in_vain(self) -> None:
        """Before there is a channel, and with a direct one, there is nothing to hurry."""
        self.direct.hurry()
        self.direct.secured(channel(1, "lan"))
        self.direct.hurry()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_hurry_while_it_runs(self) -> None:
        """An attempt that runs goes on, and the next one is soon."""
        self.direct.secured(channel(1))
        while len(self.offers()) < 4:
            self.clock.advance(0.5)
        self.direct.hurry()
        self.assertEqual(len(self.offers()), 4)
        self.clock.advance(ANSWER_TIMEOUT)
        self.clock.advance(SOON)
        self.assertEqual(len(self.offers()), 5)

    def test_close(self) -> None:
        """At the end, at whatever moment, what was gathered is closed, and nothing comes later."""
        self.network.at_once = False
        self.begin()
        self.direct.close()
        self.assertEqual(self.network.cancelled, self.network.gathering)
        self.assertEqual(self.ended, [self.direct])
        self.direct.close()
        self.assertEqual(self.ended, [self.direct])

    def test_close_while_waiting(self) -> None:
        """The end comes before the first attempt."""
        self.direct.secured(channel(1))
        self.direct.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.direct.secured(channel(2))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_while_meeting(self) -> None:
        """The end stops a meeting."""
        self.meet()
        self.direct.close()
        self.assertEqual(self.network.cancelled, [self.network.meetings[0][1]])
        self.assertEqual(self.network.offers[0].closed, 1)

    def test_close_before_the_delay(self) -> None:
        """The end comes after the word to begin, and before the moment."""
        self.begin()
        self.direct.received(self.answer())
        self.direct.received(self.go(delay=1))
        self.direct.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_few_keys(self) -> None:
        """Only the keys of the last channels are remembered."""
        for generation in range(10):
            self.direct.secured(channel(generation))
        self.assertEqual(sorted(self.direct._keys), [6, 7, 8, 9])


class ProviderTests(DirectCase):
    """The side that answers."""

    visitor = False

    def test_waits(self) -> None:
        """By itself it does nothing, whatever happens to its channels, and says so."""
        self.direct.secured(channel(1))
        self.direct.hurry()
        self.direct.secured(channel(2, "lan"))
        self.direct.secured(channel(3))
        self.clock.advance(1000)
        self.assertEqual(self.told, [])

    def test_answer(self) -> None:
        """It answers an offer with what it has, and meets when it is told to."""
        self.direct.secured(channel(1))
        offer = self.offer(attempt=5)
        self.direct.received(offer)
        (answer,) = self.told
        self.assertEqual(
            answer,
            MeetingAnswer(
                session_id=SESSION,
                attempt=5,
                generation=1,
                candidates=(HERE,),
                nat="easy",
                hard_nat="predict",
                rtt=0.25,
                quic=True,
            ),
        )
        self.direct.received(self.go(4))
        self.direct.received(self.go(5, delay=0.1))
        self.clock.advance(0.1)
        ((arguments, meeting),) = self.network.meetings
        self.assertEqual(
            arguments, (self.network.offers[0], offer, b"\1" * 32, False, self.direct._found, None)
        )
        meeting.errback(RuntimeError("no"))
        self.assertEqual(self.direct.why, "no")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_channel_behind(self) -> None:
        """The visitor may not know the last channel yet: the offer says which key it means."""
        self.direct.secured(channel(1))
        self.direct.secured(channel(2))
        self.direct.received(self.offer(generation=1))
        self.direct.received(self.go())
        self.clock.advance(0)
        self.assertEqual(self.network.meetings[0][0][2], b"\1" * 32)

    def test_unknown_key(self) -> None:
        """Of a channel that it does not know there is no key, and no answer."""
        self.direct.secured(channel(1))
        self.direct.received(self.offer(generation=2))
        self.session = None
        self.direct.received(self.offer(generation=1))
        self.assertEqual((self.told, self.network.gathering), ([], []))

    def test_next_offer(self) -> None:
        """Another offer ends what came of the one before it."""
        self.direct.secured(channel(1))
        self.direct.received(self.offer())
        self.direct.received(self.offer(2))
        self.assertEqual([offer.closed for offer in self.network.offers], [1, 0])
        self.direct.received(self.go(1))
        self.clock.advance(0)
        self.assertEqual(self.network.meetings, [])
        self.direct.received(self.go(2))
        self.clock.advance(0)
        self.assertEqual(len(self.network.meetings), 1)

    def test_no_go(self) -> None:
        """It does not wait for ever for the word to begin."""
        self.direct.secured(channel(1))
        self.direct.received(self.offer())
        self.clock.advance(ANSWER_TIMEOUT)
        self.assertEqual(self.network.offers[0].closed, 1)
        self.assertEqual(self.direct.why, module.NO_GO)

    def test_not_asked(self) -> None:
        """What it says before anybody asked is about that."""
        self.assertEqual(self.direct.why, module.NOT_ASKED)

    def test_closed(self) -> None:
        """After the end no offer is answered."""
        self.direct.secured(channel(1))
        self.direct.close()
        self.direct.received(self.offer())
        self.assertEqual(self.told, [])
