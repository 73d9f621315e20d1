"""Tests for L{relaytun.client.providerlink}: whom a channel belongs to, and who gets no further."""

from __future__ import annotations

import socket
from collections import deque
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from relaytun.client import providerlink as module
from relaytun.client.providerlink import MOST_NEWCOMERS
from relaytun.config import ServiceConfig
from relaytun.ends.legs import ClientSession
from relaytun.link.channel import Channel
from relaytun.link.handshake import LinkTLS, Peer
from relaytun.link.identity import Identity
from relaytun.wire import frames
from relaytun.wire.frames import Frame, Kind, Reset

from .linksupport import PROVIDER, STRANGER, LinkTestCase
from .support import IDENTITY, until, warnings_to

LINK_ID = bytes(16)


class HandMadeVisitor:
    """
    The visitor's end of a channel, and its link, by hand.

    @ivar heard: the frames that came.
    @ivar over: why the channel is lost, as soon as it is.
    """

    def __init__(self, sock: socket.socket, tls: LinkTLS) -> None:
        connection = tls.connection(True, Peer(PROVIDER.fingerprint))
        self.channel = Channel(reactor, sock, connection)  # type: ignore[arg-type]
        self.channel.owner = self
        self.channel.secured.addErrback(lambda failure: self.lost(self.channel, str(failure)))
        self.heard: list[Frame] = []
        self.over: str | None = None
        self.channel.start()

    def received(self, channel: Channel, frame: Frame) -> None:
        self.heard.append(frame._replace(payload=bytes(frame.payload)))

    def drained(self, channel: Channel) -> None:
        pass

    def lost(self, channel: Channel, why: str) -> None:
        self.over = why

    async def hello(
        self, link_id: bytes = LINK_ID, service: str = "web", fresh: bool = True, slot: int = 0
    ) -> None:
        """Say it as soon as TLS is up."""
        await self.channel.secured
        self.channel.send(frames.hello(slot, 1, link_id, service, fresh))

    async def refused(self) -> Reset:
        """@return: why the provider does not want this channel."""
        await until(lambda: self.over is not None)
        (frame,) = self.heard
        assert (frame.kind, frame.stream) == (Kind.RST, 0)
        return Reset(frame.value)

    async def welcomed(self) -> None:
        """Wait for WELCOME."""
        await until(lambda: self.heard)
        assert self.heard[0].kind == Kind.WELCOME


