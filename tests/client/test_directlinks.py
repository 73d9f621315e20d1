"""
Tests of what L{relaytun.ends.visitorlink} and L{relaytun.client.providerlink} do with connections
that do not come through the relay.
"""

from __future__ import annotations

import dataclasses
import socket
from typing import Any

from twisted.internet.defer import Deferred

from relaytun.client.machinery import ClientMachinery
from relaytun.client.providerlink import Links
from relaytun.ends import visitorlink as module
from relaytun.ends.legs import WHY_PUBLIC, WHY_RAW
from relaytun.link.identity import Identity
from relaytun.link.link import Link
from relaytun.link.stream import BULK_SLOT
from relaytun.wire.messages import Go, MeetingAnswer, MeetingOffer, Message

from .linksupport import STRANGER, LinkTestCase
from .support import FakeKnown, until


class FakeDirect:
    """
    A link's way, for a test that finds connections by itself.

    @ivar generations: of the main channels, with the way that each takes.
    """

    why = "the test is slow"
    renew: Any

    def __init__(self, visitor: bool, session: Any, found: Any) -> None:
        self.visitor, self.session, self.found = visitor, session, found
        self.generations: list[tuple[int, str]] = []
        self.heard: list[Message] = []
        self.closed = 0

    def secured(self, channel: Any) -> None:
        self.generations.append((channel.generation, channel.path))

    def received(self, message: Message) -> None:
        self.heard.append(message)

    def demoted(self) -> None:
        """The relay is faster."""

    def close(self) -> None:
        self.closed += 1


class FakeDirects:
    """
    @ivar made: the one of the last link.
    """

    made: FakeDirect

    def __init__(self) -> None:
        self.closed = 0

    def make(
        self, visitor: bool, session: Any, found: Any, punched: Any = None, renew: Any = None
    ) -> FakeDirect:
        self.made = FakeDirect(visitor, session, found)
        self.made.renew = renew
        return self.made

    def close(self) -> None:
        self.closed += 1


