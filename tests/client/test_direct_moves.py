"""Tests of L{relaytun.client.direct}: when another way is tried; the network is a fake."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relaytun.client import direct
from relaytun.client.direct import (
    AT_ONCE,
    FIRST_WAIT,
    KNOWN_WAIT,
    LONGEST_WAIT,
    SOON,
    STEADY,
    Direct,
)
from relaytun.wire.messages import Go, MeetingAnswer, MeetingOffer, Message

ID = "0" * 32


class FakeNetwork:
    """
    @ivar meetings: those that go on.
    @ivar keys: of all that there were.
    """

    def __init__(self) -> None:
        self.meetings: list[Deferred[None]] = []
        self.keys: list[bytes] = []

    def gather(self) -> Deferred[Any]:
        """Nothing at all."""
        return succeed(
            SimpleNamespace(
                candidates=(), nat="easy", hard_nat="no", rtt=0.0, quic=True, close=lambda: None
            )
        )

    def meet(self, ours: Any, theirs: Any, key: bytes, *more: Any) -> Deferred[None]:
        """It does not end by itself."""
        self.keys.append(key)
        self.meetings.append(Deferred())
        return self.meetings[-1]


class DirectCase(SynchronousTestCase):
    """One side's, the test is the other side and the link."""

    visitor = True

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = FakeNetwork()
        self.said: list[Message] = []
        self.generation = 0
        self.session = self.new_session()
        self.direct = Direct(
            self.clock,  # type: ignore[arg-type]
            self.network,
            self.visitor,
            lambda: self.session,
            mock.Mock(),
        )
        self.addCleanup(self.direct.close)

    def new_session(self) -> Any:
        """A session at the server."""
        return SimpleNamespace(id=ID, tell=self.said.append, live=True)

    def channel(self, path: str = "") -> None:
        """The link has a new main channel."""
        self.generation += 1
        key = b"key %d" % self.generation
        tls = SimpleNamespace(export_keying_material=lambda label, size: key)
        self.direct.secured(
            SimpleNamespace(path=path, generation=self.generation, tls=tls)  # type: ignore[arg-type]
        )

    def pass_time(self, seconds: float) -> int:
        """@return: how many offers there were meanwhile."""
        before = len(self.said)
        self.clock.pump([0.01] * round(seconds / 0.01))
        return len(self.said) - before

    def answer(self) -> None:
        """The other side takes part in the last attempt, and the server says when."""
        offer = self.said[-1]
        assert isinstance(offer, MeetingOffer)
        common: dict[str, Any] = {"session_id": ID, "attempt": offer.attempt}
        self.direct.received(
            MeetingAnswer(**common, generation=1, candidates=(), nat="easy", rtt=0.0, quic=True)
        )
        self.direct.received(Go(**common, delay=0.0))
        self.clock.advance(0)

    def succeed(self) -> None:
        """The last attempt leads to a channel."""
        self.answer()
        self.channel("quic")
        self.network.meetings[-1].callback(None)


class VisitorTests(DirectCase):
    """Who tries, and when."""

    def test_at_once(self) -> None:
        """A first try follows the first channel; its key is that of the channel."""
        self.channel()
        self.assertEqual(self.pass_time(AT_ONCE + 0.01), 1)
        self.answer()
        self.assertEqual(self.network.keys, [b"key 1"])

    def test_silence(self) -> None:
        """Who does not answer is asked three times in short order, then seldom; it is told why."""
        self.channel()
        offers = self.pass_time(3 * direct.ANSWER_TIMEOUT + 2 * SOON + 1)
        self.assertEqual(offers, 3)
        self.assertEqual(self.direct.why, direct.NO_ANSWER)
        self.assertEqual(self.pass_time(FIRST_WAIT - 2), 0)
        self.assertEqual(self.pass_time(3), 1)

    def test_success(self) -> None:
        """Nothing is tried as long as there is a direct channel."""
        self.channel()
        self.pass_time(1)
        self.succeed()
        self.assertEqual(self.direct.why, "")
        self.assertEqual(self.pass_time(LONGEST_WAIT + 10), 0)

    def test_lost(self) -> None:
        """When a good one is lost another is tried at once, and each minute at the least."""
        self.channel()
        self.pass_time(1)
        self.succeed()
        self.pass_time(STEADY + 0.1)
        self.channel()
        self.assertEqual(self.direct.why, direct.LOST)
        self.assertEqual(self.pass_time(AT_ONCE + 0.01), 1)
        self.pass_time(300)
        for _ in range(3):
            self.assertEqual(self.pass_time(KNOWN_WAIT + direct.ANSWER_TIMEOUT), 1)

    def test_not_good(self) -> None:
        """Paths that come and do not last are tried less and less often, too."""
        self.channel()
        self.pass_time(1)
        for _ in range(2):
            self.succeed()
            self.pass_time(1)
            self.channel()
            self.assertEqual(self.pass_time(SOON - 0.1), 0)
            self.assertEqual(self.pass_time(0.2), 1)
        self.succeed()
        self.pass_time(1)
        self.channel()
        self.assertEqual(self.pass_time(FIRST_WAIT - 1), 0)
        self.assertEqual(self.pass_time(2), 1)

    def test_lost_while_arriving(self) -> None:
        """A connection that was good and carried nothing is followed by another try."""
        self.channel()
        self.pass_time(1)
        self.succeed()
        self.pass_time(STEADY + 0.1)
        self.channel()
        self.pass_time(1)
        self.answer()
        self.network.meetings[-1].callback(None)
        self.assertEqual(self.pass_time(SOON + 0.1), 1)

    def test_session_over(self) -> None:
        """Nobody is asked in a session that is over; a new one begins anew, at once."""
        self.channel()
        self.pass_time(3 * direct.ANSWER_TIMEOUT + 2 * SOON + 1)
        self.session.live = False
        self.assertEqual(self.pass_time(3 * FIRST_WAIT), 0)
        self.session = self.new_session()
        self.channel()
        self.assertEqual(self.pass_time(AT_ONCE + 0.01), 1)
        self.answer()
        self.assertEqual(self.network.keys, [b"key 2"])

    def test_session_changes_meanwhile(self) -> None:
        """A question in the old session is not waited for."""
        self.channel()
        self.pass_time(1)
        self.session = self.new_session()
        self.channel()
        self.assertEqual(self.pass_time(SOON + 0.1), 1)

    def test_close(self) -> None:
        """Nothing is left of it."""
        self.channel()
        self.pass_time(1)
        self.direct.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ProviderTests(DirectCase):
    """Who takes part."""

    visitor = False

    def offer(self, generation: int) -> None:
        """The visitor proposes to meet."""
        self.direct.received(
            MeetingOffer(
                session_id=ID,
                attempt=1,
                generation=generation,
                candidates=(),
                nat="easy",
                rtt=0.0,
                quic=True,
            )
        )

    def test_key(self) -> None:
        """The key is that of the channel which the visitor means, also if there is a newer one."""
        self.channel()
        self.channel("quic")
        self.offer(1)
        self.assertIsInstance(self.said[-1], MeetingAnswer)
        self.direct.received(Go(session_id=ID, attempt=1, delay=0.0))
        self.clock.advance(0)
        self.assertEqual(self.network.keys, [b"key 1"])

    def test_unknown(self) -> None:
        """An offer for a channel that there never was is not answered; nor is anything tried."""
        self.channel()
        self.offer(7)
        self.assertEqual(self.said, [])
        self.assertEqual(self.pass_time(100), 0)
