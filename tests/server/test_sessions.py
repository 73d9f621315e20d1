"""Tests of L{relaytun.server.sessions}."""

from __future__ import annotations

import base64
import time
from typing import Any

from hypothesis import given, settings, strategies as st

from relaytun.server.granted import ANSWER_TIMEOUT, FIRST_CHANNEL_GRACE, Session
from relaytun.server.pairing import Match, Wait
from relaytun.wire import messages, preamble
from relaytun.wire.moods import Mood
from relaytun.wire.preamble import Preamble, Refusal, Role

from .support import BrokerCase, Channel, Leg, tcp


def opening(session: Session, role: Role, channel: int, spare: bool = False) -> Preamble:
    """An authentic preamble."""
    nonce = f"{role}{channel}{spare}".encode().ljust(16)
    key = session.channel_keys[role]
    return preamble.decode(preamble.encode(key, role, session.key, channel, nonce, spare))


class SessionCase(BrokerCase):
    """A test case with a provider and a visitor."""

    def setUp(self) -> None:
        super().setUp()
        self.begin()

    def begin(self, **limits: Any) -> None:
        """Start afresh, with other limits."""
        self.broker = self.make_broker(**limits)
        self.sessions = self.broker.sessions
        self.provider = self.client("p", tcp("ssh"))
        self.visitor = self.client("v")

    def session(self) -> Session:
        """A live session."""
        session, _ = self.granted(self.visitor, self.provider)
        return session

    def ended(self, session: Session, reason: str, moved: int = 0) -> None:
        """Both clients were told, and the session is forgotten."""
        for client in (self.visitor, self.provider):
            self.assertEqual(
                client.take(messages.SessionClosed),
                messages.SessionClosed(
                    session_id=session.id, reason=reason, bytes_transferred=moved
                ),
            )
        self.assertIsNone(self.sessions.find(session.key))
        self.assertFalse(session.live)


class IdTests(SessionCase):
    """What a session is called."""

    def test_id(self) -> None:
        """The id is 32 hexadecimal digits, those of the 16 bytes that legs know it by."""
        session = self.session()
        self.assertEqual(bytes.fromhex(session.id), session.key)
        self.assertEqual(len(session.key), 16)
        self.assertIs(self.sessions.find(session.key), session)
        self.assertIsNone(self.sessions.find(bytes(16)))

    def test_keys(self) -> None:
        """The key that each client was told is the one that the relay checks its legs with."""
        session, offer = self.offered(self.visitor, self.provider)
        self.provider.says(messages.AcceptSession(session_id=session.id))
        created = self.visitor.take(messages.CreateSession)
        told = {Role.PROVIDER: offer.channel_key, Role.VISITOR: created.channel_key}
        for role, key in told.items():
            self.assertEqual(base64.b64decode(key), session.channel_keys[role])

    def welcomes(self, session: Session) -> list[Role]:
        """Whose legs may come."""
        return [role for role in Role if session.welcomes(role)]

    def test_welcome(self) -> None:
        """Legs are welcome from the grant on, the provider's, which may overtake it, before."""
        session, _ = self.offered(self.visitor, self.provider)
        self.assertEqual((session.live, self.welcomes(session)), (False, [Role.PROVIDER]))
        self.provider.says(messages.AcceptSession(session_id=session.id))
        self.assertEqual((session.live, self.welcomes(session)), (True, list(Role)))
        Channel(session)
        self.visitor.lost()
        self.assertEqual((session.live, self.welcomes(session)), (False, []))

    def test_not_welcome(self) -> None:
        """After a no, or no answer, no legs are welcome, and one that waited is turned away."""
        for end in (
            lambda session: self.provider.says(messages.RejectSession(session_id=session.id)),
            lambda session: self.clock.advance(ANSWER_TIMEOUT),
            lambda session: self.sessions.stop(),
        ):
            session, _ = self.offered(self.visitor, self.provider)
            leg = Leg()
            session.pairing.admit(opening(session, Role.PROVIDER, 0), leg)
            end(session)
            self.assertEqual(self.welcomes(session), [])
            self.assertEqual(leg.refusals, [Refusal.NOT_LIVE])
            self.provider.inbox.clear()

    def test_leg_before_the_grant(self) -> None:
        """A provider's leg that overtook its yes is there when the visitor's comes."""
        session, _ = self.offered(self.visitor, self.provider)
        early, late = Leg(), Leg()
        self.assertEqual(session.pairing.admit(opening(session, Role.PROVIDER, 0), early), Wait())
        self.provider.says(messages.AcceptSession(session_id=session.id))
        self.assertEqual(
            session.pairing.admit(opening(session, Role.VISITOR, 0), late), Match(late, early)
        )

    def test_involves(self) -> None:
        """A session is its two clients', and nobody else's."""
        session = self.session()
        stranger = self.client("s")
        self.assertEqual(
            [session.involves(client.peer) for client in (self.visitor, self.provider, stranger)],
            [True, True, False],
        )