class DirectLinkTests(LinkTestCase):
    """A visitor and a provider, and connections that the test makes between them."""

    timeout = 4

    def setUp(self) -> None:
        super().setUp()
        self.patch(module, "LONGEST_PAUSE", 0)

    def machinery_of(self, identity: Identity, known: FakeKnown) -> ClientMachinery:
        machinery = super().machinery_of(identity, known)
        return dataclasses.replace(machinery, directs=FakeDirects())

    def direct(self, machinery: ClientMachinery) -> FakeDirect:
        """The last link's."""
        directs = machinery.directs
        assert isinstance(directs, FakeDirects)
        return directs.made

    @property
    def ways(self) -> tuple[FakeDirect, FakeDirect]:
        """The visitor's and the provider's."""
        return self.direct(self.machinery), self.direct(self.links.machinery)

    @property
    def link(self) -> Link:
        """The visitor's."""
        assert self.visitor.link is not None
        return self.visitor.link.link

    async def met(self) -> tuple[socket.socket, socket.socket]:
        """A direct connection becomes the main channel; @return: its sockets."""
        near, far = self.sockets()
        visitor, provider = self.ways
        taken = provider.found(far, "lan")
        self.assertTrue(await visitor.found(near, "lan"))
        self.assertTrue(await taken)
        await until(lambda: visitor.generations[-1][1] and provider.generations[-1][1])
        return near, far

    def sockets(self) -> tuple[socket.socket, socket.socket]:
        pair = socket.socketpair()
        for sock in pair:
            sock.setblocking(False)
        return pair  # Whoever takes one closes it.

    async def test_moves(self) -> None:
        """A stream that runs goes on directly, and over the old channel when that is over."""
        program, served, leg = await self.running()
        await self.connected()
        for _ in range(2):
            near, _ = await self.met()
            await self.works(program, served)
            self.assertEqual(self.link.path, "lan")
            near.shutdown(socket.SHUT_RDWR)
            await self.works(program, served)
            self.assertNotEqual(leg.fileno(), -1)
            self.assertEqual(self.link.path, "")
        visitor, provider = self.ways
        expected = [(1, ""), (2, "lan"), (3, ""), (4, "lan"), (5, "")]
        await until(lambda: provider.generations == expected)
        self.assertEqual(visitor.generations, expected)
        self.assertEqual(len(self.sent(MeetingOffer)), 0)

    async def test_report(self) -> None:
        """The status of both tells the way, or why there is none."""
        await self.running()
        await self.connected()
        assert self.visitor.link is not None
        (known,) = self.links
        assert known.session is not None
        for session in (self.visitor.link.session, known.session):
            report = session.report(None)
            self.assertEqual((report["path"], report["whyNotDirect"]), ("relay", FakeDirect.why))
        await self.met()
        for session in (self.visitor.link.session, known.session):
            report = session.report(None)
            self.assertEqual((report["path"], report["whyNotDirect"]), ("lan", None))

    async def test_report_where_there_is_none(self) -> None:
        """Raw sessions, and those of the public, say why they never are direct."""
        session = self.session()
        self.assertEqual(session.report(None)["whyNotDirect"], WHY_RAW)
        await self.running()
        session.link, session.public = self.link, True
        self.assertEqual(session.report(None)["whyNotDirect"], WHY_PUBLIC)

    async def test_bulk_transfers(self) -> None:
        """With a direct channel there is no other one for bulk transfers, nor is one wanted."""
        await self.running()
        await self.connected()
        assert self.visitor.link is not None
        self.visitor.link.wants_channel(self.link, BULK_SLOT)
        await self.channel()
        await until(lambda: self.link.channels[BULK_SLOT] is not None)
        await self.met()
        self.assertIsNone(self.link.channels[BULK_SLOT])
        self.visitor.link.wants_channel(self.link, BULK_SLOT)
        self.assertEqual(list(self.visitor.link._seeking), [])

    async def test_stranger(self) -> None:
        """Whoever is not the other client gets nowhere, on both sides; the sockets are closed."""
        program, served, _ = await self.running()
        await self.connected()
        stranger = self.links_of(STRANGER)
        near, far = self.sockets()
        taken = stranger.newcomer(far, self.session(), self.web)
        self.assertFalse(await self.ways[0].found(near, "lan"))
        self.assertFalse(await taken)
        self.assertEqual((near.fileno(), far.fileno()), (-1, -1))
        near, far = self.sockets()
        taken = self.ways[1].found(far, "lan")
        near.send(b"GET / HTTP/1.1\r\n\r\n")
        self.assertFalse(await taken)
        self.assertEqual(far.fileno(), -1)
        await self.works(program, served)
        self.assertEqual(self.link.path, "")

    async def test_too_late(self) -> None:
        """A connection of a link that is over, or has no channel, is closed."""
        _, _, leg = await self.running()
        await self.connected()
        visitor, provider = self.ways
        near, far = self.sockets()
        taken = provider.found(far, "lan")
        proven: Deferred[bool] = visitor.found(near, "lan")
        leg.shutdown(socket.SHUT_RDWR)
        self.link.channels.first.close()  # type: ignore[union-attr]
        self.link.channels.clear()
        self.assertFalse(await proven)
        self.assertFalse(await taken)
        self.assertEqual((near.fileno(), far.fileno()), (-1, -1))

    async def test_no_session(self) -> None:
        """A provider's link without a session does not know whom to expect."""
        await self.running()
        await self.connected()
        (known,) = self.links
        known.session = None
        near, far = self.sockets()
        self.assertFalse(await self.ways[1].found(far, "lan"))
        self.assertEqual(far.fileno(), -1)
        near.close()

    async def test_messages(self) -> None:
        """What is said of a session is for its link alone."""
        await self.running()
        await self.connected()
        visitor, provider = self.ways
        (known,) = self.links
        assert known.session is not None and self.visitor.link is not None
        own = self.visitor.link.session.id
        fields: Any = {"attempt": 1, "generation": 1, "candidates": (), "nat": "easy"}
        for session_id in (f"{99:032x}", own):
            self.control.receive(MeetingAnswer(session_id=session_id, **fields))
            self.control.receive(Go(session_id=session_id, attempt=1, delay=0))
        self.assertEqual(
            [(type(each), each.session_id) for each in visitor.heard],  # type: ignore[attr-defined]
            [(MeetingAnswer, own), (Go, own)],
        )
        offer = MeetingOffer(session_id=own, **fields)
        self.links.meeting(self.session(), offer)
        self.assertEqual(provider.heard, [])
        self.links.meeting(known.session, offer)
        self.assertEqual(provider.heard, [offer])

    async def test_end(self) -> None:
        """With the link its way ends, on both sides; with the client, all of them."""
        await self.running()
        await self.connected()
        visitor, provider = self.ways
        self.visitor.close()
        await until(lambda: visitor.closed and provider.closed)
        self.assertEqual((visitor.closed, provider.closed), (1, 1))
        directs = self.machinery.directs
        assert isinstance(directs, FakeDirects)
        self.machinery.close()
        self.assertEqual(directs.closed, 1)

    async def test_renewed(self) -> None:
        """A main channel of a new session takes the place of one whose session is over."""
        program, served, _ = await self.running()
        await self.connected()
        assert self.visitor.link is not None
        self.visitor.over(self.visitor.link.session)
        self.ways[0].renew()
        await self.grant(2)
        await self.channel()
        await until(lambda: len(self.ways[0].generations) == 2)
        await self.works(program, served)
        self.assertEqual(self.visitor.link.session.id, f"{2:032x}")

    async def test_not_renewed(self) -> None:
        """If there is no other session to be had, what runs goes on all the same."""
        program, served, _ = await self.running()
        await self.connected()
        assert self.visitor.link is not None
        self.visitor.over(self.visitor.link.session)
        self.ways[0].renew()
        await self.asked(2)
        self.refuse("forbidden")
        await until(lambda: not (self.visitor.link and self.visitor.link._seeking))
        await self.works(program, served)

    async def test_off(self) -> None:
        """With C{direct = off} nothing is looked for, and what others say is passed over."""
        self.machinery = dataclasses.replace(self.machinery, directs=None)
        self.links = Links(dataclasses.replace(self.links.machinery, directs=None))
        self.addCleanup(self.links.close)
        self.visitor = self.visiting()
        await self.running()
        await self.connected()
        assert self.visitor.link is not None
        (known,) = self.links
        assert known.session is not None
        fields: Any = {"attempt": 1, "generation": 1, "candidates": (), "nat": "easy"}
        session = self.visitor.link.session
        self.control.receive(MeetingAnswer(session_id=session.id, **fields))
        self.links.meeting(known.session, MeetingOffer(session_id=session.id, **fields))
        self.assertEqual((self.visitor.link.direct, known.direct), (None, None))
        self.assertEqual(session.report(None)["whyNotDirect"], "direct = off here")
        self.assertNotIn("offer", {each.__struct_config__.tag for each in self.control.sent})