class ProviderLinkTests(LinkTestCase):
    """
    @ivar warnings: what is said of newcomers.
    """

    def setUp(self) -> None:
        super().setUp()
        self.warnings: list[Any] = []
        self.patch(module._Newcomer, "_log", warnings_to(self.warnings))

    def newcomer(
        self, session: ClientSession | None = None, service: ServiceConfig | None = None
    ) -> socket.socket:
        """@return: the other end of a channel that has just found the provider."""
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        self.addCleanup(near.close)
        self.links.newcomer(far, session or self.session(), service or self.web)
        return near

    def visitor_by_hand(
        self,
        identity: Identity = IDENTITY,
        session: ClientSession | None = None,
        service: ServiceConfig | None = None,
    ) -> HandMadeVisitor:
        sock = self.newcomer(session or self.session(identity.fingerprint), service)
        visitor = HandMadeVisitor(sock, LinkTLS(identity))
        self.addCleanup(visitor.channel.close)
        return visitor

    @property
    def pending(self) -> int:
        """How many newcomers there are."""
        return sum(map(len, self.links._newcomers.values()))

    async def test_welcome(self) -> None:
        """A proven visitor with a fresh link is let in, and remembered."""
        visitor = self.visitor_by_hand()
        await visitor.hello()
        await visitor.welcomed()
        self.assertEqual(
            self.links.machinery.known.remembered, [("me", IDENTITY.fingerprint, None)]
        )
        self.assertEqual(self.pending, 0)
        (known,) = self.links
        self.assertIs(known.session.link, known.link)

    async def test_another_certificate(self) -> None:
        """Whoever shows another identity than the one announced is turned away, and named."""
        visitor = self.visitor_by_hand(STRANGER, self.session(IDENTITY.fingerprint))
        await until(lambda: self.warnings)
        await until(lambda: visitor.over is not None)
        (warning,) = self.warnings
        for part in ("me", IDENTITY.fingerprint, STRANGER.fingerprint):
            self.assertIn(part, warning["text"])
        self.assertEqual((self.pending, list(self.links)), (0, []))
        self.assertEqual(self.links.machinery.known.remembered, [])

    async def test_no_certificate(self) -> None:
        """Nor does anybody get in who shows none."""
        sock = self.newcomer()
        nobody = LinkTLS(IDENTITY)
        context = nobody._contexts[True] = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_alpn_protos([b"relaytun/1"])
        visitor = HandMadeVisitor(sock, nobody)
        self.addCleanup(visitor.channel.close)
        await visitor.hello()
        await until(lambda: visitor.over is not None)
        self.assertEqual((self.pending, list(self.links), visitor.heard), (0, [], []))

    async def test_newcomers(self) -> None:
        """A thousand who prove nothing leave a few pending, and do not disturb a live stream."""
        program, served, _ = await self.running()
        await self.connected()
        (known,) = self.links
        session, channels = known.session, list(known.link.channels)
        stranger = LinkTLS(STRANGER)
        crowd: deque[socket.socket] = deque()
        for number in range(1000):
            sock = self.newcomer(session)
            if number % 3 == 0:
                sock.send(b"GET / HTTP/1.1\r\n\r\n")
            elif number % 30 == 1:
                HandMadeVisitor(socket.socket(fileno=sock.detach()), stranger)
                await until(lambda: self.warnings)
                self.warnings.clear()
            else:
                crowd.append(sock)
            self.assertLessEqual(self.pending, MOST_NEWCOMERS)
            if len(crowd) > MOST_NEWCOMERS:
                self.assertEqual(crowd.popleft().recv(1), b"")
            if number % 100 == 0:
                await self.works(program, served)
        self.assertEqual(list(self.links), [known])
        self.assertEqual(list(known.link.channels), channels)
        await self.works(program, served)

    async def test_newcomers_of_others(self) -> None:
        """The newcomers of one session do not push out those of another."""
        patient = self.visitor_by_hand(STRANGER, self.session(STRANGER.fingerprint))
        for _ in range(2 * MOST_NEWCOMERS):
            self.newcomer(self.session())
        session = self.session()
        for _ in range(2 * MOST_NEWCOMERS):
            self.newcomer(session)
        await patient.hello()
        await patient.welcomed()

    async def test_silent(self) -> None:
        """Who has proven who it is, and then says nothing, is given up."""
        self.patch(module, "HELLO_TIMEOUT", 0.05)
        visitor = self.visitor_by_hand()
        await until(lambda: visitor.over is not None)
        self.assertEqual(self.pending, 0)

    async def test_gone(self) -> None:
        """Who leaves before HELLO leaves nothing behind."""
        early, late = self.newcomer(), self.visitor_by_hand()
        early.close()
        await late.channel.secured
        late.channel.close()
        await until(lambda: not self.pending)

    async def test_no_hello(self) -> None:
        """A channel that begins with another frame is none."""
        visitor = self.visitor_by_hand()
        await visitor.channel.secured
        visitor.channel.send(frames.header(Kind.OPEN, 1))
        self.assertIs(await visitor.refused(), Reset.PROTOCOL)

    async def test_another_service(self) -> None:
        """A session is for one service: a link of another one is not to be had over it."""
        visitor = self.visitor_by_hand()
        await visitor.hello(service="ssh")
        self.assertIs(await visitor.refused(), Reset.FORBIDDEN)
        self.assertEqual(list(self.links), [])

    async def test_link_of_another_service(self) -> None:
        """Nor may a link change its service when it comes back."""
        first = self.visitor_by_hand()
        await first.hello()
        await first.welcomed()
        ssh = ServiceConfig(id="ssh", protocol="tcp", local_port=1, mode="link")
        second = self.visitor_by_hand(service=ssh)
        await second.hello(service="ssh", fresh=False)
        self.assertIs(await second.refused(), Reset.FORBIDDEN)
        self.assertIsNone(first.over)

    async def test_unknown(self) -> None:
        """A link that should be known, and is not, is refused."""
        visitor = self.visitor_by_hand()
        await visitor.hello(fresh=False)
        self.assertIs(await visitor.refused(), Reset.UNKNOWN)
        self.assertEqual(list(self.links), [])

    async def test_stale(self) -> None:
        """A channel that is older than the one that has its place is not taken."""
        first = self.visitor_by_hand()
        await first.hello()
        await first.welcomed()
        second = self.visitor_by_hand()
        ((newcomer,),) = self.links._newcomers.values()
        await second.hello()
        self.assertIs(await second.refused(), Reset.STALE)
        self.assertIs(self.successResultOf(newcomer.taken), False)

    async def test_stale_and_gone(self) -> None:
        """If it cannot even be told so, it is not taken either, and nothing else happens."""
        first = self.visitor_by_hand()
        await first.hello()
        await first.welcomed()
        second = self.visitor_by_hand()
        ((newcomer,),) = self.links._newcomers.values()
        self.patch(newcomer.channel, "close_with", lambda frame: newcomer.channel._lose("gone"))
        await second.hello()
        await until(lambda: newcomer.taken.called)
        self.assertIs(self.successResultOf(newcomer.taken), False)
        self.assertIsNone(first.over)

    async def test_link_of_another_visitor(self) -> None:
        """Whoever knows the id of another's link gets no byte of it, and does it no harm."""
        program, served, _ = await self.running()
        await self.connected()
        (known,) = self.links
        channels = list(known.link.channels)
        for fresh in (False, True):
            thief = self.visitor_by_hand(STRANGER)
            await thief.hello(known.link.id, fresh=fresh)
            if fresh:
                await thief.welcomed()
            else:
                self.assertIs(await thief.refused(), Reset.UNKNOWN)
        self.assertEqual(list(known.link.channels), channels)
        self.assertEqual(len(list(self.links)), 2)
        await self.works(program, served)
        self.assertEqual([frame.kind for frame in thief.heard], [Kind.WELCOME, Kind.RESUME])

    async def test_too_many(self) -> None:
        """A visitor has so many links and no more; others do not count."""
        self.patch(module, "MOST_LINKS", 2)
        for number in range(2):
            visitor = self.visitor_by_hand()
            await visitor.hello(bytes([number] * 16))
            await visitor.welcomed()
        last = self.visitor_by_hand()
        await last.hello(bytes([9] * 16))
        self.assertIs(await last.refused(), Reset.LIMIT)
        other = self.visitor_by_hand(STRANGER)
        await other.hello()
        await other.welcomed()

    async def test_two_links_of_one_session(self) -> None:
        """When a link ends its session goes on showing the other one that it carries."""
        session = self.session()
        ended = []
        for number in range(2):
            visitor = self.visitor_by_hand(session=session)
            await visitor.hello(bytes([number] * 16))
            await visitor.welcomed()
            ended.append(visitor)
        first, second = self.links
        ended[0].channel.send(frames.header(Kind.RST, 0, Reset.SHUTDOWN))
        await until(lambda: list(self.links) == [second])
        self.assertIs(first.link.over, Reset.SHUTDOWN)
        self.assertIs(session.link, second.link)

    async def test_hurries(self) -> None:
        """It is in a hurry while a stream waits for a channel."""
        self.assertFalse(self.links.hurry())
        _, _, leg = await self.running()
        await self.connected()
        self.assertFalse(self.links.hurry())
        leg.shutdown(socket.SHUT_RDWR)
        await until(self.links.hurry)
        await self.channel()
        await until(lambda: not self.links.hurry())

    async def test_takes_no_more(self) -> None:
        """When the client is about to end, new streams are refused, and those that run go on."""
        program, served, _ = await self.running()
        self.links.take_no_more()
        await self.is_reset(self.program())
        await self.works(program, served)
        self.assertEqual(self.links.streams, 1)

    async def test_withdrawn(self) -> None:
        """Links of a service that is not offered to their visitor any more end; others go on."""
        program, served, _ = await self.running()
        self.links.end(lambda service, visitor: (service.id, visitor) != ("web", "me"))
        await self.works(program, served)
        self.links.end(lambda service, visitor: (service.id, visitor) == ("web", "me"))
        await self.is_reset(program)
        self.assertEqual(list(self.links), [])

    async def dialling(self) -> tuple[HandMadeVisitor, Deferred[socket.socket]]:
        """A stream whose service has not answered yet."""
        answer: Deferred[socket.socket] = Deferred()
        dialled: list[Any] = []
        self.patch(self.links.dialer, "_dialer", FakeDialer(answer, dialled))
        visitor = self.visitor_by_hand()
        await visitor.hello()
        visitor.channel.send(frames.header(Kind.RESUME))
        visitor.channel.send(frames.header(Kind.OPEN, 1))
        await until(lambda: dialled)
        return visitor, answer

    async def test_reset_while_dialling(self) -> None:
        """A stream that is over before the service answers resets the service's connection."""
        visitor, answer = await self.dialling()
        visitor.channel.send(frames.header(Kind.RST, 1, Reset.PROGRAM))
        (known,) = self.links
        await until(lambda: not known.link.streams)
        served, local = self.pair()
        answer.callback(local)
        await self.is_reset(served)

    async def test_early_bytes(self) -> None:
        """What comes before the service answers is kept for it."""
        visitor, answer = await self.dialling()
        visitor.channel.send(frames.header(Kind.DATA, 1, 0, length=5) + b"early")
        visitor.channel.send(frames.header(Kind.FIN, 1, 5))
        (known,) = self.links
        await until(lambda: known.link.streams[1].received == 5)
        served, local = self.pair()
        answer.callback(local)
        self.assertEqual(await self.receive(served, 6), b"early")

    async def test_stop_while_dialling(self) -> None:
        """The provider's stop gives up whatever is under way."""
        visitor, answer = await self.dialling()
        pending = self.visitor_by_hand()
        self.links.close()
        self.assertTrue(answer.called)
        self.assertEqual((self.pending, list(self.links)), (0, []))
        await until(lambda: visitor.over is not None and pending.over is not None)
        last = visitor.heard[-1]
        self.assertEqual((last.kind, last.stream, last.value), (Kind.RST, 0, Reset.SHUTDOWN))


class FakeDialer:
    """Answers once, when the test says so."""

    def __init__(self, answer: Deferred[socket.socket], dialled: list[Any]) -> None:
        self.answer = answer
        self.dialled = dialled

    def dial(self, host: str, port: int) -> Deferred[socket.socket]:
        self.dialled.append((host, port))
        return self.answer
