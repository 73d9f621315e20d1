"""
The visitor: a session for one service of another client, and streams over it.

The session is asked for when it is needed and replaced when it is over, from whichever server
knows the provider.  Its mode says what a stream is: one of a link's (L{visitorlink}), or a
channel of its own (L{rawstream}).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, FailureGroup, race, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..config import ConnectConfig
from ..ends.legs import ClientSession
from ..ends.rawstream import carry
from ..ends.refusals import PeerRefused, RequestError
from ..ends.udp_visitor import VisitorDatagrams
from ..ends.visitorlink import VisitorLink
from ..errors import UserError
from ..interfaces import IReactor
from ..plane.accept import reset
from ..plane.meter import Meter
from ..wire import messages
from ..wire.messages import Code
from ..wire.moods import Mood
from .connection import ServerConnection
from .grant import session_of
from .grantor import Grantor
from .machinery import ClientMachinery
from .whom import Whom

#: Seconds that a program waits for a control connection that is down just now.
OUTAGE = 20.0
#: Answers that waiting may help against.
ABSENT = {Code.UNKNOWN_CLIENT, Code.CLIENT_OFFLINE, Code.UNKNOWN_SERVICE}


class Visitor:
    """
    @ivar sessions: those that live or still have streams, by id.
    @ivar link: what carries the streams, if they are not raw.
    @ivar protocol: of the service, once a server has told.
    @ivar protocol_known: called when it has.
    """

    _log = Logger()

    def __init__(
        self,
        machinery: ClientMachinery,
        connections: Sequence[ServerConnection],
        connect: ConnectConfig,
    ) -> None:
        self.machinery = machinery
        self.connect = connect
        self.target = connect.target
        self.service = connect.service
        self.sessions: dict[str, ClientSession] = {}
        self.link: VisitorLink | None = None
        self.protocol: str | None = None
        self.protocol_known: Callable[[], None] = lambda: None
        self._datagrams: VisitorDatagrams | None = None
        self._linking: Deferred[None] | None = None
        self._servers = [Grantor(self, connection) for connection in connections]
        self._current: ClientSession | None = None
        self._asking: Deferred[ClientSession] | None = None
        self._waiting: list[Deferred[ClientSession]] = []
        self._past = Meter()
        self._complained: str | None = None
        self._whom = Whom(machinery.reactor, connect.target)
        self._programs = 0  # That wait for a session.
        self._beginning = 0  # Raw streams that have one.
        for connection in connections:
            connection.hurries.append(self._hurries)

    @property
    def totals(self) -> tuple[int, int, int]:
        """Streams now, and bytes to and from the service since the start."""
        streams, up, down = 0, self._past.forward, self._past.backward
        for session in self.sessions.values():
            streams += len(session.streams)
            up += session.meter.forward
            down += session.meter.backward
        if self.link is not None:
            link = self.link.link
            streams += link.users
            up, down = up + link.bytes_out, down + link.bytes_in
        return streams, up, down

    @property
    def streams(self) -> int:
        """How many run."""
        raw = sum(len(session.streams) for session in self.sessions.values())
        return raw + (len(self.link.link.streams) if self.link is not None else 0)

    def reports(self) -> list[ClientSession]:
        """What C{relaytun status} is to show."""
        shown = list(self.sessions.values())
        if self.link is not None and self.link.session not in shown:
            shown.append(self.link.session)
        return shown

    def session(self) -> Deferred[ClientSession]:
        """
        @return: the session for the next stream.
        @raise RequestError: (in the Deferred) if there is none to be had.
        @raise UserError: (in the Deferred) if it is not what it should be.
        """
        if self._current is not None:
            return succeed(self._current)
        waiting: Deferred[ClientSession] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        if self._asking is None:
            self._asking = Deferred.fromCoroutine(self._ask())
            self._asking.addBoth(self._asked)
        return waiting

    def serve(self, local: socket.socket, address: Any = None) -> None:
        """A program connected: carry its stream; C{local} is taken over."""
        if self.link is not None and self._whom.leaves(self.link):
            self.link.close(f"{self.link.session.peer} is away")
        if self.link is not None:
            self.link.open(local)
        else:
            Deferred.fromCoroutine(self._carry(local)).addErrback(self._failed, local)

    def serve_datagrams(self, datagrams: VisitorDatagrams) -> None:
        """Programs send datagrams there: carry them."""
        self._datagrams = datagrams
        if self.link is not None and self.link.link.connected:
            datagrams.use_path(self.link.path)
        self.want_link()

    def want_link(self) -> None:
        """There are datagrams and no link."""
        if self.link is None and self._linking is None:
            linking = self._linking = Deferred.fromCoroutine(self._make_link())
            linking.addErrback(self._not_linked)
            if linking.called:
                self._linking = None

    def over(self, session: ClientSession) -> None:
        """No new streams, or channels, for C{session}."""
        session.live = False
        if session is self._current:
            self._current = None
        self._forget_if_over(session)

    def proven(self, session: ClientSession) -> None:
        """The provider has shown that it is who the server said."""
        self.machinery.known.remember(session.peer, session.peer_fingerprint, session.service)

    def carries(self, link: VisitorLink) -> None:
        """C{link} has a channel: datagrams need not wait any more."""
        self._whom.came(link)
        if self._datagrams is not None and link is self.link:
            self._datagrams.use_path(link.path)

    def leave(self) -> None:
        """It is not needed any more: end its streams, and hear of nothing."""
        self.close()
        for server in self._servers:
            server.connection.remove_listener(server)
            if self._hurries in server.connection.hurries:
                server.connection.hurries.remove(self._hurries)

    def meeting(self, message: messages.MeetingAnswer | messages.Go) -> None:
        """The provider, or the server, says something of a way without the relay."""
        link = self.link
        if link is not None and link.direct is not None and message.session_id == link.session.id:
            link.direct.received(message)

    def close(self) -> None:
        """End the streams, also those to be; tell the server that the session is not needed."""
        if self._asking is not None:
            self._asking.cancel()
        link, self.link = self.link, None
        if link is not None:
            link.close()
        if self._linking is not None:
            self._linking.cancel()
        for session in list(self.sessions.values()):
            for stream in list(session.streams):
                stream.cut(Mood.SHUTDOWN)
            self._give_back(session)

    async def _ask(self) -> ClientSession:
        bound = self._whom.bound_to(self.link)
        if bound is not None:
            try:
                return await self._ask_for(bound)
            except UserError as error:
                if not _is_absence(error) or self._whom.waits():
                    raise
        return await self._ask_for(self.target)

    async def _ask_for(self, target: str | None) -> ClientSession:
        refused: UserError | None = None
        for server in await self._connected():
            try:
                granted = await server.connection.request_session(target, self.service)
                return self._granted(server, granted)
            except UserError as error:
                # Another server may know better; if none does, what is worth saying most is said.
                if refused is None or _is_absence(refused):
                    refused = error
        assert refused is not None
        raise refused

    async def _connected(self) -> list[Grantor]:
        """@return: the servers that are there, as soon as there is one."""
        while True:
            there = [each for each in self._servers if each.connection.control is not None]
            if there:
                # Those that are about to end are asked last.
                return sorted(there, key=lambda each: each.connection.going_away)
            try:
                await race([each.connection.when_connected() for each in self._servers])
            except FailureGroup:  # They do not fail, but are given up.
                raise CancelledError from None

    def _granted(self, server: Grantor, granted: messages.CreateSession) -> ClientSession:
        try:
            if granted.session_id in self.sessions:
                raise PeerRefused("the server granted a session that there is already")
            session = session_of(granted, self.connect, self.machinery.known)
            session.dialer = server.connection.dialer
            if server.connection.passes_on:
                session.tell = server.connection.send
        except UserError:
            server.connection.send(messages.CloseSession(session_id=granted.session_id))
            raise
        self.protocol = session.protocol
        self.protocol_known()
        server.ids.add(session.id)
        self.sessions[session.id] = session
        self._current = session
        self._complained = None
        self._whom.granted()
        self.machinery.events.fire("session_opened", **session.about)
        return session

    def _asked(self, result: ClientSession | Failure) -> None:
        self._asking = None
        waiting, self._waiting = self._waiting, []
        while waiting:  # One that gets it may give up others, which are gone from the list then.
            waiter = waiting.pop(0)
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback(result)

    async def _carry(self, local: socket.socket) -> None:
        session = await self._session_in_time()
        if session.mode != "link":
            self._beginning += 1
            try:
                await carry(self.machinery, local, session, self._raw_over, self._raw_session)
            finally:
                self._beginning -= 1
            return
        self._link_over(session).open(local)

    async def _make_link(self) -> None:
        try:
            session = await self._session_in_time()
        finally:
            self._linking = None
        if session.mode == "link":
            self._link_over(session)

    def _not_linked(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._complain(str(failure.value) or type(failure.value).__name__)

    def _link_over(self, session: ClientSession) -> VisitorLink:
        if self.link is None:
            self.link = VisitorLink(
                self.machinery, self, session, self._link_ended, self.machinery.directs
            )
            self.link.link.streams.unreached = self._unreached
        return self.link

    def _session_in_time(self) -> Deferred[ClientSession]:
        """The session, for a program that waits for it."""

        def over(result: ClientSession | Failure) -> ClientSession | Failure:
            self._programs -= 1
            return result

        self._programs += 1
        return self.session().addTimeout(OUTAGE, self.machinery.reactor).addBoth(over)

    def _raw_session(self) -> Deferred[ClientSession]:
        """Another one for a stream that has begun."""

        def same_mode(session: ClientSession) -> ClientSession:
            if session.mode != "raw":
                raise PeerRefused(f"{session.peer} offers {session.service} encrypted now")
            return session

        return self._session_in_time().addCallback(same_mode)

    def _raw_over(self, session: ClientSession) -> None:
        if not session.live:
            self.over(session)
        elif self.target is None and not (session.streams or self._beginning):
            self._give_back(session)  # Somebody else may do better.

    def _give_back(self, session: ClientSession) -> None:
        """Neither the server nor its provider need keep it any longer."""
        if session.live:
            for server in self._servers:
                if server.granted(session):
                    server.connection.send(messages.CloseSession(session_id=session.id))
        self.over(session)

    def _unreached(self) -> None:
        """Where any client would do: the next program need not go to one whose service is dead."""
        link = self.link
        if self.target is None and link is not None and not link.link.streams:
            self._give_back(link.session)
            link.close(f"{link.session.peer} does not reach it")

    def _link_ended(self, ended: VisitorLink, why: str) -> None:
        self._past.forward += ended.link.bytes_out
        self._past.backward += ended.link.bytes_in
        ended.session.link = None
        if self.link is ended:
            self.link = None
            if self._datagrams is not None:
                self._datagrams.use_path(None)
            self._complain(why)

    def _failed(self, failure: Failure, local: socket.socket) -> None:
        reset(local)
        if not failure.check(CancelledError):
            self._complain(str(failure.value) or type(failure.value).__name__)

    def _complain(self, why: str) -> None:
        if why != self._complained:
            self._complained = why
            self._log.warn(
                "no stream to {target}/{service}: {why}",
                target=self.connect.provider,
                service=self.service,
                why=why,
            )

    def _hurries(self) -> bool:
        return bool(self._programs) or (self.link is not None and self.link.is_waiting)

    def _forget_if_over(self, session: ClientSession) -> None:
        if not session.live and not session.streams and session.id in self.sessions:
            del self.sessions[session.id]
            for server in self._servers:
                server.ids.discard(session.id)
            self._past.forward += session.meter.forward
            self._past.backward += session.meter.backward
            self.machinery.events.fire("session_closed", **session.about)


def _is_absence(error: UserError) -> bool:
    return isinstance(error, RequestError) and error.code in {*ABSENT, Code.TIMEOUT}


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
        except UserError as error:
            if not said:
                said = True
                say(str(error))
            await deferLater(reactor, pause)
            pause = min(30.0, pause * 2)
        else:
            return
