"""
Two clients of a session meet without the relay: the server passes on what they tell each other, and
tells both when to begin.

It keeps nothing of it, and nobody else hears of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from twisted.internet.interfaces import IReactorTime

from ..wire.messages import Go, MeetingAnswer, MeetingOffer, SessionClosed
from ..wire.moods import Mood
from .granted import Session
from .peer import Peer
from .sessions import Sessions

#: Seconds between two attempts of one session.
PAUSE = 0.5


@dataclass
class _Meeting:
    """
    An attempt.

    @ivar began: when the visitor proposed it.
    @ivar rtt: of the visitor.
    @ivar answered: both have been told to begin.
    """

    attempt: int
    began: float
    rtt: float
    answered: bool = False


class Meetings:
    """Those of all sessions."""

    def __init__(self, clock: IReactorTime, sessions: Sessions) -> None:
        self._clock = clock
        self._sessions = sessions
        self._meetings: WeakKeyDictionary[Session, _Meeting] = WeakKeyDictionary()

    def offered(self, peer: Peer, offer: MeetingOffer) -> None:
        """
        A visitor proposes to meet; what is wrong with it is passed over in silence.

        That the provider has left the session, which goes on as long as its channels do, the
        visitor is told now, so that it asks for another one.
        """
        session = self._of(offer.session_id)
        if session is None or session.visitor is not peer:
            return
        if not session.live:
            if session.channels:  # They run on, though the provider is not to be told anything.
                peer.send(
                    SessionClosed(
                        session_id=session.id,
                        reason=Mood.CLIENT_OFFLINE.value,
                        bytes_transferred=session.meter.total,
                    )
                )
            return
        now = self._clock.seconds()
        last = self._meetings.get(session)
        if last is not None and (offer.attempt <= last.attempt or now - last.began < PAUSE):
            return
        self._meetings[session] = _Meeting(offer.attempt, now, offer.rtt)
        session.provider.send(offer)

    def answered(self, peer: Peer, answer: MeetingAnswer) -> None:
        """The provider agrees: both may begin."""
        session = self._of(answer.session_id)
        if session is None or session.provider is not peer or not session.live:
            return
        meeting = self._meetings.get(session)
        if meeting is None or meeting.attempt != answer.attempt or meeting.answered:
            return
        meeting.answered = True
        session.visitor.send(answer)
        longest = max(meeting.rtt, answer.rtt)
        for client, rtt in ((session.visitor, meeting.rtt), (session.provider, answer.rtt)):
            delay = (longest - rtt) / 2
            client.send(Go(session_id=session.id, attempt=meeting.attempt, delay=delay))

    def _of(self, session_id: str) -> Session | None:
        session = self._sessions.find(bytes.fromhex(session_id))
        if session is None or session.mode != "link":
            return None
        return session