class EndTests(SessionCase):
    """How sessions end."""

    def test_cut(self) -> None:
        """An end cuts the running channels and turns away the waiting legs, then both are told."""
        session = self.session()
        channels = [Channel(session), Channel(session)]
        legs = [Leg(), Leg(), Leg()]
        session.pairing.admit(opening(session, Role.PROVIDER, 0, spare=True), legs[0])
        session.pairing.admit(opening(session, Role.PROVIDER, 6), legs[1])
        session.pairing.admit(opening(session, Role.PROVIDER, 7), legs[2])
        session.meter.forward, session.meter.backward = 7, 11
        self.visitor.says(messages.CloseSession(session_id=session.id))
        self.assertEqual([channel.moods for channel in channels], [[Mood.HAPPY]] * 2)
        self.assertEqual([leg.refusals for leg in legs], [[Refusal.NOT_LIVE]] * 3)
        self.ended(session, "happy", 18)

    def test_bytes(self) -> None:
        """The end says how many bytes moved, both ways together, over all channels."""
        session = self.session()
        channel = Channel(session)
        session.meter.forward += 1000
        channel.over()
        Channel(session)
        session.meter.backward += 2**40
        self.provider.says(messages.CloseSession(session_id=session.id))
        self.ended(session, "happy", 1000 + 2**40)

    def test_channels_come_and_go(self) -> None:
        """A live session outlives its channels."""
        session = self.session()
        for _ in range(3):
            Channel(session).over()
        self.assertTrue(session.live)
        self.assertEqual((self.visitor.inbox, self.provider.inbox), ([], []))

    def test_byte_limit(self) -> None:
        """What would go beyond max_bytes_per_session ends the session with that reason."""
        self.begin(max_bytes_per_session=100)
        session = self.session()
        self.assertEqual(session.meter.limit, 100)
        channel = Channel(session)
        session.meter.forward, session.meter.backward = 60, 40
        self.assertTrue(session.live)
        session.meter.exhausted()
        self.assertEqual(channel.moods, [Mood.BYTE_LIMIT])
        self.ended(session, "byte_limit", 100)
        session.meter.exhausted()
        self.assertEqual(self.visitor.inbox, [])

    def test_no_byte_limit(self) -> None:
        """Without a limit no amount that anybody can move is too much."""
        self.assertGreater(self.session().meter.limit, 2**60)

    def test_shutdown(self) -> None:
        """A server that stops ends every session, offered and live, and tells why."""
        session = self.session()
        channel = Channel(session)
        other, offer = self.offered(self.visitor, self.provider)
        self.sessions.start()
        self.sessions.stop()
        self.assertEqual((len(self.sessions), channel.moods), (0, [Mood.SHUTDOWN]))
        told = [(type(one).__name__, getattr(one, "reason", None)) for one in self.provider.inbox]
        self.assertEqual(told, [("SessionClosed", "shutdown")] * 2)
        closed, error = self.visitor.inbox
        assert isinstance(closed, messages.SessionClosed)
        assert isinstance(error, messages.Error)
        self.assertEqual((closed.session_id, closed.reason), (session.id, "shutdown"))
        self.assertEqual((error.session_id, error.code), (offer.session_id, "internal"))
        self.assertFalse(other.live)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.sessions.stop()


