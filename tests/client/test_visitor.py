"""Tests for L{relaytun.client.visitor}."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from relaytun.client.connection import ServerConnection
from relaytun.client.visitor import Visitor, wait_for_service
from relaytun.config import ConnectConfig
from relaytun.ends.refusals import PeerRefused, RequestError
from relaytun.wire import messages
from relaytun.wire.preamble import Refusal, Role

from .support import HandMadeServer, VisitorTestCase, until, warnings_to
from .test_connection import FakeControl

FINGERPRINT = "sha256:" + "0" * 64


class VisitorTests(VisitorTestCase):
    async def test_one_session_for_many_streams(self) -> None:
        """Streams share a session, and number their channels 0, 1, 2..."""
        programs = [self.pair() for _ in range(3)]
        for _, accepted in programs:
            self.visitor.serve(accepted)
        await self.grant()
        numbers = [(await self.leg(Role.VISITOR))[1].channel for _ in programs]
        self.assertEqual(sorted(numbers), [0, 1, 2])
        self.assertEqual(len(self.sent(messages.ConnectRequest)), 1)

    async def test_no_session(self) -> None:
        """When there is no session to be had the program gets an error at once."""
        program, accepted = self.pair()
        self.visitor.serve(accepted)
        await until(lambda: self.sent(messages.ConnectRequest))
        self.refuse()
        await self.is_reset(program)

    async def test_no_relay(self) -> None:
        """When the relay does not answer the program gets an error."""
        program, accepted = self.pair()
        self.visitor.serve(accepted)
        address = self.relay_address
        self.relay.close()
        self.patch(HandMadeServer, "relay_address", address)
        await self.grant()
        await self.is_reset(program)

    async def running(self) -> tuple[socket.socket, socket.socket, str]:
        program, accepted = self.pair()
        before = len(self.sent(messages.ConnectRequest))
        self.visitor.serve(accepted)
        session_id = await self.grant(before + 1)
        leg, _ = await self.leg(Role.VISITOR)
        leg.send(b"+x")
        await self.receive(program, 1)
        return program, leg, session_id

    async def test_losing_control_touches_no_stream(self) -> None:
        """A stream goes on when the control connection is lost; its bytes count to the end."""
        program, leg, _ = await self.running()
        old, self.control = self.control, type(self.control)()
        old.lose()
        self.assertEqual(len(self.visitor.sessions), 1)
        leg.send(b"still there")
        self.assertEqual(await self.receive(program, 11), b"still there")
        program.close()
        await self.receive(leg, 1)
        leg.close()
        await until(lambda: not self.visitor.sessions)
        self.assertEqual(self.visitor.totals, (0, 0, 12))

    async def test_session_closed(self) -> None:
        """After session_closed the next stream asks for a new session."""
        program, leg, session_id = await self.running()
        program.close()
        await self.receive(leg, 1)
        leg.close()
        closed = messages.SessionClosed(
            session_id=session_id, reason="timeout", bytes_transferred=1
        )
        self.control.receive(closed)
        self.control.receive(closed)
        await until(lambda: not self.visitor.sessions)
        await self.running()

    async def test_any_client(self) -> None:
        """Where any client would do, a session that carries nothing is given back."""
        self.visitor = self.visiting(target=None)
        program, accepted = self.pair()
        self.visitor.serve(accepted)
        await self.asked(1)
        self.control.receive(self.granted(1))
        leg, _ = await self.leg(Role.VISITOR)
        leg.send(b"+x")
        self.assertEqual(await self.receive(program, 1), b"x")
        self.assertEqual(self.sent(messages.CloseSession), [])
        another, accepted = self.pair()
        self.visitor.serve(accepted)
        second, _ = await self.leg(Role.VISITOR)
        program.close()
        await self.receive(leg, 1)
        leg.close()
        await until(lambda: not self.visitor.totals[0])
        self.assertEqual(self.sent(messages.CloseSession), [])  # Another stream begins just now.
        second.send(b"+")
        await until(lambda: self.visitor.totals[0])
        another.close()
        await self.receive(second, 1)
        second.close()
        await until(lambda: not self.visitor.sessions)
        (closed,) = self.sent(messages.CloseSession)
        self.assertEqual(closed.session_id, f"{1:032x}")
        self.visitor.serve(self.pair()[1])
        await self.asked(2)

    async def test_close(self) -> None:
        """Closing resets the streams and gives the session back."""
        program, _, session_id = await self.running()
        self.visitor.close()
        await self.is_reset(program)
        self.assertEqual(
            self.sent(messages.CloseSession), [messages.CloseSession(session_id=session_id)]
        )

    async def test_one_gives_up_another(self) -> None:
        """Who gets the session may give up another that waits; a third one still gets it."""
        got: list[str] = []
        asked = [self.visitor.session() for _ in range(3)]
        asked[0].addCallback(lambda _: asked[1].cancel())
        asked[1].addErrback(lambda failure: got.append(failure.trap(CancelledError).__name__))
        await self.grant()
        await asked[2]
        self.assertEqual(got, ["CancelledError"])

    async def test_close_while_asking(self) -> None:
        """Nobody waits any more, and a session that is granted too late is given back."""
        program, accepted = self.pair()
        self.visitor.serve(accepted)
        await self.asked(1)
        self.visitor.close()
        await self.is_reset(program)
        session_id = await self.grant()
        self.assertEqual(
            self.sent(messages.CloseSession), [messages.CloseSession(session_id=session_id)]
        )
        self.assertEqual((self.visitor.sessions, self.visitor.link), ({}, None))

    async def test_report(self) -> None:
        """A visitor's bytes in are those from the service."""
        await self.running()
        (session,) = self.visitor.sessions.values()
        report = session.report(0.5)
        self.assertEqual(
            (report["role"], report["bytesIn"], report["bytesOut"], report["streams"]),
            ("visitor", 1, 0, 1),
        )

    async def test_bad_channel_key(self) -> None:
        """A server that sends nonsense for a key costs the stream, not the client."""
        self.patch(HandMadeServer, "key", "c2hvcnQ=")
        program, accepted = self.pair()
        self.visitor.serve(accepted)
        await self.grant()
        await self.is_reset(program)


