"""Tests of L{relaytun.client.direct}: when a way without the relay is looked for, and again."""

from __future__ import annotations

import dataclasses
import itertools

from relaytun.client import direct as module
from relaytun.client.direct import (
    ANSWER_TIMEOUT,
    AT_ONCE,
    FIRST_WAIT,
    KNOWN_WAIT,
    LONGEST_WAIT,
    SOON,
    STEADY,
)

from .directsupport import DirectCase, channel


class MovesTests(DirectCase):
    """The side that begins."""

    def pass_time(self, seconds: float) -> int:
        """@return: how many offers there were meanwhile."""
        before = len(self.offers())
        self.clock.pump([0.05] * round(seconds / 0.05))
        return len(self.offers()) - before

    def answered(self) -> None:
        """The other side takes part in the last attempt, and the server says when."""
        attempt = self.offers()[-1]
        self.direct.received(self.answer(attempt))
        self.direct.received(self.go(attempt))
        self.clock.advance(0)

    def test_success(self) -> None:
        """With a direct channel nothing more is tried."""
        self.meet()
        self.network.meetings[0][1].callback(None)
        self.direct.secured(channel(2, "lan"))
        self.assertEqual(self.direct.why, "")
        self.clock.advance(LONGEST_WAIT)
        self.assertEqual(self.offers(), [1])
        self.assertEqual(self.network.offers[0].closed, 1)

    def test_lost(self) -> None:
        """When a direct channel that has served for a while is lost, it is tried anew at once."""
        self.test_success()
        self.direct.secured(channel(3))
        self.clock.advance(AT_ONCE)
        self.assertEqual(self.offers(), [1, 2])
        self.assertEqual(self.direct.why, module.LOST)

    def test_lost_for_long(self) -> None:
        """What was there once is looked for each minute at least, however long it is in vain."""
        self.test_success()
        self.direct.secured(channel(3))
        self.pass_time(LONGEST_WAIT)
        for _ in range(3):
            self.assertEqual(self.pass_time(KNOWN_WAIT + ANSWER_TIMEOUT), 1)

    def test_nothing_came(self) -> None:
        """An attempt that ends well, and without a channel, is followed by another one."""
        self.meet()
        self.network.meetings[0][1].callback(None)
        self.assertEqual(self.pass_time(SOON + 0.1), 1)

    def test_flapping(self) -> None:
        """Paths that come and do not last are tried less and less often, too."""
        self.meet()
        for generation, wait in ((2, SOON), (4, SOON), (6, FIRST_WAIT)):
            self.direct.secured(channel(generation, "quic"))
            self.network.meetings[-1][1].callback(None)
            self.clock.advance(STEADY / 2)
            self.direct.secured(channel(generation + 1))
            self.assertEqual(self.pass_time(wait - 0.1), 0)
            self.assertEqual(self.pass_time(0.2), 1)
            self.answered()

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
