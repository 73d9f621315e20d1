"""
A link's way to the other client without the relay: when it is tried, and what the two tell each
other.

::

    visitor                          server                          provider
    gather, offer -------------------> pass on ----------------------> gather
                <--------------------- pass on <---------------------- answer
                <--- go, after a delay      go, after a delay --------->
    meet <================= both at the same time ==================> meet

The visitor tries as soon as the link has a channel through the relay, three times in short order,
then less and less often, and again when a direct channel was lost.  A link of a udp service wants a
punched path for its datagrams, too; when it has the one and lacks the other, that is looked for
alone: an offer without TCP and without QUIC.  What meeting means on the
network is a L{Network}'s business; what is done with a connection that comes of it, the link's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, Protocol, TypeVar

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..ends.directdatagrams import PunchedPath
from ..ends.directpath import Found, FoundPunched
from ..ends.legs import ClientSession
from ..link.channel import Channel
from ..nat.guessing import Policy
from ..wire.messages import Candidate, Go, MeetingAnswer, MeetingOffer, Message

#: Seconds before the first attempt, and between those that follow at once.
AT_ONCE = 0.05
SOON = 2.0
#: How many of these there are, and how long the waits are then: at first, and at most.
EAGER = 3
FIRST_WAIT = 30.0
LONGEST_WAIT = 300.0
#: Where there was a direct path before, there can be one again.
KNOWN_WAIT = 60.0
#: Seconds for the other side's answer, and for the word to begin.
ANSWER_TIMEOUT = 8.0
#: Seconds that a direct channel has to last so that its loss is no reason to wait.
STEADY = 10.0
#: Why there is no direct path, in words for people, where it is not the network's business.
NOT_TRIED = "not tried yet"
NOT_ASKED = "the other client has not asked for one: not yet, or its direct = off"
NO_ANSWER = (
    "the other client does not answer: its direct = off, or its version or the server's is too old"
)
OLD_SERVER = "the server's version is too old to bring two clients together"
NO_GO = "the server did not tell both clients to begin"
LOST = "it was lost, and is looked for again"
SLOWER = "it carried less than the relay"
#: The label under which TLS gives the key of an attempt.
EXPORTER_LABEL = b"EXPORTER-relaytun-direct"
KEY_SIZE = 32
#: Keys of main channels that are remembered: the other side may be one behind.
_REMEMBERED = 4


_Said = TypeVar("_Said", MeetingAnswer, Go)


class NotDirect(Exception):
    """The text says why."""


class Gathered(Protocol):
    """
    What one side has to offer for one attempt, and the sockets behind it.

    @ivar candidates: where it may be reached.
    @ivar nat, hard_nat, quic: as in the messages.
    @ivar rtt: seconds to the server and back.
    """

    candidates: tuple[Candidate, ...]
    nat: str
    hard_nat: Policy
    rtt: float
    quic: bool

    def close(self) -> None:
        """It is not needed any more; connections that came of it go on."""


class Network(Protocol):
    """How two clients meet."""

    def gather(self) -> Deferred[Gathered]:
        """Find out where this client may be reached."""

    def meet(
        self,
        ours: Gathered,
        theirs: MeetingOffer | MeetingAnswer,
        key: bytes,
        visitor: bool,
        found: Found,
        punched: Callable[[PunchedPath], None] | None = None,
    ) -> Deferred[None]:
        """
        Try to reach each other; done when C{found} has said yes, or when there is no hope.

        @param key: known to both clients and to nobody else.
        @param punched: gets a path for datagrams, if there has to be one; then it is done when
            that is found, too, or when there is no hope for it.
        """


class Direct:
    """
    One link's.

    @ivar why: why the link has no direct path, as far as is known.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        network: Network,
        visitor: bool,
        session: Callable[[], ClientSession | None],
        found: Found,
        renew: Callable[[], None] = lambda: None,
        ended: Callable[[Direct], None] = lambda direct: None,
        punched: FoundPunched | None = None,
    ) -> None:
        """
        @param session: the one of the link's last channel.
        @param found: gets each connection that comes, and how it came; says whether it leads to the
            other client, and is in use now.
        @param renew: makes a new channel through the relay, of a session that is live.
        @param ended: called once, by C{close}.
        @param punched: if datagrams are to have a path, too.
        """
        self.why = NOT_TRIED if visitor else NOT_ASKED
        self._clock = clock
        self._network = network
        self._visitor = visitor
        self._session = session
        self._found = found
        self._renew = renew
        self._ended = ended
        self._use_punched = punched
        self._punched_since: float | None = None
        self._since: float | None = None
        self._keys: dict[int, bytes] = {}
        self._generation = 0
        self._attempt = 0
        self._tries = 0
        self._known: ClientSession | None = None
        self._demoted = False
        self._longest = LONGEST_WAIT
        self._wait: IDelayedCall | None = None
        self._running: Deferred[None] | None = None
        self._answer: Deferred[MeetingAnswer] | None = None
        self._go: Deferred[Go] | None = None
        self._closed = False

    def secured(self, channel: Channel) -> None:
        """The link has a new main channel."""
        self._generation = channel.generation
        key = channel.secret(EXPORTER_LABEL, KEY_SIZE)
        self._keys[channel.generation] = key
        while len(self._keys) > _REMEMBERED:
            del self._keys[min(self._keys)]
        now = self._clock.seconds()
        since, self._since = self._since, None
        if channel.path:
            self.why = ""
            self._since = now
            self._longest = KNOWN_WAIT
            if self._is_complete:
                self._wait_no_more()
            else:
                self._try_again()
            return
        if since is not None:
            self.why = LOST
            if now - since >= STEADY:
                self._tries = 0
        demoted, self._demoted = self._demoted, False
        if demoted:
            self.why = SLOWER
        if self._visitor and not self._closed:
            self._relayed(demoted)

    def _relayed(self, demoted: bool) -> None:
        """Look for a better way than the relay; in a new session as if it were the first time."""
        session = self._session()
        if session is not self._known:
            self._known = session
            self._tries = 0
            self._wait_no_more()
            if self._running is not None:
                self._running.cancel()
        if self._running is None and self._wait is None:
            self._try_in(LONGEST_WAIT if demoted else self._pause())

    def received(self, message: Message) -> None:
        """The other side, or the server, said this about it."""
        if self._closed:
            return
        if isinstance(message, MeetingOffer) and not self._visitor:
            if self._running is not None:
                self._running.cancel()
            self._start(self._take_part(message))
        elif isinstance(message, MeetingAnswer) and message.attempt == self._attempt:
            answer, self._answer = self._answer, None
            if answer is not None:
                answer.callback(message)
        elif isinstance(message, Go) and message.attempt == self._attempt:
            go, self._go = self._go, None
            if go is not None:
                go.callback(message)

    def hurry(self) -> None:
        """The network has changed: what failed may succeed now."""
        self._tries = 0
        if self._wait is not None:
            self._wait_no_more()
            self._try_in(AT_ONCE)

    def demoted(self) -> None:
        """See L{relaytun.ends.directpath.DirectPath}."""
        self._demoted = True

    def close(self) -> None:
        """The link is over."""
        if self._closed:
            return
        self._closed = True
        self._wait_no_more()
        if self._running is not None:
            self._running.cancel()
        self._ended(self)

    @property
    def _is_complete(self) -> bool:
        """Whether there is nothing to look for."""
        needed = self._since, *([] if self._use_punched is None else [self._punched_since])
        return None not in needed

    def _punched(self, path: PunchedPath) -> None:
        """A path for datagrams."""
        assert self._use_punched is not None
        self._punched_since = self._clock.seconds()
        if self._is_complete:
            self._wait_no_more()
        self._use_punched(path, self._punched_lost)

    def _punched_lost(self) -> None:
        since, self._punched_since = self._punched_since, None
        if since is not None and self._clock.seconds() - since >= STEADY:
            self._tries = 0
        self._try_again()

    def _try_again(self) -> None:
        """What is missing is looked for, if that is ours to do and not done already."""
        idle = self._running is None and self._wait is None
        if self._visitor and idle and not self._closed:
            self._try_in(self._pause())

    async def _try(self) -> None:
        """The visitor's side of an attempt."""
        session = self._session()
        if session is None:
            return
        if session.tell is None:
            self.why = OLD_SERVER
            return
        if not session.live:
            # Nobody passes on what is said of it: its server has lost one of the two.
            self._renew()
            return
        ours = await self._network.gather()
        alone = self._since is not None
        try:
            self._attempt += 1
            self._answer, self._go = Deferred(), Deferred()
            answered, go = self._answer, self._go
            session.tell(
                MeetingOffer(
                    session_id=session.id,
                    attempt=self._attempt,
                    generation=self._generation,
                    candidates=_udp(ours.candidates) if alone else ours.candidates,
                    nat=ours.nat,  # type: ignore[arg-type]
                    hard_nat=ours.hard_nat,
                    rtt=ours.rtt,
                    quic=ours.quic and not alone,
                )
            )
            key = self._keys[self._generation]
            theirs = await self._in_time(answered, NO_ANSWER)
            begin = await self._in_time(go, NO_GO)
            await deferLater(self._clock, begin.delay)
            if alone:
                theirs = msgspec.structs.replace(
                    theirs, candidates=_udp(theirs.candidates), quic=False
                )
            await self._meet(ours, theirs, key)
        finally:
            ours.close()

    async def _take_part(self, offer: MeetingOffer) -> None:
        """The provider's side of an attempt."""
        session = self._session()
        key = self._keys.get(offer.generation)
        if session is None or session.tell is None or key is None:
            return
        ours = await self._network.gather()
        try:
            self._attempt = offer.attempt
            self._go = Deferred()
            go = self._go
            session.tell(
                MeetingAnswer(
                    session_id=session.id,
                    attempt=offer.attempt,
                    generation=offer.generation,
                    candidates=ours.candidates,
                    nat=ours.nat,  # type: ignore[arg-type]
                    hard_nat=ours.hard_nat,
                    rtt=ours.rtt,
                    quic=ours.quic,
                )
            )
            begin = await self._in_time(go, NO_GO)
            await deferLater(self._clock, begin.delay)
            await self._meet(ours, offer, key)
        finally:
            ours.close()

    def _meet(
        self, ours: Gathered, theirs: MeetingOffer | MeetingAnswer, key: bytes
    ) -> Deferred[None]:
        punched = None if self._use_punched is None else self._punched
        return self._network.meet(ours, theirs, key, self._visitor, self._found, punched)

    def _in_time(self, expected: Deferred[_Said], otherwise: str) -> Deferred[_Said]:
        """It comes in time, or why there is no direct path is known."""

        def overdue(result: object, seconds: float) -> NoReturn:
            raise NotDirect(otherwise)

        return expected.addTimeout(ANSWER_TIMEOUT, self._clock, overdue)

    def _start(self, work: object) -> None:
        running: Deferred[None] = Deferred.fromCoroutine(work)  # type: ignore[arg-type]
        if not running.called:
            self._running = running
        running.addBoth(self._over, running)

    def _over(self, result: Failure | None, running: Deferred[None]) -> None:
        if self._running is running:
            self._running = None
        if isinstance(result, Failure) and not result.check(CancelledError):
            why = str(result.value) or type(result.value).__name__
            self._log.debug("no direct path: {why}", why=why)
            if self._since is None:
                self.why = why
        if self._visitor and not self._closed and self._wait is None and not self._is_complete:
            self._try_in(self._pause())

    def _pause(self) -> float:
        if not self._tries:
            return AT_ONCE
        if self._tries < EAGER:
            return SOON
        wait: float = FIRST_WAIT * 2 ** min(self._tries - EAGER, 8)
        return min(self._longest, wait)

    def _try_in(self, seconds: float) -> None:
        self._wait = self._clock.callLater(seconds, self._begin)

    def _begin(self) -> None:
        self._wait = None
        self._tries += 1
        self._start(self._try())

    def _wait_no_more(self) -> None:
        if self._wait is not None and self._wait.active():
            self._wait.cancel()
        self._wait = None


def _udp(candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    return tuple(each for each in candidates if each.protocol == "udp")