class GrantTests(VisitorTestCase):
    """What the server grants is not always what was asked for."""

    def setUp(self) -> None:
        super().setUp()
        self.warnings: list[Any] = []
        self.patch(Visitor, "_log", warnings_to(self.warnings))

    async def refused(self, why: str, **fields: Any) -> None:
        """What is granted is given back, the program gets a reset, and a warning says why."""
        program, accepted = self.pair()
        before = len(self.sent(messages.ConnectRequest))
        self.visitor.serve(accepted)
        session_id = await self.grant(before + 1, **fields)
        await self.is_reset(program)
        self.assertIn(why, self.warnings[-1]["text"])
        self.assertEqual(
            self.sent(messages.CloseSession)[-1], messages.CloseSession(session_id=session_id)
        )
        self.assertEqual(self.visitor.sessions, {})
        self.assertRaises(BlockingIOError, self.relay.accept)

    async def taken(self, **fields: Any) -> None:
        """What is granted is used."""
        self.visitor.serve(self.pair()[1])
        await self.grant(len(self.sent(messages.ConnectRequest)), **fields)
        await self.leg(Role.VISITOR)

    async def test_another_client(self) -> None:
        """Another client than the one asked for."""
        await self.refused("another service", peer_client_id="other")

    async def test_any_client(self) -> None:
        """Whoever asks for nobody in particular takes any client, but no other service."""
        self.visitor = self.visiting(target=None)
        asked = self.visitor.session()
        await self.asked(1)
        self.control.receive(self.granted(1, peer_client_id="whoever"))
        self.assertEqual((await asked).peer, "whoever")
        self.visitor.over(await asked)
        asked = self.visitor.session()
        await self.asked(2)
        another = messages.Service(id="other", protocol="tcp", local_port=80)
        self.control.receive(self.granted(2, peer_client_id="whoever", service=another))
        with self.assertRaises(PeerRefused):
            await asked

    async def test_another_service(self) -> None:
        """Another service than the one asked for."""
        another = messages.Service(id="other", protocol="tcp", local_port=80)
        await self.refused("another service", service=another)

    async def test_unknown_mode(self) -> None:
        """A mode of a later version is none that this one can do; raw it is not."""
        await self.refused("in mode quantum", mode="quantum", peer_fingerprint=FINGERPRINT)

    async def test_bad_channel_key(self) -> None:
        """A key that is none."""
        await self.refused("no channel key", channel_key="c2hvcnQ=")
        await self.refused("no channel key", channel_key="not base64")

    async def test_twice_the_same(self) -> None:
        """A session that is there already, so that nobody can put his in place of another's."""
        await self.taken(session_id="a" * 32)
        (first,) = self.visitor.sessions.values()
        self.visitor._current = None  # Of another server, as it were.
        asked = self.visitor.session()
        await self.grant(2, session_id="a" * 32)
        with self.assertRaises(PeerRefused):
            await asked
        self.assertEqual(list(self.visitor.sessions.values()), [first])

    async def test_no_identity(self) -> None:
        """A link with nobody in particular."""
        await self.refused("does not tell provider's identity", mode="link")

    async def test_identity_changed(self) -> None:
        """A link with a provider that is not the one that is known, or pinned."""
        self.known.refused["provider"] = "it has changed"
        await self.refused("it has changed", mode="link", peer_fingerprint=FINGERPRINT)
        self.assertEqual(self.known.checked, [("provider", FINGERPRINT, None)])

    async def test_pin(self) -> None:
        """A pin is what the identity is compared with."""
        self.visitor = self.visiting(peer_fingerprint=FINGERPRINT)
        await self.taken(mode="link", peer_fingerprint=FINGERPRINT)
        self.assertEqual(self.known.checked, [("provider", FINGERPRINT, FINGERPRINT)])

    async def test_raw_and_new(self) -> None:
        """A raw service that was never anything else is taken as it is."""
        await self.taken()

    async def test_downgrade(self) -> None:
        """A service that was visited over a link is not visited without."""
        self.known.linked.add(("provider", "web"))
        await self.refused("was encrypted before")

    async def test_downgrade_that_is_wanted(self) -> None:
        """Unless the configuration says that it may."""
        self.known.linked.add(("provider", "web"))
        self.visitor = self.visiting(mode="raw")
        await self.taken()

    async def test_link_wanted(self) -> None:
        """Raw, where the configuration wants a link."""
        self.visitor = self.visiting(mode="link")
        await self.refused("unencrypted")

    async def test_pin_and_raw(self) -> None:
        """Raw, where the configuration wants an identity: nobody would prove it."""
        for mode in ("auto", "raw"):
            self.visitor = self.visiting(peer_fingerprint=FINGERPRINT, mode=mode)
            await self.refused("unencrypted")

    async def test_encrypted_now(self) -> None:
        """A raw stream whose new session is one of a link ends: its bytes are no TLS."""
        program, accepted = self.pair()
        program.send(b"question")
        self.visitor.serve(accepted)
        await self.grant()
        leg, _ = await self.leg(Role.VISITOR)
        leg.send(b"-" + bytes([Refusal.NOT_LIVE]))
        await self.grant(2, mode="link", peer_fingerprint=FINGERPRINT)
        await self.is_reset(program)
        self.assertRaises(BlockingIOError, self.relay.accept)