class DrainingTests(SessionCase):
    """A session one of whose clients has lost its control connection."""

    def test_channels_run_on(self) -> None:
        """Channels that run go on until they are done; then the session ends."""
        session = self.session()
        channels = [Channel(session), Channel(session)]
        self.visitor.lost()
        self.assertEqual([channel.moods for channel in channels], [[], []])
        self.assertEqual(self.provider.inbox, [])
        session.meter.forward = 5
        channels[0].over()
        self.assertIs(self.sessions.find(session.key), session)
        channels[1].over()
        closed = self.provider.take(messages.SessionClosed)
        self.assertEqual((closed.reason, closed.bytes_transferred), ("client_offline", 5))
        self.assertIsNone(self.sessions.find(session.key))

    def test_nobody_new(self) -> None:
        """New legs are not welcome, and those that wait are turned away."""
        session = self.session()
        Channel(session)
        legs = [Leg(), Leg()]
        session.pairing.admit(opening(session, Role.VISITOR, 5), legs[0])
        session.pairing.admit(opening(session, Role.PROVIDER, 6), legs[1])
        self.visitor.lost()
        self.assertFalse(session.live)
        self.assertEqual([leg.refusals for leg in legs], [[Refusal.NOT_LIVE]] * 2)

    def test_the_other_leaves_too(self) -> None:
        """That the other client leaves as well changes nothing for the channels."""
        session = self.session()
        channel = Channel(session)
        self.visitor.lost()
        self.provider.lost()
        self.assertEqual(channel.moods, [])
        channel.over()
        self.assertEqual(len(self.sessions), 0)

    def test_closed(self) -> None:
        """The client that is still there may close it, which cuts its channels."""
        session = self.session()
        channel = Channel(session)
        self.visitor.lost()
        self.provider.says(messages.CloseSession(session_id=session.id))
        self.assertEqual(channel.moods, [Mood.HAPPY])
        self.assertEqual(self.provider.take(messages.SessionClosed).reason, "happy")

    def test_returns(self) -> None:
        """A client that comes back has no part in the session of its old connection."""
        session = self.session()
        channel = Channel(session)
        self.visitor.lost()
        again = self.client("v")
        again.says(messages.CloseSession(session_id=session.id))
        self.assertEqual(channel.moods, [])
        self.assertFalse(session.live)

    def test_still_metered(self) -> None:
        """The byte limit and the idle timeout hold while it drains."""
        for fact, reason in (("exhausted", "byte_limit"), ("idle", "timeout")):
            self.begin()
            session = self.session()
            channel = Channel(session)
            self.visitor.lost()
            getattr(session.machine, fact)()
            self.assertEqual([mood.value for mood in channel.moods], [reason])
            self.assertEqual(self.provider.take(messages.SessionClosed).reason, reason)


class AskProviderTests(SessionCase):
    """Telling the provider that a visitor's leg waits."""

    def wait(self, session: Session, channel: int) -> Leg:
        """The visitor's leg comes and waits; the relay asks the session for a partner."""
        leg = Leg()
        outcome = session.pairing.admit(opening(session, Role.VISITOR, channel), leg)
        self.assertEqual(outcome, Wait(wanted=True))
        session.ask_provider(channel)
        return leg

    def test_later_channels(self) -> None:
        """For a channel from 1 on the provider is asked at once."""
        session = self.session()
        self.wait(session, 1)
        self.assertEqual(
            self.provider.take(messages.OpenChannel),
            messages.OpenChannel(session_id=session.id, channel=1),
        )

    def test_first_channel(self) -> None:
        """For channel 0, which both may dial by themselves, it is asked after a short grace."""
        session = self.session()
        self.wait(session, 0)
        self.clock.advance(FIRST_CHANNEL_GRACE - 0.001)
        self.assertEqual(self.provider.inbox, [])
        self.clock.advance(0.001)
        self.assertEqual(self.provider.take(messages.OpenChannel).channel, 0)

    def test_first_channel_comes_by_itself(self) -> None:
        """A provider that dials channel 0 by itself is not asked for it."""
        session = self.session()
        self.wait(session, 0)
        match = session.pairing.admit(opening(session, Role.PROVIDER, 0), Leg())
        self.assertIsInstance(match, Match)
        self.clock.advance(FIRST_CHANNEL_GRACE)
        self.assertEqual(self.provider.inbox, [])

    def test_gave_up(self) -> None:
        """A visitor that gave up within the grace wants no leg any more."""
        session = self.session()
        session.pairing.withdraw(self.wait(session, 0))
        self.clock.advance(FIRST_CHANNEL_GRACE)
        self.assertEqual(self.provider.inbox, [])

    def test_ended_meanwhile(self) -> None:
        """A session that ended or drains within the grace asks nobody."""
        session = self.session()
        self.wait(session, 0)
        self.visitor.says(messages.CloseSession(session_id=session.id))
        self.ended(session, "happy")
        self.clock.advance(FIRST_CHANNEL_GRACE)
        self.assertEqual(self.provider.inbox, [])

    def test_spare_for_another(self) -> None:
        """A spare that comes after the provider was asked is kept for the next visitor."""
        session = self.session()
        self.wait(session, 1)
        self.provider.take(messages.OpenChannel)
        spare = opening(session, Role.PROVIDER, 0, spare=True)
        self.assertEqual(session.pairing.admit(spare, Leg()), Wait())


