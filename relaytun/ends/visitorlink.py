"""
The visitor's end of a link: streams for programs, and a channel whenever one is missing.

A channel is looked for until the link is over: over the session that there is, or over a new one,
from whichever server answers.  What can never succeed (the provider is somebody else now, or does
not let us in) ends the link at once, and with it its streams.
"""

from __future__ import annotations

import random
import secrets
import socket
from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..errors import UserError
from ..link.channel import Channel
from ..link.handshake import HandshakeError, Peer
from ..link.link import Link
from ..link.pulse import DIRECT
from ..link.sealing import EXPORTER_LABEL, SECRET_SIZE
from ..link.slots import RESERVE
from ..link.stream import BULK_SLOT, MAIN, Stream
from ..plane import zstd
from ..plane.compressed import CompressedEnd
from ..plane.ends import SocketEnd
from ..wire import frames
from ..wire.frames import LINK_ID_SIZE, Reset
from ..wire.messages import Code
from ..wire.preamble import Role
from .datagrams import DatagramPath, datagram_session
from .directpath import DirectPath, Directs
from .legs import ClientSession, LegRefused, dial_leg
from .machinery import Machinery
from .refusals import PeerRefused, RequestError

#: Seconds between attempts to get a channel: at first, and at most; for one that is only to wait.
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
LONGEST_RESERVE_PAUSE = 30.0
#: Seconds, and round trips, until a channel in reserve has taken the main one's place: then one is
#: looked for.
FALL_BACK = 0.2
_ROUND_TRIPS = 2
#: Seconds that a program waits for a channel if there is none when it comes.
FIRST_CHANNEL = 20.0
#: A channel that lived as long as this was a good one.
_GOOD = 2.0
#: Answers that trying again does not change.
_FINAL = {Code.REJECTED, Code.FORBIDDEN, Code.UNAUTHORIZED, Code.BAD_MESSAGE}
#: What the end of a link means, if nothing better is known.
_WORDS = {
    Reset.UNKNOWN: "the provider's process has died, and with it the streams",
    Reset.LIMIT: "the provider has too many links with this client",
    Reset.SHUTDOWN: "the provider has ended",
    Reset.FORBIDDEN: "the provider does not offer it any more, or not to this client",
    Reset.TIMEOUT: "no channel could be had in time",
    Reset.PROTOCOL: "the provider broke the rules of the protocol",
}
#: Of those, what is known better than the last failure to get a channel.
_CERTAIN = {Reset.UNKNOWN, Reset.LIMIT, Reset.SHUTDOWN}


class SessionSource(Protocol):
    """Where a link gets its sessions."""

    def session(self) -> Deferred[ClientSession]:
        """The one for the next channel."""

    def over(self, session: ClientSession) -> None:
        """It takes no more channels."""

    def proven(self, session: ClientSession) -> None:
        """TLS has shown that the other side is who the session says."""

    def carries(self, link: VisitorLink) -> None:
        """It has a channel, for the first time or once more."""


