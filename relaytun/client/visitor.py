"""
The visitor: a session for one service of another client, and streams over it.

The session is asked for when it is needed and replaced when it is over.  A stream's first bytes
travel behind its leg's preamble; they are kept until the relay's verdict, so that a session that
turns out to be over costs the program nothing but the time for a new one.
"""

from __future__ import annotations

import socket
import time
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from ..interfaces import IReactor
from ..plane.accept import reset
from ..plane.carriers import CarrierPool
from ..plane.dial import Dialer
from ..plane.meter import Meter
from ..plane.splice import Splice
from ..wire import messages
from ..wire.messages import Message
from ..wire.moods import Mood
from ..wire.preamble import Refusal, Role
from .connection import RequestError, ServerConnection
from .legs import ClientSession, Leg, LegRefused, channel_key
from .signalling import Control

#: Bytes of a stream that are sent, and kept, before the verdict.
FIRST_FLIGHT = 16 * 1024
#: Seconds that a program waits for a control connection that is down just now.
OUTAGE = 20.0
#: Seconds that the relay may take for its verdict: it gives the provider's leg 10.
VERDICT_TIMEOUT = 15.0
#: After these the same leg may succeed in a new session.
_SESSION_OVER = {Refusal.NOT_LIVE, Refusal.UNAUTHORIZED}


class Visitor:
    """
    @ivar sessions: those that live or still have streams, by id.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactor,
        connection: ServerConnection,
        dialer: Dialer,
        pool: CarrierPool,
        target: str,
        service: str,
    ) -> None:
        self.reactor = reactor
        self.dialer = dialer
        self.pool = pool
        self.target = target
        self.service = service
        self.sessions: dict[str, ClientSession] = {}
        self._connection = connection
        self._current: ClientSession | None = None
        self._asking: Deferred[ClientSession] | None = None
        self._waiting: list[Deferred[ClientSession]] = []
        self._past = Meter()
        self._complained: str | None = None
        connection.add_listener(self)

    def control_up(self, control: Control) -> None:
        """The next stream asks for a session."""

    def control_down(self) -> None:
        """No new streams for the session of this login; those that run go on."""
        self._drop()

    def received(self, message: Message) -> None:
        """The server said this."""
        if isinstance(message, messages.SessionClosed):
            session = self.sessions.get(message.session_id)
            if session is not None:
                self.over(session)

    @property
    def totals(self) -> tuple[int, int, int]:
        """Streams now, and bytes to and from the service since the start."""
        running = self.sessions.values()
        return (
            sum(len(session.streams) for session in running),
            self._past.forward + sum(session.meter.forward for session in running),
            self._past.backward + sum(session.meter.backward for session in running),
        )

    def session(self) -> Deferred[ClientSession]:
        """
        @return: the session for the next stream.
        @raise RequestError: (in the Deferred) if there is none to be had.
        """
        if self._current is not None:
            waiting: Deferred[ClientSession] = Deferred()
            waiting.callback(self._current)
            return waiting
        waiting = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        if self._asking is None:
            self._asking = Deferred.fromCoroutine(self._ask())
            self._asking.addBoth(self._asked)
        return waiting

    def serve(self, local: socket.socket, address: Any = None) -> None:
        """A program connected: carry its stream; C{local} is taken over."""
        Deferred.fromCoroutine(self._carry(local)).addErrback(self._failed, local)

    def over(self, session: ClientSession) -> None:
        """No new streams for C{session}."""
        session.live = False
        if session is self._current:
            self._current = None
        self._forget_if_over(session)

    def close(self) -> None:
        """End the streams, and tell the server that the session is not needed any more."""
        for session in list(self.sessions.values()):
            for stream in list(session.streams):
                stream.cut(Mood.SHUTDOWN)
            if session.live:
                self._connection.send(messages.CloseSession(session_id=session.id))
            self.over(session)

    async def _ask(self) -> ClientSession:
        granted = await self._connection.request_session(self.target, self.service)
        session = ClientSession(
            id=granted.session_id,
            peer=granted.peer_client_id,
            service=granted.service.id,
            role=Role.VISITOR,
            channel_key=channel_key(granted.channel_key),
            relay=granted.relay_addr,
            since=time.time(),
        )
        self.sessions[session.id] = session
        self._current = session
        self._complained = None
        return session

    def _asked(self, result: ClientSession | Failure) -> None:
        self._asking = None
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback(result)

    async def _carry(self, local: socket.socket) -> None:
        """From a program's connection to a running stream."""
        flight = b""
        renewed = False
        while True:
            session = self._current
            if session is None:
                session = await self.session().addTimeout(OUTAGE, self.reactor)
            relay = session.relay
            dialled = await self.dialer.dial(relay.host, relay.port)
            leg = Leg(self.reactor, dialled, session.preamble(next(session.channels)))
            first = _FirstFlight(self.reactor, local, leg, flight)
            try:
                leg.verdict.addTimeout(VERDICT_TIMEOUT, self.reactor, _no_verdict)
                sock = await leg.verdict.addBoth(first.over)
            except LegRefused as error:
                if error.refusal not in _SESSION_OVER:
                    raise  # The session may be as good as ever: its other streams are.
                self.over(session)
                if renewed:
                    raise
                # The server forgot the session, or was started anew: ask for another one.
                flight = first.sent
                renewed = True
            else:
                session.meter.forward += len(first.sent)
                stream = Splice(
                    self.reactor, self.pool, local, sock, session.meter, self._ended(session)
                )
                session.streams.add(stream)
                return

    def _ended(self, session: ClientSession) -> Any:
        def ended(stream: Splice, mood: Mood) -> None:
            session.streams.discard(stream)
            self._forget_if_over(session)

        return ended

    def _failed(self, failure: Failure, local: socket.socket) -> None:
        reset(local)
        why = str(failure.value) or type(failure.value).__name__
        if why != self._complained:
            self._complained = why
            self._log.warn(
                "no stream to {target}/{service}: {why}",
                target=self.target,
                service=self.service,
                why=why,
            )

    def _drop(self) -> None:
        for session in list(self.sessions.values()):
            self.over(session)

    def _forget_if_over(self, session: ClientSession) -> None:
        if not session.live and not session.streams and session.id in self.sessions:
            del self.sessions[session.id]
            self._past.forward += session.meter.forward
            self._past.backward += session.meter.backward


