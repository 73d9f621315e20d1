"""Tests of L{relaytun.plane.websocket}: WebSockets in memory, pairs of sockets by hand."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relaytun.plane.accept import reset
from relaytun.plane.pair import End, pair
from relaytun.plane.websocket import (
    CLOSE_TIMEOUT,
    LOOK_INTERVAL,
    MAX_IDLE_FRAMES,
    WebSocketBridge,
)
from relaytun.wire import websocket
from relaytun.wire.websocket import (
    Close,
    CloseCode,
    Data,
    End as LastMessage,
    Event,
    FrameReader,
    Opcode,
    Pong,
)

MIB = 1024 * 1024


class FakeReactor(Clock):
    """What is to be watched, and a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.addReader, self.removeReader = self.readers.add, self.readers.discard
        self.addWriter, self.removeWriter = self.writers.add, self.writers.discard

    def turn(self) -> None:
        """Everybody looks at their socket."""
        for reader in list(self.readers):
            reader.doRead()
        for writer in list(self.writers):
            writer.doWrite()


class FakeTransport:
    """
    @ivar sent: what was written.
    @ivar reading: whether the other side is read.
    """

    def __init__(self) -> None:
        self.sent = b""
        self.reading = True
        self.producer: Any = None
        self.closed = self.aborted = False

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.sent += data

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def loseConnection(self) -> None:
        assert self.producer is None
        self.closed = True

    def abortConnection(self) -> None:
        self.aborted = True

    def take(self) -> bytes:
        """What was written since the last time."""
        sent, self.sent = self.sent, b""
        return sent


class Side:
    """
    A bridge with all that is around it.

    @ivar program: who holds the other end of the pair.
    """

    def __init__(self, reactor: FakeReactor, client: bool) -> None:
        self.transport = FakeTransport()
        ours, self.program = pair()
        self.bridge = WebSocketBridge(reactor, self.transport, ours, client)  # type: ignore[arg-type]


def received(program: End) -> tuple[bytes, str]:
    """What has come, and C{open}, C{ended} or C{broken}."""
    data = b""
    while True:
        try:
            more = program.recv(MIB)
        except BlockingIOError:
            return data, "open"
        except ConnectionError:
            return data, "broken"
        if not more:
            return data, "broken" if program.broken else "ended"
        data += more


class BridgeTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()

    def side(self, client: bool = False) -> Side:
        side = Side(self.reactor, client)
        self.addCleanup(side.program.close)
        self.addCleanup(side.bridge.lost)
        return side


class TwoBridgesTests(BridgeTestCase):
    """A client's and a server's, which understand each other."""

    def setUp(self) -> None:
        super().setUp()
        self.sides = [self.side(client=True), self.side()]

    def pump(self) -> None:
        """Until nothing moves any more."""
        moved = True
        while moved:
            self.reactor.turn()
            moved = False
            for one, other in (self.sides, reversed(self.sides)):
                if other.transport.reading and (data := one.transport.take()):
                    moved = True
                    other.bridge.received(data)

    def test_bytes(self) -> None:
        """What one program writes the other reads, both ways."""
        one, other = (side.program for side in self.sides)
        for data in (b"hello", bytes(100_000)):
            one.send(data)
            other.send(data[::-1])
            self.pump()
            self.assertEqual(received(other), (data, "open"))
            self.assertEqual(received(one), (data[::-1], "open"))

    def test_half_close(self) -> None:
        """An end of one direction leaves the other; the end of both closes all in order."""
        for one, other in (self.sides, reversed(self.sides)):
            one.program.send(b"last")
            one.program.shutdown(1)
            self.pump()
            self.assertEqual(received(other.program), (b"last", "ended"))
        for side in self.sides:
            self.assertTrue(side.transport.closed)
            self.assertFalse(side.program.broken)
            side.bridge.lost()
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertFalse(self.reactor.readers | self.reactor.writers)

    def test_reset(self) -> None:
        """A reset on one side is one on the other, whichever it is."""
        for one, other in (self.sides, reversed([self.side(client=True), self.side()])):
            self.sides = [one, other]
            one.program.send(b"half")
            reset(one.program)
            self.pump()
            self.assertEqual(received(other.program), (b"half", "broken"))
            self.assertTrue(one.transport.closed and other.transport.closed)

    def test_back_pressure(self) -> None:
        """A program that does not read stops the WebSocket; nothing is lost when it does."""
        one, other = self.sides
        sent, more = b"", bytes(range(256)) * 256
        while other.transport.reading:
            try:
                sent += more[: one.program.send(more)]
            except BlockingIOError:
                self.fail("the other side reads without end")
            self.reactor.turn()
            other.bridge.received(one.transport.take())
        one.program.shutdown(1)
        got, state = b"", "open"
        while state == "open":
            self.pump()
            data, state = received(other.program)
            got += data
        self.assertEqual((got, state), (sent, "ended"))
        self.assertTrue(other.transport.reading)