class IdleTests(SessionCase):
    """Sessions in which nothing moves."""

    def begin(self, **limits: Any) -> None:
        super().begin(**({"session_timeout": 100.0} | limits))
        self.sessions.start()
        self.addCleanup(self.sessions.stop)

    def pass_time(self, seconds: float) -> None:
        """Time passes, a second at a time."""
        for _ in range(round(seconds)):
            self.clock.advance(1)

    def test_idle(self) -> None:
        """A session in which nothing moves for the timeout ends, within half of it more."""
        session = self.session()
        channel = Channel(session)
        session.meter.forward = 3
        self.pass_time(99)
        self.assertTrue(session.live)
        self.pass_time(51)
        self.assertEqual(channel.moods, [Mood.TIMEOUT])
        self.ended(session, "timeout", 3)

    def test_never_used(self) -> None:
        """A session that never had a channel ends in the same way."""
        session = self.session()
        self.pass_time(99)
        self.assertTrue(session.live)
        self.pass_time(51)
        self.ended(session, "timeout")

    def test_moving(self) -> None:
        """As long as a byte moves now and then, either way, a session lives."""
        session = self.session()
        Channel(session)
        for turn in range(20):
            self.pass_time(70)
            if turn % 2:
                session.meter.forward += 1
            else:
                session.meter.backward += 1
        self.assertTrue(session.live)

    @settings(max_examples=30)
    @given(st.lists(st.integers(1, 160), min_size=1, max_size=8))
    def test_any_pauses(self, pauses: list[int]) -> None:
        """A pause shorter than the timeout never ends a session; one of 1.5 times always does."""
        self.begin()
        session = self.session()
        for pause in pauses:
            session.meter.forward += 1
            self.pass_time(pause)
            if pause < 100:
                self.assertTrue(session.live)
            elif pause > 150:
                self.assertFalse(session.live)
            if not session.live:
                self.assertGreaterEqual(pause, 100)
                break

    def test_off(self) -> None:
        """With session_timeout 0 nothing looks, and nothing ends."""
        self.sessions.stop()
        self.begin(session_timeout=0)
        session = self.session()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.pass_time(10000)
        self.assertTrue(session.live)

    def test_wall_clock(self) -> None:
        """A wall clock that jumps by a day, either way, ends nothing."""
        session = self.session()
        offered, _ = self.offered(self.visitor, self.provider)
        now = time.time()
        for jump in (86400.0, -86400.0):
            self.patch(time, "time", lambda jump=jump: now + jump)
            self.pass_time(4)
        self.assertTrue(session.live)
        self.assertIs(self.sessions.find(offered.key), offered)

    def test_only_the_idle(self) -> None:
        """Of two sessions the idle one ends, and its memory with it."""
        idle, busy = self.session(), self.session()
        for _ in range(5):
            self.pass_time(40)
            busy.meter.backward += 1
        self.assertEqual((idle.live, busy.live), (False, True))
        self.assertEqual(list(self.sessions), [busy])
        self.assertEqual(list(self.sessions._last_moved), [busy])

    def test_start_twice(self) -> None:
        """Starting a second time looks no more often."""
        self.sessions.start()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
