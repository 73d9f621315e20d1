"""Tests for L{relaytun.client.visitor}."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relaytun.client.connection import RequestError
from relaytun.client.visitor import FIRST_FLIGHT, Visitor, wait_for_service
from relaytun.wire import messages
from relaytun.wire.preamble import Refusal, Role

from .support import HandMadeServer, until


class VisitorTests(HandMadeServer):
    def setUp(self) -> None:
        super().setUp()
        self.visitor = Visitor(
            reactor,  # type: ignore[arg-type]
            self.connection,
            self.dialer,
            self.pool,
            "provider",
            "web",
        )
        self.addCleanup(self.visitor.close)

    async def grant(self, number: int = 1) -> str:
        """Answer the C{number}-th request for a session."""
        await until(lambda: len(self.sent(messages.ConnectRequest)) >= number)
        request = self.sent(messages.ConnectRequest)[number - 1]
        self.assertEqual((request.to_client_id, request.service_id), ("provider", "web"))
        session_id = f"{number:032x}"
        self.control.receive(
            messages.CreateSession(
                session_id=session_id,
                peer_client_id="provider",
                service=messages.Service(id="web", protocol="tcp", local_port=80),
                relay_addr=self.relay_address,
                channel_key=self.key,
                request_id=request.request_id,
            )
        )
        return session_id

    def refuse(self, code: str = "client_offline") -> None:
        request = self.sent(messages.ConnectRequest)[-1]
        self.control.receive(
            messages.Error(code=code, message="it is not there", request_id=request.request_id)
        )

    async def test_first_bytes_need_no_verdict(self) -> None:
        """What the program says first travels behind the preamble, before any answer."""
        program, accepted = self.pair()
        program.send(b"GET /")
        self.visitor.serve(accepted)
        await self.grant()
        leg, opening = await self.leg(Role.VISITOR)
        self.assertEqual((opening.channel, opening.spare), (0, False))
        self.assertEqual(await self.receive(leg, 5), b"GET /")
        leg.send(b"+200 OK")
        self.assertEqual(await self.receive(program, 6), b"200 OK")
        program.send(b"more")
        self.assertEqual(await self.receive(leg, 4), b"more")
        self.assertEqual(self.visitor.totals, (1, 9, 6))

    async def test_late_first_bytes(self) -> None:
        """A program that speaks after its leg was dialled does not wait for the verdict either."""
        program, accepted = self.pair()
        self.visitor.serve(accepted)
        await self.grant()
        leg, _ = await self.leg(Role.VISITOR)
        program.send(b"hello")
        self.assertEqual(await self.receive(leg, 5), b"hello")
        leg.send(b"+")
        leg.send(b"hi")
        self.assertEqual(await self.receive(program, 2), b"hi")

    async def test_long_first_flight(self) -> None:
        """No more than a bounded part of a long upload is kept; all of it arrives."""
        program, accepted = self.pair()
        data = bytes(range(256)) * 400
        program.setblocking(True)
        program.sendall(data)
        program.setblocking(False)
        self.visitor.serve(accepted)
        await self.grant()
        leg, _ = await self.leg(Role.VISITOR)
        self.assertEqual(await self.receive(leg, FIRST_FLIGHT), data[:FIRST_FLIGHT])
        leg.send(b"+")
        rest = await self.receive(leg, len(data) - FIRST_FLIGHT)
        self.assertEqual(rest, data[FIRST_FLIGHT:])

    async def test_half_closed_at_once(self) -> None:
        """A program that has said all before there was a verdict is heard to the end."""
        program, accepted = self.pair()
        program.send(b"all")
        program.shutdown(socket.SHUT_WR)
        self.visitor.serve(accepted)
        await self.grant()
        leg, _ = await self.leg(Role.VISITOR)
        leg.send(b"+")
        self.assertEqual(await self.receive(leg, 100), b"all")

    async def test_one_session_for_many_streams(self) -> None:
        """Streams share a session, and number their channels 0, 1, 2..."""
        programs = [self.pair() for _ in range(3)]
        for _, accepted in programs:
            self.visitor.serve(accepted)
        await self.grant()
        numbers = [(await self.leg(Role.VISITOR))[1].channel for _ in programs]
        self.assertEqual(sorted(numbers), [0, 1, 2])
        self.assertEqual(len(self.sent(messages.ConnectRequest)), 1)

    async def test_session_over(self) -> None:
        """A session that turns out to be over is replaced, and no byte of the stream is lost."""
        for refusal in (Refusal.NOT_LIVE, Refusal.UNAUTHORIZED):
            program, accepted = self.pair()
            program.send(b"question")
            before = len(self.sent(messages.ConnectRequest))
            self.visitor.serve(accepted)
            await self.grant(before + 1)
            leg, _ = await self.leg(Role.VISITOR)
            await self.receive(leg, 8)
            leg.send(b"-" + bytes([refusal]))
            second = await self.grant(before + 2)
            leg, opening = await self.leg(Role.VISITOR)
            self.assertEqual(opening.session.hex(), second)
            self.assertEqual(await self.receive(leg, 8), b"question")
            leg.send(b"+answer")
            self.assertEqual(await self.receive(program, 6), b"answer")
            self.visitor.close()

    async def test_refused_twice(self) -> None:
        """A stream that is refused on a fresh session, too, ends with an error."""
        program, accepted = self.pair()
        self.visitor.serve(accepted)
        for number in (1, 2):
            await self.grant(number)
            leg, _ = await self.leg(Role.VISITOR)
            leg.send(b"-" + bytes([Refusal.NOT_LIVE]))
        await self.is_reset(program)

    async def test_lonely(self) -> None:
        """Without a provider's leg the program gets an error, not a clean end."""
        for answer in (b"-" + bytes([Refusal.LONELY]), b"-\xff", b"?", b""):
            program, accepted = self.pair()
            self.visitor.serve(accepted)
            if not self.visitor.sessions:
                await self.grant()
            leg, _ = await self.leg(Role.VISITOR)
            leg.send(answer)
            leg.close()
            await self.is_reset(program)

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

    async def test_close(self) -> None:
        """Closing resets the streams and gives the session back."""
        program, _, session_id = await self.running()
        self.visitor.close()
        await self.is_reset(program)
        self.assertEqual(
            self.sent(messages.CloseSession), [messages.CloseSession(session_id=session_id)]
        )

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