def _no_verdict(result: object, timeout: float) -> NoReturn:
    raise RequestError("timeout", f"the relay did not answer in {timeout:.0f} s")


async def wait_for_service(visitor: Visitor, reactor: IReactor, say: Any) -> None:
    """
    Ask for the session until there is one.

    @param say: called once with the reason of the first refusal.
    """
    pause, said = 1.0, False
    while True:
        try:
            await visitor.session()
        except CancelledError:
            raise
        except RequestError as error:
            if not said:
                said = True
                say(str(error))
            await deferLater(reactor, pause)
            pause = min(30.0, pause * 2)
        else:
            return


@implementer(IReadDescriptor)
class _FirstFlight:
    """
    What a program says before its leg has a partner.

    @ivar sent: all of it; for another leg, if this one is refused.
    """

    __slots__ = ("_leg", "_local", "_reactor", "_reading", "sent")

    def __init__(self, reactor: IReactor, local: socket.socket, leg: Leg, already: bytes) -> None:
        self.sent = already
        self._reactor = reactor
        self._local = local
        self._leg = leg
        self._reading = True
        if already:
            leg.write(already)
        self.doRead()
        if self._reading and not self.sent:  # What a program says later can wait a moment.
            reactor.addReader(self)
        else:
            self._reading = False

    def over(self, result: Any) -> Any:
        """The verdict is there: leave the rest to others."""
        self.stop()
        return result

    def stop(self) -> None:
        """Read no more."""
        if self._reading:
            self._reading = False
            self._reactor.removeReader(self)

    def fileno(self) -> int:
        return self._local.fileno()

    def logPrefix(self) -> str:
        return "visitor"

    def doRead(self) -> None:
        try:
            data = self._local.recv(FIRST_FLIGHT - len(self.sent))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.sent += data
            self._leg.write(data)
        if not data or len(self.sent) >= FIRST_FLIGHT:
            self.stop()  # An end of stream is found again by the splice.

    def connectionLost(self, reason: Failure) -> None:
        self.stop()
