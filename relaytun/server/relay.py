"""
The relay port: legs come in, prove themselves, meet, and are spliced.

It reads exactly the 64 bytes of each preamble; what follows belongs to the channel and passes
through the kernel.  Which legs belong together is L{Pairing}'s business, which sessions are
live the L{Session}'s; here are the sockets and the deadlines.
"""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..plane.accept import reset
from ..plane.carriers import CarrierPool
from ..plane.oneway import ReadOnly
from ..plane.room import Room
from ..plane.splice import Splice
from ..wire import preamble, stun
from ..wire.errors import WireError
from ..wire.moods import Mood
from ..wire.preamble import Preamble, Refusal, Role
from .admission import IN_ALL, Admission, Place
from .granted import Session
from .pairing import Match
from .sessions import Sessions

#: Seconds for the whole preamble, and for the partner to come.
PREAMBLE_TIMEOUT = 10.0
PARTNER_TIMEOUT = 10.0
#: Seconds in which a leg that was turned away may read why.
LINGER = 2.0
#: Descriptors that legs leave to the control port, the pipes and the rest of the process.
RESERVED_DESCRIPTORS = 384


#: Gets a socket back that was to be a leg, and why.
RefusedSocket = Callable[[socket.socket, Refusal], None]
#: Gets a socket, the peer's address, and what has been read.
ReflectedSocket = Callable[[socket.socket, Any, bytes], None]


