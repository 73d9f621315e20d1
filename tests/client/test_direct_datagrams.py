"""Tests of L{relaytun.client.direct} for links of udp services: datagrams have a path, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.client.direct import AT_ONCE, FIRST_WAIT, SOON, STEADY, Direct
from relaytun.wire.messages import Candidate, Go, MeetingAnswer, MeetingOffer, Message

from .directsupport import SESSION, channel, session

TCP, UDP = (
    Candidate(kind="host", protocol=protocol, address="192.0.2.1", port=7)  # type: ignore[arg-type]
    for protocol in ("tcp", "udp")
)


class FakeNetwork:
    """
    @ivar meetings: arguments and Deferred of each meeting.
    """

    def __init__(self) -> None:
        self.meetings: list[tuple[tuple[Any, ...], Deferred[None]]] = []

    def gather(self) -> Deferred[Any]:
        offer = mock.Mock()
        offer.candidates, offer.nat, offer.rtt = (TCP, UDP), "easy", 0.1
        offer.hard_nat = "no"
        offer.quic = True
        return succeed(offer)

    def meet(self, *arguments: Any) -> Deferred[None]:
        self.meetings.append((arguments, Deferred()))
        return self.meetings[-1][1]


class DirectDatagramTests(SynchronousTestCase):
    """
    @ivar told: what was said to the server.
    @ivar used: the paths for datagrams, and whom to tell of the last one's end.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = FakeNetwork()
        self.told: list[Message] = []
        self.used: list[tuple[object, Callable[[], None]]] = []
        self.session = session("game", self.told)

    def make(self, visitor: bool = True) -> Direct:
        found: Any = None
        network: Any = self.network
        direct = Direct(
            self.clock,
            network,
            visitor,
            lambda: self.session,
            found,
            punched=lambda path, lost: self.used.append((path, lost)),
        )
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))
        self.addCleanup(direct.close)
        return direct

    def secured(self, direct: Direct, generation: int, path: str = "") -> None:
        direct.secured(channel(generation, path))

    def meet(self, direct: Direct) -> tuple[tuple[Any, ...], Deferred[None]]:
        """An attempt up to its meeting."""
        offer = self.told[-1]
        assert isinstance(offer, MeetingOffer)
        number = offer.attempt
        self.assertEqual(len(self.network.meetings), number - 1)
        direct.received(
            MeetingAnswer(
                session_id=SESSION,
                attempt=number,
                generation=1,
                candidates=(TCP, UDP),
                nat="easy",
                quic=True,
            )
        )
        direct.received(Go(session_id=SESSION, attempt=number, delay=0))
        self.clock.advance(0)
        return self.network.meetings[-1]

    def begin(self, direct: Direct) -> tuple[tuple[Any, ...], Deferred[None]]:
        self.secured(direct, 1)
        self.clock.advance(AT_ONCE)
        return self.meet(direct)

    def test_both(self) -> None:
        """When the channel is direct and datagrams have a path there is nothing left to do."""
        direct = self.make()
        arguments, done = self.begin(direct)
        punched = arguments[-1]
        self.secured(direct, 2, "tcp-direct")
        path = object()
        punched(path)
        done.callback(None)
        self.assertIs(self.used[0][0], path)
        self.clock.advance(FIRST_WAIT * 100)
        self.assertEqual(len(self.told), 1)

    def test_datagrams_alone(self) -> None:
        """If only datagrams lack a path, only that is looked for: no TCP, and no QUIC."""
        direct = self.make()
        _, done = self.begin(direct)
        self.secured(direct, 2, "tcp-direct")
        done.callback(None)
        self.assertEqual(direct.why, "")
        self.clock.advance(SOON)
        offer = self.told[-1]
        assert isinstance(offer, MeetingOffer)
        self.assertEqual((offer.candidates, offer.quic), ((UDP,), False))
        arguments, done = self.meet(direct)
        theirs = arguments[1]
        self.assertEqual((theirs.candidates, theirs.quic), ((UDP,), False))
        done.errback(RuntimeError("blocked"))
        self.assertEqual(direct.why, "")
        self.clock.advance(SOON)
        self.assertEqual(len(self.told), 3)

    def test_lost(self) -> None:
        """A path that is lost is looked for at once, and then less and less often."""
        direct = self.make()
        arguments, done = self.begin(direct)
        arguments[-1](object())
        self.secured(direct, 2, "tcp-direct")
        done.callback(None)
        self.clock.advance(STEADY)
        self.used[0][1]()
        self.clock.advance(AT_ONCE)
        for number in range(2, 6):
            self.assertEqual(len(self.told), number)
            _, done = self.meet(direct)
            done.errback(RuntimeError("blocked"))
            self.clock.advance(SOON if number < 4 else FIRST_WAIT * 2 ** (number - 4))
        arguments, done = self.meet(direct)
        arguments[-1](object())
        done.callback(None)
        self.clock.advance(FIRST_WAIT * 100)
        self.assertEqual(len(self.told), 6)

    def test_channel_lost(self) -> None:
        """While datagrams have a path a channel is looked for as ever."""
        direct = self.make()
        arguments, done = self.begin(direct)
        arguments[-1](object())
        done.errback(RuntimeError("no TCP, no QUIC"))
        self.assertEqual(direct.why, "no TCP, no QUIC")
        self.clock.advance(SOON)
        offer = self.told[-1]
        assert isinstance(offer, MeetingOffer)
        self.assertEqual((offer.candidates, offer.quic), ((TCP, UDP), True))

    def test_lost_when_closed(self) -> None:
        """A path that ends with its link is not looked for."""
        direct = self.make()
        arguments, done = self.begin(direct)
        arguments[-1](object())
        self.secured(direct, 2, "tcp-direct")
        done.callback(None)
        direct.close()
        self.used[0][1]()

    def test_provider(self) -> None:
        """The provider takes what comes, and looks for nothing by itself."""
        direct = self.make(visitor=False)
        self.secured(direct, 1)
        offer = MeetingOffer(
            session_id=SESSION, attempt=1, generation=1, candidates=(UDP,), nat="easy"
        )
        direct.received(offer)
        direct.received(Go(session_id=SESSION, attempt=1, delay=0))
        self.clock.advance(0)
        ((arguments, done),) = self.network.meetings
        self.assertIs(arguments[1], offer)
        arguments[-1](object())
        done.callback(None)
        self.used[0][1]()
        self.assertEqual(len(self.told), 1)