class VisitorLink:
    """
    @ivar link: the link.
    @ivar session: the session of its last channel.
    """

    _log = Logger()

    def __init__(
        self,
        machinery: Machinery,
        source: SessionSource,
        session: ClientSession,
        ended: Callable[[VisitorLink, str], None],
        directs: Directs | None = None,
    ) -> None:
        """
        @param ended: called once, with the reason, when the link is over.
        @param directs: makes its way without the relay, if it is to have one.
        """
        self._machinery = machinery
        self._source = source
        self._ended = ended
        self._seeking: dict[int, Deferred[None]] = {}
        self._failures = [0, 0, 0]
        self._came = [0.0, 0.0, 0.0]
        self._why = self._closed = ""
        self._detours: dict[int, IDelayedCall] = {}
        self._falling: IDelayedCall | None = None
        self._meeting = DeferredLock()
        self._patience = machinery.reactor.callLater(FIRST_CHANNEL, self._nobody_answers)
        self._provider = session.peer, session.peer_process
        self.session = session
        self.link = Link(
            machinery.reactor,
            self,
            machinery.memory,
            secrets.token_bytes(LINK_ID_SIZE),
            session.service,
            visitor=True,
            resume_timeout=machinery.resume_timeout,
        )
        session.link = self.link
        if session.compressed and not zstd.AVAILABLE:
            self._log.info(
                "{target} offers {service} compressed, and the library for that is missing: it "
                "comes uncompressed; {install} changes that",
                target=session.peer,
                service=session.service,
                install=zstd.INSTALL,
            )
        self.path: DatagramPath | None = None
        if session.protocol == "udp":
            buffer = machinery.datagrams
            self.path = DatagramPath(machinery.reactor, self.link, Role.VISITOR, buffer)
            self.path.use_session(datagram_session(session))
        self.direct: DirectPath | None = None
        if directs is not None:
            punched = self.path.use_punched if self.path is not None else None
            self.direct = direct = directs.make(
                True, lambda: self.session, self._take, punched, self.renew_session
            )
            self.link.why_not_direct = lambda: direct.why
            self.link.demoted = direct.demoted
        self._seek(MAIN)

    @property
    def is_waiting(self) -> bool:
        """Whether streams or datagrams wait for a channel."""
        return bool(self.link.streams or self.path) and not self.link.connected

    def open(self, local: socket.socket) -> None:
        """A program's connection becomes a stream; C{local} is taken over."""
        machinery = self._machinery
        end: SocketEnd | CompressedEnd
        if self.session.compressed and zstd.AVAILABLE:
            stream = self.link.open_stream(frames.ZSTD)
            end = CompressedEnd(machinery.reactor, local, stream, machinery.memory)
        else:
            stream = self.link.open_stream()
            end = SocketEnd(machinery.reactor, local, stream, machinery.memory)
        stream.attach(end)
        end.read_now()
        if not (self.link.connected or self._patience.active()):
            self._patience = machinery.reactor.callLater(FIRST_CHANNEL, self._overdue)

    def _take(self, sock: socket.socket, path: str) -> Deferred[bool]:
        """A connection that does not go through the relay is to be the main channel."""
        return Deferred.fromCoroutine(self._prove(sock, path))

    async def _prove(self, sock: socket.socket, path: str) -> bool:
        machinery = self._machinery
        peer = Peer(self.session.peer_fingerprint)
        tls = machinery.tls.connection(visitor=True, peer=peer)
        channel = Channel(machinery.reactor, sock, tls, DIRECT, path)
        channel.start()
        try:
            await channel.secured
        except HandshakeError:
            return False
        await self._meeting.acquire()  # Of several that come at once the first that carries is it.
        try:
            if self.link.is_over() or not self.link.connected or self._has_direct():
                channel.close()
                return False
            return await self.link.attach(channel, MAIN)
        finally:
            self._meeting.release()

    def renew_session(self) -> None:
        """A server is there: only in a session of now it tells the clients of each other."""
        if self.direct is not None and not self.session.live:
            self._seek(RESERVE if self.link.path else MAIN)

    def provider_is(self, process: str | None) -> None:
        """Its streams end if this is another one than the provider's process that knows them."""
        if process != self._provider[1]:
            self._give_up(_WORDS[Reset.UNKNOWN], Reset.UNKNOWN)

    def close(self, why: str = "") -> None:
        """End it, with its streams; C{why}, if it is not that nobody needs it any more."""
        self._closed = why
        self.link.close(Reset.SHUTDOWN)

    # For the link.

    def wants_channel(self, link: Link, slot: int) -> None:
        """A channel is missing."""
        if self._machinery.reactor.seconds() - self._came[slot] > _GOOD:
            self._failures[slot] = 0
        if slot == MAIN and self._fall_back():
            return
        if slot != BULK_SLOT or (link.connected and not link.path):
            self._seek(slot)

    def opened(self, link: Link, stream: Stream) -> None:
        """Only visitors open streams."""

    def ended(self, link: Link, cause: Reset) -> None:
        """It is over."""
        self._have_patience()
        for seeking in list(self._seeking.values()):
            seeking.cancel()
        for call in (*self._detours.values(), self._falling):
            _cancel(call)
        if self.direct is not None:
            self.direct.close()
        if self.path is not None:
            self.path.close()
        words = _WORDS.get(cause, cause.name.lower())
        known = words if cause in _CERTAIN else self._why or words
        self._ended(self, self._closed or known)

    def secured(self, link: Link, channel: Channel) -> None:
        """The provider knows the link."""
        self._have_patience()
        if self.path is not None:
            secret = channel.secret(EXPORTER_LABEL, SECRET_SIZE)
            self.path.new_secret(channel.generation, secret)
        if channel.path:
            self.link.drop(BULK_SLOT)
        if self.direct is not None:
            self.direct.secured(channel)
        self._source.carries(self)

    def _overdue(self) -> None:
        """Programs that came while there was no channel have waited long enough for one."""
        for stream in list(self.link.streams.values()):
            if stream.is_untold:
                stream.reset(Reset.TIMEOUT)

    def _fall_back(self) -> bool:
        """The channel in reserve takes the main one's place, if there is one."""
        channel = self.link.fall_back()
        if channel is None:
            return False

        def look() -> None:
            if self.link.channels[MAIN] is not channel:
                self._seek(MAIN)

        _cancel(self._falling)
        late = FALL_BACK + _ROUND_TRIPS * (channel.rtt or 0.0)
        self._falling = self._machinery.reactor.callLater(late, look)
        self._await_better(MAIN)
        return True

    def _seek(self, slot: int) -> None:
        if slot not in self._seeking and self.link.over is None:
            seeking = Deferred.fromCoroutine(self._find(slot))
            if not seeking.called:
                self._seeking[slot] = seeking
            seeking.addBoth(self._found, slot, seeking)

    def _found(self, result: object, slot: int, seeking: Deferred[None]) -> None:
        if self._seeking.get(slot) is seeking:
            del self._seeking[slot]
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._log.failure("looking for a channel failed", result)
            self._give_up("looking for a channel failed", Reset.TIMEOUT)

    async def _find(self, slot: int) -> None:
        machinery, link = self._machinery, self.link
        longest = LONGEST_RESERVE_PAUSE if slot == RESERVE else LONGEST_PAUSE
        while self._needs(slot):
            failures = self._failures[slot]
            if failures:
                most = min(longest, FIRST_PAUSE * 2 ** min(failures - 1, 16))
                await deferLater(machinery.reactor, random.uniform(0.5, 1.0) * most)
            self._failures[slot] += 1
            try:
                channel = await self._dial()
            except CancelledError:
                raise
            except UserError as error:
                self._why = str(error)
                if not self._needs(slot):
                    return
                if isinstance(error, RequestError) and error.code not in _FINAL:
                    continue
                if slot == MAIN and not link.connected:
                    self._give_up(str(error), Reset.FORBIDDEN)
                return  # What there is goes on: on the old main channel, or on the only one.
            except (LegRefused, HandshakeError, OSError, ConnectError, DNSLookupError) as error:
                self._why = str(error) or type(error).__name__
            else:
                if not self._needs(slot):
                    channel.close()
                    return
                self._why = ""
                self._came[slot] = machinery.reactor.seconds()
                link.attach(channel, slot)
                if slot != RESERVE:
                    self._await_better(slot)
                return

    def _needs(self, slot: int) -> bool:
        """Whether a channel through the relay is of use there."""
        if slot == RESERVE:
            return bool(self.link.path) and not self.link.is_over()
        return not (self.link.is_over() or self._has_direct())

    def _has_direct(self) -> bool:
        """Whether it does well without the relay, or is about to: it needs no channel there."""
        return any(each.path and not each.failing for each in self.link.channels.all)

    def _await_better(self, slot: int) -> None:
        """A channel that had to make a detour is replaced as soon as that may be over."""
        session = self.session
        wait = None if session.dialer is None else session.dialer.better_in(session)
        _cancel(self._detours.pop(slot, None))
        if wait is not None:
            self._detours[slot] = self._machinery.reactor.callLater(
                wait, self._look_for_better, slot
            )

    def _look_for_better(self, slot: int) -> None:
        if not self._has_direct():
            self.wants_channel(self.link, slot)

    async def _dial(self) -> Channel:
        """@return: a channel whose other side has proven to be the provider."""
        session = await self._source.session()
        if session.mode != "link":
            raise PeerRefused(f"{session.peer} offers {session.service} unencrypted now")
        if (session.peer, session.peer_process) != self._provider:
            # A link that the provider may have to make anew must not begin twice.
            self._give_up(_WORDS[Reset.UNKNOWN], Reset.UNKNOWN)
            raise CancelledError
        self._use(session)
        leg = await dial_leg(self._machinery, session)
        try:
            sock = await leg.verdict
        except LegRefused as error:
            if error.session_over:
                self._source.over(session)
            raise
        machinery = self._machinery
        peer = Peer(session.peer_fingerprint)
        channel = Channel(
            machinery.reactor, sock, machinery.tls.connection(visitor=True, peer=peer)
        )
        channel.start()
        try:
            await channel.secured
        except HandshakeError:
            if peer.is_other:
                raise PeerRefused(
                    f"{session.peer} is not the one whom the server announced: it shows the "
                    f"identity {peer.seen} instead of {peer.expected}; somebody is in between"
                ) from None
            raise
        self._source.proven(session)
        return channel

    def _use(self, session: ClientSession) -> None:
        if session is not self.session:
            self.session.link, session.link = None, self.link
            self.session = session
            if self.path is not None:
                self.path.use_session(datagram_session(session))

    def _have_patience(self) -> None:
        _cancel(self._patience)

    def _nobody_answers(self) -> None:
        why = self._why or f"no channel in {FIRST_CHANNEL:.0f} s"
        self._give_up(why, Reset.TIMEOUT)

    def _give_up(self, why: str, cause: Reset) -> None:
        self._why = why
        self.link.close(cause)


def _cancel(call: IDelayedCall | None) -> None:
    """What has been, or is not to be at all, need not be cancelled."""
    if call is not None and call.active():
        call.cancel()