class Relay:
    """
    @ivar open_legs: legs that are connected, in whatever state.
    @ivar room: for them, and for what else there is in the process.
    @ivar reflect: takes connections over that are no legs, but ask by STUN.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        sessions: Sessions,
        pool: CarrierPool,
        admission: Admission | None = None,
    ) -> None:
        self.reactor = reactor
        self.sessions = sessions
        self.open_legs = 0
        self.room = Room()
        self.reflect: ReflectedSocket | None = None
        self._pool = pool
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most_legs = max(limit - RESERVED_DESCRIPTORS, limit // 2)
        # Half of the legs at most are strangers': these make room for each other, and so never
        # for those that are proven.
        self.admission = (
            Admission(in_all=min(IN_ALL, self._most_legs // 2)) if admission is None else admission
        )
        self._legs: set[Leg | AdoptedLeg] = set()

    def has_room(self) -> bool:
        """Whether there are descriptors for one more leg."""
        return self.open_legs < self._most_legs and self.room.for_legs()

    def accepted(self, sock: socket.socket, address: Any) -> None:
        """A connection to the relay port."""
        self.open_legs += 1
        leg = Leg(self, sock, address)
        self._legs.add(leg)
        leg.doRead()

    def stop(self) -> None:
        """Close the legs that are in no channel."""
        for leg in list(self._legs):
            leg.close()

    def preamble_read(self, leg: Leg, opening: Preamble) -> None:
        """C{leg} said what it is; see whether it is true."""
        session = self.sessions.find(opening.session)
        if session is None or not opening.is_authentic(session.channel_keys[opening.role]):
            leg.refuse(Refusal.UNAUTHORIZED)
            return
        if not session.welcomes(opening.role):
            leg.refuse(Refusal.NOT_LIVE)
            return
        leg.proven(session)
        self._admit(session, opening, leg)

    def adopt(
        self, session: Session, channel: int, sock: socket.socket, refused: RefusedSocket
    ) -> None:
        """
        A socket of this process's own is a visitor's leg, without a preamble.

        @param channel: its number, unused so far.
        @param sock: taken over, unless it is refused.
        """
        self.open_legs += 1
        leg = AdoptedLeg(self, session, sock, refused)
        self._legs.add(leg)
        opening = Preamble(Role.VISITOR, False, session.key, channel, b"", b"", b"")
        if session.live:
            self._admit(session, opening, leg)
        else:
            leg.refuse(Refusal.NOT_LIVE)

    def _admit(self, session: Session, opening: Preamble, leg: Leg | AdoptedLeg) -> None:
        outcome = session.pairing.admit(opening, leg)
        if isinstance(outcome, Refusal):
            leg.session = None
            leg.refuse(outcome)
        elif isinstance(outcome, Match):
            self._join(session, outcome)
        else:
            leg.wait(watched=opening.spare)
            if outcome.wanted:
                session.ask_provider(opening.channel)

    def forget(self, leg: Leg | AdoptedLeg) -> None:
        """C{leg} is closed."""
        self._legs.discard(leg)
        self.open_legs -= 1

    def _join(self, session: Session, match: Match[Any]) -> None:
        visitor, provider = match.visitor.release(), match.provider.release()
        self._legs -= {match.visitor, match.provider}
        # In the order of what the program waits for: the provider, which has to dial the service,
        # then the visitor's first bytes, which most likely came with the preamble.
        match.provider.say_paired()
        channel = Splice(
            self.reactor, self._pool, visitor, provider, session.meter, self._ended(session)
        )
        session.channel_opened(channel)
        channel.read_now(channel.left)
        match.visitor.say_paired()

    def _ended(self, session: Session) -> Callable[[Splice, Mood], None]:
        def ended(channel: Splice, mood: Mood) -> None:
            self.open_legs -= 2
            session.channel_ended(channel, mood)

        return ended


@implementer(IReadDescriptor)
class Leg(ReadOnly):
    """
    A connection to the relay port, until it is paired or turned away.

    @ivar session: the session that it has proven to belong to.
    """

    __slots__ = (
        "_address", "_buffer", "_deadline", "_place", "_refused", "_relay", "_sock", "_watched",
        "session",
    )  # fmt: skip

    def __init__(self, relay: Relay, sock: socket.socket, address: Any) -> None:
        self._relay = relay
        self._sock = sock
        self._buffer = b""
        self._address = address
        self._place: Place | None = None
        self._deadline: Any = None
        self._refused = False
        self._watched = False
        self.session: Session | None = None

    def fileno(self) -> int:
        return self._sock.fileno()

    def logPrefix(self) -> str:
        return "relay"

    def doRead(self) -> None:
        """Read what is missing of the preamble, and not a byte more."""
        if self._refused:
            self._drain()
            return
        if self.session is not None:
            self._spare_spoke()
            return
        try:
            data = self._sock.recv(preamble.SIZE - len(self._buffer))
        except BlockingIOError:
            self._await_preamble()
            return
        except OSError:
            self.close()
            return
        self._buffer += data
        if not data or not preamble.could_be(self._buffer):
            if not data or not self._asks_by_stun():
                self.refuse(Refusal.MALFORMED)
        elif len(self._buffer) < preamble.SIZE:
            self._await_preamble()
        else:
            try:
                opening = preamble.decode(self._buffer)
            except WireError:
                self.refuse(Refusal.MALFORMED)
            else:
                self._relay.preamble_read(self, opening)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor saw it die."""
        self.close()

    def proven(self, session: Session) -> None:
        """It is no stranger any more."""
        self.session = session
        self._leave_place()
        self._stop()

    def wait(self, watched: bool) -> None:
        """
        No partner yet.

        @param watched: a spare: it may wait as long as the session lives, says nothing, and is
            dropped as soon as it dies.  Another leg's bytes are left where they are, and its
            death is found when it is paired.
        """
        if watched:
            self._watch()
        else:
            self._deadline = self._relay.reactor.callLater(
                PARTNER_TIMEOUT, self.refuse, Refusal.LONELY
            )

    def release(self) -> socket.socket:
        """@return: the socket, which is the caller's from now on."""
        self._stop()
        return self._sock

    def say_paired(self) -> None:
        """Its partner is there."""
        with contextlib.suppress(OSError):  # The splice finds it dead and tells its partner.
            self._sock.send(preamble.PAIRED)

    def refuse(self, refusal: Refusal) -> None:
        """
        Say why, and close.

        Closing at once would answer bytes that were not read with a reset, which overtakes
        the reason: so what still comes is thrown away for a moment.
        """
        self._withdraw()
        self._stop()
        self._refused = True
        try:
            self._sock.send(preamble.REFUSED + bytes((refusal,)))
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
        else:
            self._deadline = self._relay.reactor.callLater(LINGER, self.close)
            self._watch()

    def close(self) -> None:
        """Let it go."""
        if self._sock.fileno() == -1:
            return
        self._withdraw()
        self._leave_place()
        self._stop()
        self._sock.close()
        self._relay.forget(self)

    def _asks_by_stun(self) -> bool:
        """Whether it is, or may become, no leg but a question, for somebody else to answer."""
        reflect = self._relay.reflect
        if reflect is None or not isinstance(self._address, tuple):
            return False
        if not stun.could_be(self._buffer):
            return False
        if len(self._buffer) < stun.TELLING:
            self._await_preamble()
            return True
        self._leave_place()
        self._stop()
        self._relay.forget(self)
        reflect(self._sock, self._address, self._buffer)
        return True

    def _withdraw(self) -> None:
        if self.session is not None:
            self.session.pairing.withdraw(self)
            self.session = None

    def _drain(self) -> None:
        try:
            over = not self._sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            over = True
        if over:
            self.close()

    def _await_preamble(self) -> None:
        if self._deadline is None:
            host = self._address[0] if isinstance(self._address, tuple) else ""
            self._place = self._relay.admission.enter(host, self.close)
            reactor = self._relay.reactor
            self._deadline = reactor.callLater(PREAMBLE_TIMEOUT, self.refuse, Refusal.MALFORMED)
            self._watch()

    def _spare_spoke(self) -> None:
        """A spare has nothing to say before it is used: this is its end, or a breach."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def _leave_place(self) -> None:
        if self._place is not None:
            self._place.leave()
            self._place = None

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            self._relay.reactor.addReader(self)

    def _stop(self) -> None:
        if self._watched:
            self._watched = False
            self._relay.reactor.removeReader(self)
        if self._deadline is not None:
            if self._deadline.active():
                self._deadline.cancel()
            self._deadline = None


class AdoptedLeg:
    """
    A visitor's leg that begins in this process, until it is paired or turned away.

    Nothing is read from it before; a peer that has gone is found when it is paired.
    """

    __slots__ = ("_deadline", "_refused", "_relay", "_sock", "session")

    def __init__(
        self, relay: Relay, session: Session, sock: socket.socket, refused: RefusedSocket
    ) -> None:
        self.session: Session | None = session
        self._relay = relay
        self._sock = sock
        self._refused = refused
        self._deadline: Any = None

    def wait(self, watched: bool) -> None:
        """No partner yet."""
        reactor = self._relay.reactor
        self._deadline = reactor.callLater(PARTNER_TIMEOUT, self.refuse, Refusal.LONELY)

    def release(self) -> socket.socket:
        """@return: the socket, which is the caller's from now on."""
        self._stop()
        return self._sock

    def say_paired(self) -> None:
        """Whoever is at the other end of the socket does not know of legs."""

    def refuse(self, refusal: Refusal) -> None:
        """Give the socket back."""
        self._leave()
        self._refused(self._sock, refusal)

    def close(self) -> None:
        """Let it go."""
        self._leave()
        reset(self._sock)

    def _leave(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            session.pairing.withdraw(self)
        self._stop()
        self._relay.forget(self)

    def _stop(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
        self._deadline = None
