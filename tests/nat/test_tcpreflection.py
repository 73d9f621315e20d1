"""Tests of L{relaytun.nat.tcpreflection}."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import TestCase

from relaytun.nat import tcpreflection
from relaytun.nat.reflection import Reflection
from relaytun.nat.tcpreflection import TCPReflection, reusable
from relaytun.wire import stun

from ..plane.test_splice import until
from ..plane.test_websocket import FakeReactor

SEEN = ("198.51.100.2", 40000)
Answer = Callable[[bytes], bytes]


def seen(transaction: bytes) -> bytes:
    return stun.encode_answer(transaction, *SEEN)


class TCPReflectionTests(TestCase):
    """Against servers on this machine, whose side is played here."""

    timeout = 20

    def listen(self) -> socket.socket:
        sock = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(sock.close)
        sock.setblocking(False)
        return sock

    def ask(self, *places: socket.socket, **more: Any) -> TCPReflection:
        asking = TCPReflection(reactor, [place.getsockname() for place in places], **more)  # type: ignore[arg-type]
        self.addCleanup(asking.close)
        return asking

    async def serve(self, place: socket.socket, answer: Answer = seen) -> socket.socket:
        """Take a connection, read the question, and say what C{answer} makes of its transaction."""
        taken: list[socket.socket] = []

        def accept() -> bool:
            with contextlib.suppress(BlockingIOError):
                taken.append(place.accept()[0])
            return bool(taken)

        await until(accept)
        (sock,) = taken
        self.addCleanup(sock.close)
        sock.setblocking(False)
        came: list[bytes] = []

        def read() -> bool:
            with contextlib.suppress(BlockingIOError):
                came.append(sock.recv(99))
            return bool(came)

        await until(read)
        asked = stun.decode(came[0])
        sock.send(answer(asked.transaction))
        return sock

    def connections(self) -> set[Any]:
        readers = {*reactor.getReaders(), *reactor.getWriters()}  # type: ignore[attr-defined]
        return {each for each in readers if isinstance(each, tcpreflection._Connection)}

    async def test_one_port(self) -> None:
        """All places see one local port, and its connections stay until they are closed."""
        places = self.listen(), self.listen()
        asking = self.ask(*places)
        far = [await self.serve(place) for place in places]
        told = await asking.done
        self.assertEqual(told.external, (SEEN, SEEN))
        self.assertLess(told.rtt or 9, 5)
        self.assertEqual({sock.getpeername()[1] for sock in far}, {asking.port})
        for sock in far:
            self.assertRaises(BlockingIOError, sock.recv, 1)
        # From the same port one can go elsewhere.
        with reusable("127.0.0.1", asking.port) as other:
            other.connect_ex(self.listen().getsockname())
        self.assertEqual(len(self.connections()), 2)
        asking.close()
        self.assertEqual(self.connections(), set())

    async def test_parts(self) -> None:
        """An answer may come in parts, and more than one is no harm."""
        place = self.listen()
        asking = self.ask(place, host="127.0.0.1")
        parts: list[bytes] = []
        sock = await self.serve(place, lambda transaction: parts.append(seen(transaction)) or b"\1")  # type: ignore[func-returns-value]
        sock.send(parts[0][1:])
        self.assertEqual((await asking.done).external, (SEEN,))
        sock.send(b"more")
        await until(lambda: not self.connections())

    async def test_wrong_answers(self) -> None:
        """What is no answer to the question counts as none, and so does the end."""
        for answer in (
            lambda transaction: stun.encode_answer(bytes(12), *SEEN),
            lambda transaction: stun.encode_refusal(transaction, 420),
            lambda transaction: b"HTTP/1.1 400 Bad Request\r\n\r\n",
            lambda transaction: seen(transaction)[:20].replace(b"\x0c", b"\0", 1),
        ):
            place = self.listen()
            asking = self.ask(place)
            await self.serve(place, answer)
            self.assertEqual(await asking.done, Reflection())
        place = self.listen()
        asking = self.ask(place)
        (await self.serve(place, lambda transaction: b"")).close()
        self.assertEqual(await asking.done, Reflection())

    async def test_nobody(self) -> None:
        """Where nobody listens one does not wait; the other place's answer is told."""
        place, gone = self.listen(), self.listen()
        asking = self.ask(gone, place)
        asking.close()
        gone_address = gone.getsockname()
        gone.close()
        asking = TCPReflection(reactor, [gone_address, place.getsockname()])  # type: ignore[arg-type]
        self.addCleanup(asking.close)
        self.drop(place)
        await self.serve(place)
        self.assertEqual((await asking.done).external, (SEEN,))

    def drop(self, place: socket.socket) -> None:
        """Forget a connection of before."""
        with contextlib.suppress(BlockingIOError):
            sock, _ = place.accept()
            sock.close()

    async def test_no_way(self) -> None:
        """Without a local address, or a way there, there is no answer, and none is waited for."""
        place = self.listen()
        for asking in (
            self.ask(place, host="192.0.2.1"),
            self.ask(),
            TCPReflection(reactor, [("255.255.255.255", 1)]),  # type: ignore[arg-type]
        ):
            self.assertEqual(self.successResultOf(asking.done), Reflection())
            asking.close()

    async def test_silence(self) -> None:
        """There is an end to waiting, and the connections stay."""
        self.patch(tcpreflection, "PATIENCE", 0.05)
        place = self.listen()
        asking = self.ask(place)
        await self.serve(place, lambda transaction: b"")
        self.assertEqual(await asking.done, Reflection())
        self.assertEqual(len(self.connections()), 1)

    def test_events(self) -> None:
        """Events that were meant for an older socket of the same number are no news."""
        fake = FakeReactor()
        place = self.listen()
        asking = TCPReflection(fake, [place.getsockname()])  # type: ignore[arg-type]
        self.addCleanup(asking.close)
        (connection,) = asking._connections
        connected, connection._sock = connection._sock, reusable("127.0.0.1")
        connection.doWrite()
        self.assertEqual(fake.writers, {connection})
        connection._sock.close()
        connection._sock = connected
        connection.doWrite()
        self.assertEqual((fake.writers, fake.readers), (set(), {connection}))
        connection.doRead()
        sock, _ = place.accept()
        self.addCleanup(sock.close)
        answer = seen(stun.decode(sock.recv(99)).transaction)
        for part in (answer[:3], answer[3:21], answer[21:]):
            self.assertNoResult(asking.done)
            sock.send(part)
            connection.doRead()
        self.assertEqual(self.successResultOf(asking.done).external, (SEEN,))
        connection._sock.shutdown(socket.SHUT_RDWR)
        connection.doRead()
        self.assertEqual(fake.readers, set())
        connection.close()

    def test_refused(self) -> None:
        """A connection that fails is over, whenever it turns out."""
        fake = FakeReactor()
        place = self.listen()
        for turns in range(2):
            asking = TCPReflection(fake, [place.getsockname()])  # type: ignore[arg-type]
            (connection,) = asking._connections
            if turns:
                connection._sock.shutdown(socket.SHUT_WR)
            else:
                with reusable("127.0.0.1") as gone:
                    nobody = gone.getsockname()
                connection._sock.close()
                connection._sock = reusable("127.0.0.1")
                connection._sock.connect_ex(nobody)
            connection.doWrite()
            self.assertEqual(self.successResultOf(asking.done), Reflection())
            self.assertEqual((fake.writers, fake.getDelayedCalls()), (set(), []))

    async def test_cancelled(self) -> None:
        """Whoever does not wait any more may have the connections still; closing ends all."""
        place = self.listen()
        asking = self.ask(place)
        asking.done.cancel()
        self.failureResultOf(asking.done, CancelledError)
        self.assertEqual(len(self.connections()), 1)
        asking.close()
        self.assertEqual(self.connections(), set())
        (connection,) = asking._connections
        connection.connectionLost(None)  # type: ignore[arg-type]