class SeveralServersTests(HandMadeServer):
    """
    A provider that may be known to any of two servers.

    @ivar controls: what the visitor says to each.
    """

    def setUp(self) -> None:
        super().setUp()
        self.controls = [self.control, FakeControl()]
        self.logins: list[Deferred[Any]] = []
        self.second = ServerConnection(reactor, self.login, heartbeat_interval=100)  # type: ignore[arg-type]
        self.second.startService()
        self.addCleanup(self.second.stopService)
        connect = ConnectConfig(name="web", target="provider", service="web", local_port=0)
        self.visitor = Visitor(self.machinery, [self.connection, self.second], connect)
        self.addCleanup(self.visitor.close)

    def login(self) -> Deferred[Any]:
        self.logins.append(Deferred())
        return self.logins[-1]

    def asked(self, server: int) -> list[Any]:
        """The requests that a server got."""
        sent = self.controls[server].sent
        return [message for message in sent if isinstance(message, messages.ConnectRequest)]

    def grant(self, server: int, session_id: str = "a" * 32) -> None:
        self.controls[server].receive(
            messages.CreateSession(
                session_id=session_id,
                peer_client_id="provider",
                service=messages.Service(id="web", protocol="tcp", local_port=80),
                relay_addr=self.relay_address,
                channel_key=self.key,
                request_id=self.asked(server)[-1].request_id,
            )
        )

    def refuse(self, server: int, code: str) -> None:
        self.controls[server].receive(
            messages.Error(code=code, message=code, request_id=self.asked(server)[-1].request_id)
        )

    def test_first(self) -> None:
        """The first server that is there is asked first, and alone if it knows the provider."""
        self.logins[0].callback(self.controls[1])
        asked = self.visitor.session()
        self.grant(0)
        self.assertEqual(self.successResultOf(asked).id, "a" * 32)
        self.assertEqual(self.asked(1), [])

    def test_next(self) -> None:
        """When the first does not have the provider, or does not answer, the next is asked."""
        self.logins[0].callback(self.controls[1])
        for code in ("unknown_client", "client_offline", "unknown_service", "timeout"):
            asked = self.visitor.session()
            self.refuse(0, code)
            self.grant(1)
            self.visitor.over(self.successResultOf(asked))

    def test_nobody(self) -> None:
        """When none of them has it, that is the answer."""
        self.logins[0].callback(self.controls[1])
        asked = self.visitor.session()
        self.refuse(0, "unknown_client")
        self.refuse(1, "client_offline")
        self.assertEqual(self.failureResultOf(asked, RequestError).value.code, "client_offline")

    def test_refused(self) -> None:
        """A no of one server does not keep another from a yes; if there is none, it is said."""
        self.logins[0].callback(self.controls[1])
        asked = self.visitor.session()
        self.refuse(0, "rejected")
        self.refuse(1, "unknown_client")
        self.assertEqual(self.failureResultOf(asked, RequestError).value.code, "rejected")
        asked = self.visitor.session()
        self.refuse(0, "session_limit")
        self.grant(1)
        self.successResultOf(asked)

    def test_going_away(self) -> None:
        """A server that is about to end is asked last, and its session takes no new streams."""
        self.logins[0].callback(self.controls[1])
        asked = self.visitor.session()
        self.grant(0)
        session = self.successResultOf(asked)
        self.controls[0].receive(messages.GoingAway(seconds=30.0))
        self.assertFalse(session.live)
        asked = self.visitor.session()
        self.grant(1, "b" * 32)
        self.assertEqual(self.successResultOf(asked).id, "b" * 32)
        self.assertEqual(len(self.asked(0)), 1)

    def test_leave(self) -> None:
        """One that is not needed any more hears of nothing, and hurries nobody."""
        self.logins[0].callback(self.controls[1])
        asked = self.visitor.session()
        self.grant(0)
        session = self.successResultOf(asked)
        self.visitor.leave()
        self.visitor.leave()
        closed = [one for one in self.control.sent if isinstance(one, messages.CloseSession)]
        self.assertEqual([one.session_id for one in closed], [session.id])
        self.assertEqual((self.connection.hurries, self.connection._listeners), ([], []))

    def test_first_is_away(self) -> None:
        """A server that is away is not waited for as long as there is another."""
        self.logins[0].callback(self.controls[1])
        self.connection._login = Deferred  # type: ignore[assignment]
        self.controls[0].lose()
        asked = self.visitor.session()
        self.grant(1)
        self.successResultOf(asked)

    async def test_all_away(self) -> None:
        """When all are away the first one to come back is asked."""
        self.connection._login = Deferred  # type: ignore[assignment]
        self.controls[0].lose()
        asked = self.visitor.session()
        self.logins[0].callback(self.controls[1])
        self.grant(1)
        self.successResultOf(asked)
        self.assertEqual(self.connection._waiting, [])

    def test_close_while_all_are_away(self) -> None:
        """Closing gives up waiting for any of them."""
        self.connection._login = Deferred  # type: ignore[assignment]
        self.controls[0].lose()
        asked = self.visitor.session()
        self.visitor.close()
        self.failureResultOf(asked, CancelledError)
        self.assertEqual((self.connection._waiting, self.second._waiting), ([], []))
        self.logins[0].callback(self.controls[1])
        self.assertEqual(self.asked(1), [])

    def test_lost_while_asking(self) -> None:
        """When the server is lost before it answers the next is asked."""
        self.logins[0].callback(self.controls[1])
        self.connection._login = Deferred  # type: ignore[assignment]
        asked = self.visitor.session()
        self.controls[0].lose()
        self.grant(1)
        self.successResultOf(asked)

    def test_closed_by_another(self) -> None:
        """What a server says of sessions is about its own: others' do not end by it."""
        self.logins[0].callback(self.controls[1])
        asked = self.visitor.session()
        self.grant(0)
        session = self.successResultOf(asked)
        closed = messages.SessionClosed(session_id=session.id, reason="happy", bytes_transferred=0)
        self.controls[1].receive(closed)
        self.assertTrue(session.live)
        self.controls[1].lose()
        self.assertTrue(session.live)
        self.controls[0].receive(closed)
        self.assertFalse(session.live)

    def test_given_back_to_its_server(self) -> None:
        """On closing, a session is given back to the server that it is of."""
        self.logins[0].callback(self.controls[1])
        asked = self.visitor.session()
        self.refuse(0, "unknown_client")
        self.grant(1)
        self.successResultOf(asked)
        self.visitor.close()
        self.assertEqual(self.controls[1].sent[-1], messages.CloseSession(session_id="a" * 32))
        self.assertEqual(self.sent(messages.CloseSession), [])


class WaitTests(HandMadeServer):
    def test_waits(self) -> None:
        """It asks again with growing pauses, says once why, and ends with the session."""
        clock: Any = Clock()
        outcomes: list[Any] = [RequestError("client_offline", "not there")] * 3 + [None]
        asked: list[float] = []

        class Asked:
            def session(self) -> Deferred[Any]:
                asked.append(clock.seconds())
                outcome = outcomes.pop(0)
                answer: Deferred[Any] = Deferred()
                answer.errback(outcome) if outcome else answer.callback(None)
                return answer

        said: list[str] = []
        waiting = Deferred.fromCoroutine(wait_for_service(Asked(), clock, said.append))  # type: ignore[arg-type]
        clock.pump([0.5] * 20)
        self.successResultOf(waiting)
        self.assertEqual(said, ["not there"])
        self.assertEqual(asked, [0, 1, 3, 7])
