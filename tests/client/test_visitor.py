"""Tests for L{relaytun.client.visitor}."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relaytun.client.connection import RequestError
from relaytun.client.visitor import wait_for_service
from relaytun.wire import messages
from relaytun.wire.preamble import Role

from .support import HandMadeServer, VisitorTestCase, until


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
