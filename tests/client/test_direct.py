"""Tests of L{relaytun.client.direct}: what the two sides say to each other, and when they meet."""

from __future__ import annotations

from relaytun.client import direct as module
from relaytun.client.direct import ANSWER_TIMEOUT, AT_ONCE
from relaytun.wire.messages import MeetingAnswer, MeetingOffer

from .directsupport import HERE, SESSION, DirectCase, channel


class VisitorTests(DirectCase):
    """The side that begins."""

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
