"""
The provider's ends of links: which link a new channel belongs to, and the services behind streams.

A channel tells by its HELLO.  Until then nothing that exists is touched by it: it has to prove its
visitor by TLS first, and what it then names is looked for among that visitor's links alone.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..config import ServiceConfig
from ..ends.datagrams import DatagramPath, datagram_session
from ..ends.directpath import DirectPath
from ..ends.legs import ClientSession
from ..link.channel import Channel
from ..link.handshake import HandshakeError, Peer
from ..link.link import Link, refuse
from ..link.pulse import DIRECT, RELAYED
from ..link.sealing import EXPORTER_LABEL, SECRET_SIZE
from ..link.stream import Stream
from ..plane import zstd
from ..plane.accept import reset
from ..plane.compressed import CompressedEnd
from ..plane.ends import SocketEnd
from ..wire import frames
from ..wire.frames import LINK_ID_SIZE, Frame, Kind, Reset
from ..wire.messages import Message
from ..wire.preamble import Role
from .machinery import ClientMachinery
from .servicedialer import ServiceDialer
from .udp_provider import ProviderDatagrams

#: Seconds from the secured channel to its HELLO.
HELLO_TIMEOUT = 10.0
#: Channels of one session that have not said HELLO yet.
MOST_NEWCOMERS = 4
#: Links that one visitor may have.
MOST_LINKS = 256


class Links:
    """
    All of them, by the visitor's fingerprint and the link's id.

    @ivar dialer: for the services, also those of raw sessions.
    @ivar refusing: whether new streams are refused.
    """

    _log = Logger()

    def __init__(self, machinery: ClientMachinery) -> None:
        self.machinery = machinery
        self.dialer = ServiceDialer(machinery.dialer)
        self.refusing = False
        self._links: dict[tuple[str, bytes], ProviderLink] = {}
        # By the session itself: its id is the word of one server among several.
        self._newcomers: dict[ClientSession, list[_Newcomer]] = {}
        self._complained: set[str] = set()

    def __iter__(self) -> Iterator[ProviderLink]:
        return iter(list(self._links.values()))

    def hurry(self) -> bool:
        """Whether streams wait for a channel."""
        return any(known.is_waiting for known in self)

    def newcomer(
        self,
        leg: socket.socket,
        session: ClientSession,
        service: ServiceConfig,
        path: str = "",
    ) -> Deferred[bool]:
        """
        A channel that has yet to prove itself; C{leg} is taken over.

        @param path: which way it takes, if not that of the session's legs.
        @return: fires with whether it belongs to a link.
        """
        waiting = self._newcomers.setdefault(session, [])
        if len(waiting) >= MOST_NEWCOMERS:
            waiting[0].close()
        waiting.append(_Newcomer(self, leg, session, service, path))
        waiting[-1].start()
        return waiting[-1].taken

    def meeting(self, session: ClientSession, message: Message) -> None:
        """The visitor of C{session}, or the server, says something of a way without the relay."""
        for known in self:
            if known.session is session and known.direct is not None:
                known.direct.received(message)

    def gone(self, newcomer: _Newcomer) -> None:
        """It is none any more."""
        waiting = self._newcomers.get(newcomer.session, [])
        if newcomer in waiting:
            waiting.remove(newcomer)
        if not waiting:
            self._newcomers.pop(newcomer.session, None)

    def hello(self, newcomer: _Newcomer, hello: Frame) -> None:
        """A proven visitor says what its channel belongs to."""
        session, service, channel = newcomer.session, newcomer.service, newcomer.channel
        payload = bytes(hello.payload)
        link_id, wanted = payload[:LINK_ID_SIZE], payload[LINK_ID_SIZE:]
        if wanted != service.id.encode():
            refuse(channel, Reset.FORBIDDEN)
            return
        if not session.public:
            self.machinery.known.remember(session.peer, session.peer_fingerprint)
        key = session.peer_fingerprint, link_id
        known = self._links.get(key)
        if known is None:
            if not hello.flags & frames.FRESH:
                refuse(channel, Reset.UNKNOWN)
                return
            if sum(1 for owner, _ in self._links if owner == key[0]) >= MOST_LINKS:
                refuse(channel, Reset.LIMIT)
                return
            known = self._links[key] = ProviderLink(self, service, link_id)
            known.visitor = session.peer
        elif known.service.id != service.id:
            refuse(channel, Reset.FORBIDDEN)
            return
        known.use(session)
        if known.link.adopt(channel, hello):
            newcomer.taken.callback(True)

    def cannot_compress(self, service: ServiceConfig) -> None:
        """Somebody opened a compressed stream all the same: say so once."""
        if service.id in self._complained:
            return
        self._complained.add(service.id)
        self._log.warn(
            "streams to {service} are refused: they come compressed, and {why}",
            service=service.id,
            why=(
                f"the library for that is missing: {zstd.INSTALL}"
                if service.compression
                else "its section does not say compression = zstd"
            ),
        )

    def forget(self, ended: ProviderLink) -> None:
        """It is over."""
        for key, known in list(self._links.items()):
            if known is ended:
                del self._links[key]

    def end(self, over: Callable[[ServiceConfig, str], bool]) -> None:
        """
        End the links of services that are not offered any more as they were.

        @param over: whether that is so, for a service and its visitor.
        """
        for waiting in list(self._newcomers.values()):
            for newcomer in list(waiting):
                if over(newcomer.service, newcomer.session.peer):
                    newcomer.close()
        for known in list(self):
            if over(known.service, known.visitor):
                known.link.close(Reset.FORBIDDEN)

    def take_no_more(self) -> None:
        """Refuse new streams from now on; those that there are go on."""
        self.refusing = True

    @property
    def streams(self) -> int:
        """Streams of all links."""
        return sum(len(known.link.streams) for known in self)

    def close(self) -> None:
        """End them all."""
        for waiting in list(self._newcomers.values()):
            for newcomer in list(waiting):
                newcomer.close()
        for known in list(self):
            known.link.close(Reset.SHUTDOWN)


class ProviderLink:
    """
    One visitor's link to one service.

    @ivar session: the session of its last channel.
    @ivar visitor: the name of the client that has the other end.
    """

    _log = Logger()

    def __init__(self, links: Links, service: ServiceConfig, link_id: bytes) -> None:
        machinery = links.machinery
        self.service = service
        self.session: ClientSession | None = None
        self.visitor = ""
        self._links = links
        self._dialling: set[Deferred[None]] = set()
        self.link = Link(
            machinery.reactor,
            self,
            machinery.memory,
            link_id,
            service.id,
            visitor=False,
            resume_timeout=machinery.resume_timeout,
        )
        self.path: DatagramPath | None = None
        self._flows: ProviderDatagrams | None = None
        if service.protocol == "udp":
            buffer = machinery.datagrams
            self.path = DatagramPath(machinery.reactor, self.link, Role.PROVIDER, buffer)
            self._flows = ProviderDatagrams(
                machinery.reactor, self.path, service.local_host, service.local_port, buffer
            )
        self.direct: DirectPath | None = None
        if machinery.directs is not None:
            punched = self.path.use_punched if self.path is not None else None
            direct = machinery.directs.make(False, lambda: self.session, self._take, punched)
            self.link.why_not_direct = lambda: direct.why
            self.direct = direct

    def use(self, session: ClientSession) -> None:
        """Its next channel is of C{session}."""
        self._leave_session()
        session.link = self.link
        self.session = session
        if self.path is not None:
            self.path.use_session(datagram_session(session))

    @property
    def is_waiting(self) -> bool:
        """Whether streams or datagrams wait for a channel."""
        used = self.link.streams or (self._flows is not None and self._flows.flows)
        return bool(used) and not self.link.connected

    # For the link.

    def wants_channel(self, link: Link, slot: int) -> None:
        """The visitor dials."""

    def opened(self, link: Link, stream: Stream) -> None:
        """A stream for the service."""
        if self.service.protocol == "udp" or self._links.refusing:
            stream.reset(Reset.SERVICE)
            return
        if stream.flags & frames.ZSTD and not (self.service.compression and zstd.AVAILABLE):
            self._links.cannot_compress(self.service)
            stream.reset(Reset.COMPRESSION)
            return
        dialling = Deferred.fromCoroutine(self._connect(stream))
        self._dialling.add(dialling)
        dialling.addBoth(self._dialled, dialling)

    def ended(self, link: Link, cause: Reset) -> None:
        """It is over."""
        for dialling in list(self._dialling):
            dialling.cancel()
        self._leave_session()
        if self.direct is not None:
            self.direct.close()
        if self._flows is not None and self.path is not None:
            self._flows.close()
            self.path.close()
        self._links.forget(self)
        self._log.info("a link to {service} ended: {why}", service=link.service, why=cause.name)

    def secured(self, link: Link, channel: Channel) -> None:
        """The visitor has a new main channel."""
        if self.direct is not None:
            self.direct.secured(channel)
        if self.path is not None:
            secret = channel.secret(EXPORTER_LABEL, SECRET_SIZE)
            self.path.new_secret(channel.generation, secret)

    def _take(self, sock: socket.socket, path: str) -> Deferred[bool]:
        """A connection from the visitor, or so it seems, that does not come through the relay."""
        session = self.session
        if session is None:
            reset(sock)
            return succeed(False)
        return self._links.newcomer(sock, session, self.service, path)

    def _leave_session(self) -> None:
        if self.session is not None and self.session.link is self.link:
            self.session.link = None

    async def _connect(self, stream: Stream) -> None:
        machinery = self._links.machinery
        try:
            local = await self._links.dialer.dial(self.service)
        except ServiceDialer.ERRORS:
            stream.reset(Reset.SERVICE)
            return
        if self.link.streams.get(stream.id) is not stream:
            reset(local)
            return
        make = CompressedEnd if stream.flags & frames.ZSTD else SocketEnd
        end = make(machinery.reactor, local, stream, machinery.memory)
        stream.attach(end)
        end.read_on()

    def _dialled(self, result: object, dialling: Deferred[None]) -> None:
        self._dialling.discard(dialling)
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._log.failure("a stream failed", result)


class _Newcomer:
    """A channel before its HELLO."""

    _log = Logger()

    def __init__(
        self,
        links: Links,
        leg: socket.socket,
        session: ClientSession,
        service: ServiceConfig,
        path: str,
    ) -> None:
        machinery = links.machinery
        self.session = session
        self.service = service
        self._links = links
        self.taken: Deferred[bool] = Deferred()
        self._deadline: IDelayedCall | None = None
        self._peer = Peer(session.peer_fingerprint)
        tls = machinery.tls.connection(visitor=False, peer=self._peer)
        pace = DIRECT if path else RELAYED
        self.channel = Channel(machinery.reactor, leg, tls, pace, path)
        self.channel.owner = self

    def start(self) -> None:
        """Wait for TLS, then for HELLO."""
        self.channel.secured.addCallbacks(self._secured, self._failed)
        self.channel.start()

    def close(self) -> None:
        """Give it up."""
        self._leave()
        self.channel.close()
        self._not_taken()

    def received(self, channel: Channel, frame: Frame) -> None:
        """Its first frame."""
        self._leave()
        if frame.kind != Kind.HELLO:
            refuse(channel, Reset.PROTOCOL)
        else:
            self._links.hello(self, frame)
        self._not_taken()

    def drained(self, channel: Channel) -> None:
        """It has nothing to send."""

    def worn(self, channel: Channel) -> None:
        """It is as new as can be."""

    def lost(self, channel: Channel, why: str) -> None:
        """It never said HELLO."""
        self._leave()
        self._not_taken()

    def _secured(self, result: None) -> None:
        reactor = self._links.machinery.reactor
        self._deadline = reactor.callLater(HELLO_TIMEOUT, self.close)

    def _failed(self, failure: Failure) -> None:
        self._leave()
        self._not_taken()
        failure.trap(HandshakeError, CancelledError)
        if self._peer.is_other:
            self._log.warn(
                "{client} is not the one whom the server announced: it shows the identity {seen} "
                "instead of {expected}; somebody is in between",
                client=self.session.peer,
                seen=self._peer.seen,
                expected=self._peer.expected,
            )

    def _not_taken(self) -> None:
        if not self.taken.called:
            self.taken.callback(False)

    def _leave(self) -> None:
        self._links.gone(self)
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()
