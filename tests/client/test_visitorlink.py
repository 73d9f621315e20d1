"""Tests for L{relaytun.ends.visitorlink}: a visitor's link, with a provider that is real."""

from __future__ import annotations

import dataclasses
import socket
from typing import Any
from unittest import mock

from msgspec import UNSET
from twisted.internet.defer import Deferred

from relaytun.client import providerlink as module_of_links, whom as module_of_choices
from relaytun.client.servicedialer import ServiceDialer
from relaytun.client.visitor import Visitor
from relaytun.ends import visitorlink as module
from relaytun.link.slots import RESERVE
from relaytun.link.stream import BULK_SLOT, MAIN
from relaytun.plane.pair import pair
from relaytun.wire import messages
from relaytun.wire.messages import Code
from relaytun.wire.preamble import Refusal, Role

from .linksupport import PROVIDER, STRANGER, LinkTestCase
from .support import turn, until, warnings_to


class VisitorLinkTests(LinkTestCase):
    """
    @ivar warnings: what the visitor says.
    """

    def setUp(self) -> None:
        super().setUp()
        self.patch(module, "LONGEST_PAUSE", 0)
        self.warnings: list[Any] = []
        self.patch(Visitor, "_log", warnings_to(self.warnings))

    async def test_stream(self) -> None:
        """A program's stream leads to the service, both ways, up to the end of each."""
        program, served, _ = await self.running()
        await self.works(program, served)
        program.shutdown(socket.SHUT_WR)
        self.assertEqual(await self.receive(served, 1), b"")
        served.send(b"bye")
        served.close()
        self.assertEqual(await self.receive(program, 4), b"bye")
        await until(lambda: self.visitor.totals[0] == 0)
        self.assertEqual(self.visitor.totals, (0, 6, 8))
        self.assertEqual(self.warnings, [])

    async def test_one_channel_for_many_streams(self) -> None:
        """Later programs need neither a session nor a leg of their own."""
        await self.running()
        for _ in range(3):
            program = self.program()
            program.send(b"y")
            await self.works(program, await self.served(b"y"))
        self.assertEqual(len(self.sent(messages.ConnectRequest)), 1)
        self.assertRaises(BlockingIOError, self.relay.accept)

    async def test_proven_is_remembered(self) -> None:
        """Whom TLS has proven is remembered with the service, and nobody before that."""
        self.program()
        await self.grant()
        leg, _ = await self.leg(Role.VISITOR)
        self.assertEqual(self.known.remembered, [])
        leg.send(b"+")
        self.hand_over(leg, self.links)
        await until(lambda: self.known.remembered)
        self.assertEqual(self.known.remembered, [("provider", PROVIDER.fingerprint, "web")])

    async def test_channel_lost(self) -> None:
        """When the channel is lost the stream goes on over the next, in the same session."""
        program, served, leg = await self.running()
        for _ in range(3):
            leg.shutdown(socket.SHUT_RDWR)
            program.send(b"during")
            leg = await self.channel()
            self.assertEqual(await self.receive(served, 6), b"during")
            await self.works(program, served)
        self.assertEqual(len(self.sent(messages.ConnectRequest)), 1)

    async def test_losing_control_touches_no_stream(self) -> None:
        """Without a control connection the link goes on; its next channel needs a session."""
        program, served, leg = await self.running()
        old, self.control = self.control, type(self.control)()
        old.lose()
        await self.works(program, served)
        self.assertEqual(self.visitor.reports(), [self.visitor.link.session])
        await until(lambda: self.connection.control is self.control)
        leg.shutdown(socket.SHUT_RDWR)
        await self.grant(1)
        await self.channel()
        await self.works(program, served)

    async def test_hurries(self) -> None:
        """It is in a hurry while streams have no channel, and at no other time."""
        (hurries,) = self.connection.hurries
        self.assertFalse(hurries())
        program, served, leg = await self.running()
        await self.connected()
        self.assertFalse(hurries())
        leg.shutdown(socket.SHUT_RDWR)
        await until(hurries)
        await self.channel()
        await self.works(program, served)
        self.assertFalse(hurries())

    async def test_any_client(self) -> None:
        """Streams stay with the client that has them, and not for ever if it is away."""
        self.visitor = self.visiting(target=None)
        program = self.program()
        await self.asked(1)
        usual = {"mode": "link", "peer_fingerprint": PROVIDER.fingerprint}
        self.control.receive(self.granted(1, **usual))
        leg = await self.channel()
        program.send(b"x")
        await self.works(program, await self.served(b"x"))
        (session,) = self.visitor.sessions.values()
        self.visitor.over(session)
        leg.shutdown(socket.SHUT_RDWR)
        await self.asked(2)
        self.refuse()
        await self.asked(3)
        self.patch(module_of_choices, "FAITHFUL", 0)
        self.refuse()
        await self.asked(4)
        self.control.receive(self.granted(4, **usual | {"peer_client_id": "another"}))
        await self.is_reset(program)
        self.assertIn("the provider's process has died", self.warnings[-1]["text"])
        self.assertEqual(
            [request.to_client_id for request in self.sent(messages.ConnectRequest)],
            [UNSET, "provider", "provider", UNSET],
        )

    async def test_any_client_without_streams(self) -> None:
        """A program that comes when the client is gone goes to another one at once."""
        self.visitor = self.visiting(target=None)
        usual = {"mode": "link", "peer_fingerprint": PROVIDER.fingerprint}
        program = self.program()
        await self.asked(1)
        self.control.receive(self.granted(1, **usual))
        another = self.program()  # There is no channel yet, and both wait for it.
        leg = await self.channel()
        for _ in range(2):
            (await self.accept(self.service)).close()
        program.close()
        another.close()
        await until(lambda: not self.visitor.totals[0])
        first = self.visitor.link
        assert first is not None
        (session,) = self.visitor.sessions.values()
        self.visitor.over(session)
        leg.shutdown(socket.SHUT_RDWR)
        await until(lambda: not first.link.connected)
        program = self.program()
        program.send(b"x")
        self.assertEqual(self.warnings[-1]["why"], "provider is away")
        await self.asked(2)
        self.control.receive(self.granted(2, **usual))
        await self.channel()
        await self.works(program, await self.served(b"x"))
        self.assertIsNot(self.visitor.link, first)

    async def test_unreached(self) -> None:
        """Where any client would do, one whose service is dead is left."""
        self.visitor = self.visiting(target=None)
        self.patch(LinkTestCase, "web", self.web)
        self.service.close()
        program = self.program()
        program.send(b"x")
        await self.asked(1)
        usual = {"mode": "link", "peer_fingerprint": PROVIDER.fingerprint}
        self.control.receive(self.granted(1, **usual))
        await self.channel()
        await self.is_reset(program)
        await until(lambda: not self.visitor.sessions)
        self.assertIsNone(self.visitor.link)
        self.assertEqual(len(self.sent(messages.CloseSession)), 1)
        self.assertEqual(self.warnings[-1]["why"], "provider does not reach it")
        self.program()
        await self.asked(2)

    async def test_session_over(self) -> None:
        """A leg of a session that is over has the stream ask for another session."""
        program, served, leg = await self.running()
        asked = 1
        for refusal in (Refusal.NOT_LIVE, Refusal.UNAUTHORIZED):
            leg.shutdown(socket.SHUT_RDWR)
            await self.turned_away(refusal)
            asked += 1
            await self.grant(asked)
            leg = await self.channel()
            await self.works(program, served)
        self.assertEqual(len(self.visitor.sessions), 1)
        self.assertEqual(len(self.visitor.reports()), 1)

    async def test_leg_refused(self) -> None:
        """After every other refusal, or none, it tries again in the same session."""
        program, served, leg = await self.running()
        for refusal in set(Refusal) - {Refusal.NOT_LIVE, Refusal.UNAUTHORIZED}:
            leg.shutdown(socket.SHUT_RDWR)
            await self.turned_away(refusal)
            leg = await self.channel()
            await self.works(program, served)
        for answer in (b"", b"?", b"-\xff"):
            leg.shutdown(socket.SHUT_RDWR)
            refused, _ = await self.leg(Role.VISITOR)
            refused.send(answer)
            refused.close()
            leg = await self.channel()
            await self.works(program, served)
        self.assertEqual(len(self.sent(messages.ConnectRequest)), 1)

    async def test_refused_at_first(self) -> None:
        """The very first leg may be refused, too: the program waits for the next."""
        program = self.program()
        program.send(b"x")
        await self.grant()
        await self.turned_away(Refusal.LONELY)
        await self.channel()
        await self.works(program, await self.served(b"x"))

    async def test_no_relay(self) -> None:
        """A relay that cannot be reached is tried again."""
        program, served, leg = await self.running()
        address = self.relay.getsockname()
        self.relay.close()
        leg.shutdown(socket.SHUT_RDWR)
        await until(lambda: self.visitor.link._why)
        self.relay = socket.create_server(address)
        self.relay.setblocking(False)
        self.addCleanup(self.relay.close)
        await self.channel()
        await self.works(program, served)

    async def test_no_tls(self) -> None:
        """Whoever speaks no TLS is no provider, and no reason to give up."""
        program, served, leg = await self.running()
        for garbage in (b"+" + b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10, b"+"):
            leg.shutdown(socket.SHUT_RDWR)
            other, _ = await self.leg(Role.VISITOR)
            other.send(garbage)
            other.close()
            leg = await self.channel()
            await self.works(program, served)

    async def test_another_identity(self) -> None:
        """A provider that is not the one announced ends the link at once, and it is said."""
        program = self.program()
        program.send(b"secret")
        await self.grant()
        await self.channel(self.links_of(STRANGER))
        await self.is_reset(program)
        (warning,) = self.warnings
        for part in ("provider", PROVIDER.fingerprint, STRANGER.fingerprint):
            self.assertIn(part, warning["text"])
        self.assertEqual(self.known.remembered, [])
        self.assertIsNone(self.visitor.link)

    async def test_another_identity_later(self) -> None:
        """So does one that comes when the link has run for long."""
        program, _, leg = await self.running()
        leg.shutdown(socket.SHUT_RDWR)
        await self.channel(self.links_of(STRANGER))
        await self.is_reset(program)
        self.assertIn(STRANGER.fingerprint, self.warnings[-1]["text"])

    async def test_refused_for_good(self) -> None:
        """An answer that does not change by asking again ends the link."""
        for code in (Code.REJECTED, Code.FORBIDDEN, Code.UNAUTHORIZED, Code.BAD_MESSAGE):
            self.warnings.clear()
            program, _, leg = await self.running()
            leg.shutdown(socket.SHUT_RDWR)
            before = len(self.sent(messages.ConnectRequest))
            await self.turned_away(Refusal.NOT_LIVE)
            await self.asked(before + 1)
            self.refuse(code)
            await self.is_reset(program)
            self.assertIn("it is not there", self.warnings[-1]["text"])
            self.assertIsNone(self.visitor.link)

    async def test_provider_is_away(self) -> None:
        """A provider that is away for a moment is asked for again."""
        program, served, leg = await self.running()
        leg.shutdown(socket.SHUT_RDWR)
        await self.turned_away(Refusal.NOT_LIVE)
        for asked, code in enumerate((Code.CLIENT_OFFLINE, Code.TIMEOUT, Code.RATE_LIMITED), 2):
            await self.asked(asked)
            self.refuse(code)
        await self.grant(5)
        await self.channel()
        await self.works(program, served)

    async def test_nobody_answers(self) -> None:
        """A program does not wait for ever for the first channel of a link."""
        self.patch(module, "FIRST_CHANNEL", 0.05)
        program = self.program()
        await self.grant()
        await self.leg(Role.VISITOR)  # And no verdict.
        await self.is_reset(program)
        self.assertIsNone(self.visitor.link)

    async def test_never_let_in(self) -> None:
        """Nor if there are channels, and each of them is refused."""
        self.patch(module, "FIRST_CHANNEL", 0.05)
        self.patch(type(self.links), "hello", lambda links, newcomer, hello: newcomer.close())
        program = self.program()
        await self.grant()
        while self.visitor.link is not None or not self.warnings:
            try:
                leg, _ = self.relay.accept()
            except BlockingIOError:
                await turn()
                continue
            leg.setblocking(False)
            await self.receive(leg, 64)
            leg.send(b"+")
            self.hand_over(leg, self.links)
        await self.is_reset(program)

    async def test_late_first_channel(self) -> None:
        """Once it had a channel it has all the time that streams wait for the next."""
        self.patch(module, "FIRST_CHANNEL", 2.0)
        program, served, leg = await self.running()
        await self.connected()
        leg.shutdown(socket.SHUT_RDWR)
        await until(lambda: not self.visitor.link.link.connected)
        over = self.visitor.machinery.reactor.seconds() + module.FIRST_CHANNEL
        await until(lambda: self.visitor.machinery.reactor.seconds() > over)
        await self.channel()
        await self.works(program, served)

    async def test_program_of_an_outage(self) -> None:
        """
        A program that comes while there is no channel waits as long; older streams wait longer,
        also those in which only the service has spoken.
        """
        program = self.program()
        await self.grant()
        leg = await self.channel()
        served = await self.accept(self.service)
        served.send(b"220")
        self.assertEqual(await self.receive(program, 3), b"220")
        await self.connected()
        self.patch(module, "FIRST_CHANNEL", 0.05)
        leg.shutdown(socket.SHUT_RDWR)
        await until(lambda: not self.visitor.link.link.connected)
        await self.is_reset(self.program())
        await self.channel()
        await self.works(program, served)
        self.assertRaises(BlockingIOError, self.service.accept)

    async def test_program_of_a_short_outage(self) -> None:
        """If there is a channel in time, its stream is carried, and nobody resets it later."""
        _, _, leg = await self.running()
        await self.connected()
        leg.shutdown(socket.SHUT_RDWR)
        await until(lambda: not self.visitor.link.link.connected)
        late = self.program()
        await self.channel()
        late.send(b"y")
        await self.works(late, await self.served(b"y"))
        self.assertFalse(self.visitor.link._patience.active())

    async def test_provider_died(self) -> None:
        """A link that the provider's new process does not know is over; the next is another."""
        program, _, leg = await self.running()
        await self.connected()
        self.links = self.links_of(PROVIDER)
        leg.shutdown(socket.SHUT_RDWR)
        await self.channel()
        await self.is_reset(program)
        self.assertIn("process has died", self.warnings[-1]["text"])
        another = self.program()
        another.send(b"y")
        await self.channel()
        await self.works(another, await self.served(b"y"))
        self.assertEqual(len(self.sent(messages.ConnectRequest)), 1)

    async def test_never_begun_twice(self) -> None:
        """A link whose first channel broke is not begun anew with another process."""
        program = self.program()
        program.send(b"once")
        await self.grant(1, peer_process="one")
        leg, _ = await self.leg(Role.VISITOR)
        leg.close()
        await self.turned_away(Refusal.NOT_LIVE)
        await self.grant(2, peer_process="another")
        await self.is_reset(program)
        self.assertIn("process has died", self.warnings[-1]["text"])
        self.assertEqual(len(list(self.links)), 0)

    async def test_same_process(self) -> None:
        """A session that another server grants for the same process is as good."""
        program = self.program()
        program.send(b"x")
        await self.grant(1, peer_process="one")
        await self.turned_away(Refusal.NOT_LIVE)
        await self.grant(2, peer_process="one")
        await self.channel()
        await self.works(program, await self.served(b"x"))

    async def test_too_many_links(self) -> None:
        """A link that the provider has no room for ends at once, with the reason."""
        self.patch(module_of_links, "MOST_LINKS", 0)
        program = self.program()
        await self.grant()
        await self.channel()
        await self.is_reset(program)
        self.assertIn("too many links", self.warnings[-1]["text"])

    async def test_provider_stops(self) -> None:
        """When the provider stops its streams break."""
        program, served, _ = await self.running()
        self.links.close()
        await self.is_reset(program)
        await self.is_reset(served)

    async def test_close(self) -> None:
        """Closing breaks the streams, on both sides, and is nothing to warn of."""
        program, served, _ = await self.running()
        await self.connected()
        self.visitor.close()
        await self.is_reset(program)
        await self.is_reset(served)
        self.assertEqual(self.warnings, [])
        self.assertEqual(list(self.links), [])

    async def test_close_while_seeking(self) -> None:
        """Closing ends the search for a channel, wherever it is."""
        program, _, leg = await self.running()
        leg.shutdown(socket.SHUT_RDWR)
        dialled, _ = await self.leg(Role.VISITOR)
        self.visitor.close()
        await self.is_reset(program)
        await self.is_reset(dialled)

    async def test_service_is_down(self) -> None:
        """When the service cannot be reached the program gets a reset, and the link stays."""
        self.patch(ServiceDialer, "_log", warnings_to([]))
        program, served, _ = await self.running()
        address = self.service.getsockname()
        self.service.close()
        await self.is_reset(self.program())
        await self.works(program, served)
        self.service = socket.create_server(address)
        self.service.setblocking(False)
        self.addCleanup(self.service.close)
        another = self.program()
        await self.works(another, await self.accept(self.service))

    async def test_unencrypted_now(self) -> None:
        """A service that is raw when the next session is granted gets no byte of the stream."""
        self.visitor = self.visiting(mode="raw")
        program, _, leg = await self.running()
        leg.shutdown(socket.SHUT_RDWR)
        await self.turned_away(Refusal.NOT_LIVE)
        await super().grant(2, mode="raw")
        await self.is_reset(program)
        self.assertIn("unencrypted", self.warnings[-1]["text"])

    async def test_bulk_refused(self) -> None:
        """What is final for the channel of bulk transfers leaves the main one alone."""
        program, served, _ = await self.running()
        await self.connected()
        self.control.receive(
            messages.SessionClosed(session_id=f"{1:032x}", reason="happy", bytes_transferred=0)
        )
        self.visitor.link.wants_channel(self.visitor.link.link, 1)
        await self.asked(2)
        self.refuse(Code.FORBIDDEN)
        await self.works(program, served)

    async def test_search_breaks(self) -> None:
        """If the search for a channel fails by a mistake of ours, no program is left waiting."""
        program, _, leg = await self.running()
        self.patch(module, "dial_leg", None)
        leg.shutdown(socket.SHUT_RDWR)
        await self.is_reset(program)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)


