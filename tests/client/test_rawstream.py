"""Tests for L{relaytun.ends.rawstream}."""

from __future__ import annotations

import socket

from relaytun.ends.rawstream import FIRST_FLIGHT
from relaytun.wire import messages
from relaytun.wire.preamble import Refusal, Role

from .support import VisitorTestCase


class RawStreamTests(VisitorTestCase):
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