class OneBridgeTests(BridgeTestCase):
    """A server's, whose client is the test."""

    def setUp(self) -> None:
        super().setUp()
        self.it = self.side()

    def say(self, opcode: Opcode, payload: bytes = b"") -> None:
        self.it.bridge.received(websocket.frame(opcode, payload, masked=True))

    def heard(self) -> list[Event]:
        return list(FrameReader(masked=False).feed(self.it.transport.take()))

    def assert_broken(self, code: CloseCode) -> None:
        """It has said so, and the program knows."""
        self.assertEqual(self.heard()[-1:], [Close(code)])
        self.assertTrue(self.it.transport.closed)
        self.assertEqual(received(self.it.program)[1], "broken")

    def test_lost(self) -> None:
        """A connection that ends without a word is a stream that broke."""
        self.say(Opcode.BINARY, b"half")
        self.it.bridge.lost()
        self.assertEqual(received(self.it.program), (b"half", "broken"))

    def test_closed_early(self) -> None:
        """So is a WebSocket that is closed before both sides have said their last."""
        self.say(Opcode.BINARY)
        self.it.bridge.received(websocket.close_frame(CloseCode.NORMAL, masked=True))
        self.assert_broken(CloseCode.NORMAL)
        self.say(Opcode.BINARY, b"ignored")

    def test_closed_while_full(self) -> None:
        """Bytes that the program has not taken yet when all is said are not lost."""
        self.it.program.shutdown(1)
        self.reactor.turn()
        large = bytes(2 * MIB)
        self.say(Opcode.BINARY, large)
        self.say(Opcode.BINARY)
        self.it.bridge.received(websocket.close_frame(CloseCode.NORMAL, masked=True))
        self.it.bridge.lost()
        got, state = b"", "open"
        while state == "open":
            data, state = received(self.it.program)
            got += data
            self.reactor.turn()
        self.assertEqual((len(got), state), (len(large), "ended"))

    def test_paused(self) -> None:
        """A client that does not read stops the program."""
        self.it.transport.producer.pauseProducing()
        self.it.program.send(b"data")
        self.reactor.turn()
        self.assertEqual(self.heard(), [])
        self.it.transport.producer.resumeProducing()
        self.reactor.turn()
        self.assertEqual(self.heard(), [Data(b"data")])

    def test_ping(self) -> None:
        """A ping is answered; of those that come while the client does not read, the last."""
        self.say(Opcode.PING, b"1")
        self.say(Opcode.PONG)
        self.assertEqual(self.heard(), [Pong()])
        producer = self.it.transport.producer
        producer.pauseProducing()
        for payload in (b"2", b"3"):
            self.say(Opcode.PING, payload)
        self.assertEqual(self.it.transport.sent, b"")
        producer.resumeProducing()
        self.assertEqual(self.it.transport.take(), websocket.frame(Opcode.PONG, b"3"))

    def test_flood(self) -> None:
        """Frames that carry nothing are taken as often as anybody needs them, and no more."""
        for _ in range(3):
            for _ in range(MAX_IDLE_FRAMES):
                self.say(Opcode.PING)
            self.reactor.advance(1)
        self.assertFalse(self.it.transport.closed)
        for _ in range(MAX_IDLE_FRAMES + 1):
            self.say(Opcode.PONG)
        self.assert_broken(CloseCode.POLICY)

    def test_against_the_rules(self) -> None:
        """What breaks the protocol breaks the stream, behind what came before in order."""
        good = websocket.frame(Opcode.BINARY, b"good", masked=True)
        self.it.bridge.received(good + b"\xff\xff")
        self.assertEqual(self.it.program.recv(9), b"good")
        self.assert_broken(CloseCode.PROTOCOL)
        for what in (b"", b"more"):
            self.it = self.side()
            self.say(Opcode.BINARY)
            self.say(Opcode.BINARY, what)
            self.assertEqual(self.heard(), [Close(CloseCode.PROTOCOL)])

    def test_nobody_takes(self) -> None:
        """Bytes for a program that is gone break the stream."""
        self.it.program.close()
        self.say(Opcode.BINARY, b"x")
        self.assertEqual(self.heard(), [Close(CloseCode.BROKEN)])

    def test_broken_under_the_reactor(self) -> None:
        """The reactor may see it first."""
        self.it.bridge.connectionLost(Failure(Exception()))
        self.assert_broken(CloseCode.BROKEN)

    def test_no_last_word(self) -> None:
        """A client that has nothing to say, and does not say so, is not waited for for ever."""
        self.it.program.close()
        self.reactor.turn()
        self.assertEqual(self.heard(), [LastMessage()])
        self.reactor.advance(LOOK_INTERVAL)
        self.reactor.advance(LOOK_INTERVAL)
        self.assertEqual(self.heard(), [Close(CloseCode.BROKEN)])

    def test_half_closed_is_not_over(self) -> None:
        """A program that has said its last may listen as long as it likes."""
        self.it.program.shutdown(1)
        self.reactor.turn()
        self.reactor.pump([LOOK_INTERVAL] * 10)
        self.say(Opcode.BINARY, b"late")
        self.assertEqual(received(self.it.program), (b"late", "open"))

    def test_broken_while_paused(self) -> None:
        """A reset is found while the client does not read, and it does not wait for that."""
        self.it.transport.producer.pauseProducing()
        reset(self.it.program)
        self.reactor.advance(LOOK_INTERVAL)
        self.assertTrue(self.it.transport.closed)
        self.reactor.advance(CLOSE_TIMEOUT)
        self.assertTrue(self.it.transport.aborted)

    def test_news_of_yesterday(self) -> None:
        """What the reactor says after it was told to look no more is ignored."""
        self.it.transport.producer.pauseProducing()
        self.it.program.send(b"x")
        self.it.bridge.doRead()
        self.it.bridge.doWrite()
        self.assertEqual(self.heard(), [])
        self.it.transport.producer.stopProducing()
        self.assertGreater(self.it.bridge.fileno(), 0)
        self.assertEqual(self.it.bridge.logPrefix(), "websocket")