class DirectTests(LinkTestCase):
    """A link that has, or had, a way without the relay; the test finds it."""

    def setUp(self) -> None:
        super().setUp()
        machinery = dataclasses.replace(self.visitor.machinery, directs=mock.Mock())
        self.visitor.machinery = machinery

    def meet(self) -> Deferred[bool]:
        """The two come to a connection; whether it was taken."""
        near, far = pair()
        (known,) = self.links
        known._take(far, "quic")
        return self.visitor.link._take(near, "quic")

    async def direct(self) -> None:
        """They use one."""
        self.assertTrue(await self.meet())
        await until(lambda: self.visitor.link.link.path == "quic")

    async def new_login(self) -> None:
        """The server comes back, and knows of no session."""
        old, self.control = self.control, type(self.control)()
        old.lose()
        await until(lambda: self.connection.control is self.control)

    async def test_moves(self) -> None:
        """Streams go on over it, and without it over the relay again."""
        program, served, _ = await self.running()
        await self.direct()
        await self.works(program, served)
        self.visitor.link.link.channels.first._lose("the test")
        program.send(b"during")
        self.assertEqual(await self.receive(served, 6), b"during")
        await self.works(program, served)
        self.assertEqual(self.visitor.link.link.path, "")

    async def test_silent(self) -> None:
        """One that falls silent is replaced by the one through the relay that there was before."""
        program, served, _ = await self.running()
        await self.direct()
        channel = self.visitor.link.link.channels.first
        channel._pulse._given_up = float("inf")
        self.visitor.link.link.worn(channel)
        await self.works(program, served)
        await until(lambda: self.visitor.link.link.path == "")
        self.assertFalse(channel.open)
        await self.works(program, served)

    async def test_slower(self) -> None:
        """One that carries less than the relay is replaced by one through the relay."""
        program, served, _ = await self.running()
        await self.direct()
        self.visitor.link.link._slower()
        self.visitor.link.direct.demoted.assert_called_once_with()
        await until(lambda: self.visitor.link.link.path == "")
        await self.works(program, served)

    async def test_recovers(self) -> None:
        """One that recovers keeps its place: what was found meanwhile is not needed."""
        program, served, first = await self.running()
        await self.direct()
        link = self.visitor.link.link
        channel = link.channels.first
        channel._pulse._given_up = float("inf")
        first.shutdown(socket.SHUT_RDWR)
        in_reserve, _ = await self.leg(Role.VISITOR)
        link.worn(channel)
        leg, _ = await self.leg(Role.VISITOR)
        channel._pulse._given_up = 0.0
        leg.send(b"+")
        self.hand_over(leg, self.links)
        await until(lambda: MAIN not in self.visitor.link._seeking)
        self.assertEqual(link.path, "quic")
        self.assertIsNone(link.channels[RESERVE])
        await self.works(program, served)
        in_reserve.close()

    async def test_several_at_once(self) -> None:
        """Of connections that are proven at the same time one is taken, and the others are not."""
        program, served, _ = await self.running()
        meetings = [self.meet() for _ in range(3)]
        taken = [await meeting for meeting in meetings]
        self.assertEqual(sorted(taken), [False, False, True])
        await self.works(program, served)
        (known,) = self.links
        for link in (self.visitor.link.link, known.link):
            self.assertEqual(link.path, "quic")
            self.assertEqual(link.channels.first.generation, 2)

    async def test_next_one(self) -> None:
        """If the first comes to nothing after all, the next one is taken."""
        program, served, _ = await self.running()
        arrived: Deferred[bool] = Deferred()
        link = self.visitor.link.link
        attach, attached = link.attach, []

        def attach_in_vain(channel: Any, slot: int) -> Deferred[bool]:
            attached.append(channel)
            self.patch(link, "attach", attach)
            return arrived

        self.patch(link, "attach", attach_in_vain)
        meetings = self.meet(), self.meet()
        await until(lambda: attached)
        attached[0].close()
        arrived.callback(False)
        self.assertEqual(sorted([await meeting for meeting in meetings]), [False, True])
        await self.works(program, served)
        self.assertEqual(link.path, "quic")

    async def test_reserve_is_dead(self) -> None:
        """If the one in reserve does not answer, another one is looked for."""
        self.patch(module, "FALL_BACK", 0.01)
        program, served, _ = await self.running()
        await self.direct()
        (known,) = self.links
        await until(lambda: known.link.channels[RESERVE] is not None)
        silent = known.link.channels[RESERVE]
        silent._reactor.removeReader(silent)
        link = self.visitor.link.link
        link.channels.first._lose("the test")
        await self.channel()
        await self.works(program, served)
        self.assertEqual(link.path, "")

    async def test_reserve_is_lost(self) -> None:
        """Another one is looked for, while the direct one goes on, and serves as well."""
        program, served, first = await self.running()
        await self.direct()
        link = self.visitor.link.link
        await until(lambda: link.channels[RESERVE] is not None)
        first.shutdown(socket.SHUT_RDWR)
        await until(lambda: link.channels[RESERVE] is None)
        await self.works(program, served)
        await self.channel()
        (known,) = self.links
        for each in (link, known.link):
            await until(lambda each=each: each.channels[RESERVE] is not None)
        self.assertEqual(link.path, "quic")
        link.channels.first._lose("the test")
        await self.works(program, served)
        self.assertEqual(link.path, "")

    async def test_no_reserve(self) -> None:
        """If there can be none, the direct one does without."""
        program, served, first = await self.running()
        await self.direct()
        link = self.visitor.link
        await until(lambda: link.link.channels[RESERVE] is not None)
        self.visitor.over(link.session)
        first.shutdown(socket.SHUT_RDWR)
        await self.asked(2)
        self.refuse(Code.FORBIDDEN)
        await until(lambda: not link._seeking)
        await self.works(program, served)
        self.assertEqual(link.link.path, "quic")

    async def test_direct_lost_meanwhile(self) -> None:
        """A channel that was to be in reserve, and comes too late for that, is not needed."""
        program, served, first = await self.running()
        await self.direct()
        link = self.visitor.link
        await until(lambda: link.link.channels[RESERVE] is not None)
        first.shutdown(socket.SHUT_RDWR)
        late, _ = await self.leg(Role.VISITOR)
        link.link.channels.first._lose("the test")
        await self.channel()
        await self.works(program, served)
        late.send(b"+")
        self.hand_over(late, self.links)
        await until(lambda: not link._seeking)
        self.assertIsNone(link.link.channels[RESERVE])
        await self.works(program, served)

    async def test_server_comes_back_while_direct(self) -> None:
        """The channel in reserve is of a session of now, too."""
        program, served, _ = await self.running()
        await self.direct()
        await self.new_login()
        await self.grant(1)
        await self.channel()
        await until(lambda: self.visitor.link.session.live)
        link = self.visitor.link.link
        await until(lambda: not self.visitor.link._seeking)
        self.assertIsNotNone(link.channels[RESERVE])
        self.assertEqual(link.path, "quic")
        await self.works(program, served)

    async def test_no_need_of_the_relay(self) -> None:
        """As long as there is one no channel that would carry is looked for at the relay's."""
        await self.running()
        await self.direct()
        link = self.visitor.link
        await until(lambda: link.link.channels[RESERVE] is not None)
        for slot in (MAIN, BULK_SLOT):
            link._seek(slot)
            link._look_for_better(slot)
        self.assertEqual(link._seeking, {})
        self.assertRaises(BlockingIOError, self.relay.accept)

    async def test_server_comes_back(self) -> None:
        """A link through the relay looks for a session of now, in which the two can meet."""
        program, served, _ = await self.running()
        await self.new_login()
        await self.grant(1)
        await self.channel()
        await until(lambda: self.visitor.link.session.live)
        await self.works(program, served)

    async def test_nothing_better_there(self) -> None:
        """If that is refused for good, the channel that there is goes on."""
        program, served, _ = await self.running()
        await self.new_login()
        await self.asked(1)
        self.refuse(Code.FORBIDDEN)
        await until(lambda: not self.visitor.link._seeking)
        await self.works(program, served)
