"""Tests of L{relaytun.nat.quic}."""

from __future__ import annotations

import hashlib
import os
import random
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from relaytun.link.channel import Channel
from relaytun.link.handshake import Peer
from relaytun.nat import quic
from relaytun.wire.frames import Kind, header

from ..link.sockets import PROVIDER, TLS, VISITOR, Owner

if quic.AVAILABLE:
    from aioquic.quic.packet_builder import QuicPacketBuilderStop

    from relaytun.nat import quicconnection
    from relaytun.nat.quic import QuicError

from .quicnet import Pipes, Wire

SIZE = 4 * 1024 * 1024


class QuicTests(SynchronousTestCase):
    """Bytes over a path that loses, delays and reorders."""

    if not quic.AVAILABLE:
        skip = quic.INSTALL

    def setUp(self) -> None:
        self.wire = Wire()

    def pipes(self, **more: object) -> Pipes:
        """Two of them, connected or about to be."""
        pipes = Pipes(self.wire, **more)  # type: ignore[arg-type]
        self.addCleanup(self.check_clean, pipes)
        return pipes

    def check_clean(self, pipes: Pipes) -> None:
        """A pipe that is closed leaves no timer and is not watched."""
        pipes.close()
        self.assertEqual(self.wire.clock.getDelayedCalls(), [])
        self.assertEqual((self.wire.readers, self.wire.writers), (set(), set()))
        for side in (0, 1):
            self.assertIn((side, "connected"), pipes.results)
            self.assertIn((side, "closed"), pipes.results)

    def connected(self, **more: object) -> Pipes:
        """Two of them, connected."""
        pipes = self.pipes(**more)
        self.assertTrue(pipes.run(5, lambda: len(pipes.results) == 2))
        self.assertEqual(pipes.results, {(0, "connected"): None, (1, "connected"): None})
        return pipes

    def both_ways(self, pipes: Pipes, seconds: float) -> None:
        """4 MiB each way arrive as they are, and the end of them as an end."""
        data = random.Random(7).randbytes(2 * SIZE)
        pipes.client.to_send, pipes.server.to_send = data[:SIZE], data[SIZE:]
        pipes.client.then_end = pipes.server.then_end = True
        pipes.run(seconds, lambda: len(pipes.results) == 4)
        self.assertEqual(pipes.server.digest, hashlib.sha256(data[:SIZE]).hexdigest())
        self.assertEqual(pipes.client.digest, hashlib.sha256(data[SIZE:]).hexdigest())
        for program in pipes.programs:
            self.assertEqual((program.ended, program.broken), (True, False))
        self.assertEqual(pipes.results[0, "closed"], None)
        self.assertEqual(pipes.results[1, "closed"], None)

    def test_lossy(self) -> None:
        """What is written arrives as it is, each way, though one datagram in 100 is lost."""
        self.wire.loss = 0.01
        self.wire.rate = 4e6
        self.both_ways(self.pipes(), 5)

    def test_reordered(self) -> None:
        """As it does when datagrams overtake each other."""
        self.wire.jitter = 0.005
        self.both_ways(self.pipes(), 10)

    def test_size(self) -> None:
        """Datagrams are as large as the path takes, and no larger, and nothing gets lost by it."""
        for largest, used in ((1500, 1452), (1400, 1200)):
            self.wire.largest = largest
            pipes = self.connected()
            pipes.run(0.1)
            self.wire.longest = 0
            pipes.client.to_send = pipes.server.to_send = bytes(100_000)
            pipes.run(1)
            self.assertEqual(self.wire.longest, used)
            self.assertEqual((pipes.client.count, pipes.server.count), (100_000, 100_000))
            pipes.close()

    def test_half_close(self) -> None:
        """When one side has ended, the other one can still speak."""
        pipes = self.connected()
        pipes.client.to_send, pipes.client.then_end = b"question", True
        self.assertTrue(pipes.run(1, lambda: pipes.server.ended))
        self.assertFalse(pipes.server.broken)
        self.assertFalse(pipes.client.ended)
        pipes.server.to_send, pipes.server.then_end = b"answer" * 1000, True
        self.assertTrue(pipes.run(1, lambda: len(pipes.results) == 4))
        self.assertEqual((pipes.client.count, pipes.client.broken), (6000, False))

    def test_nothing(self) -> None:
        """A stream without a byte has an end, too."""
        pipes = self.connected()
        pipes.server.sock.close()
        pipes.client.sock.shutdown(1)
        self.assertTrue(pipes.run(1, lambda: len(pipes.results) == 4))
        self.assertEqual((pipes.client.ended, pipes.client.broken), (True, False))

    def test_reset(self) -> None:
        """A program whose connection breaks is seen as broken at the other side, from either."""
        for side in (0, 1):
            pipes = self.connected()
            pipes.programs[side].sock.tell_broken()
            pipes.programs[side].sock.close()
            other = pipes.programs[1 - side]
            self.assertTrue(pipes.run(0.03, lambda other=other: other.ended))
            self.assertTrue(other.broken)
            self.assertTrue(pipes.run(1, lambda pipes=pipes: len(pipes.results) == 4))
            pipes.close()

    def test_close(self) -> None:
        """A pipe that is closed while bytes are on their way breaks both ends."""
        pipes = self.connected()
        pipes.client.to_send = os.urandom(SIZE)
        pipes.run(0.1)
        pipes.pipes[0].close()
        pipes.pipes[0].close()
        pipes.run(1)
        self.assertEqual([program.broken for program in pipes.programs], [True, True])
        self.assertLess(pipes.server.count, SIZE)

    def test_limit_without_room(self) -> None:
        """A limit for which a packet has no room is told with a later one."""
        pipes = self.connected()
        pipes.client.to_send = b"x"
        pipes.run(1, lambda: False)
        connection = pipes.pipes[1]._connection
        assert connection is not None
        stream = connection._streams[2]
        connection.taken += quicconnection.WINDOW
        builder = mock.Mock()
        builder.start_frame.side_effect = [QuicPacketBuilderStop, mock.Mock()]
        with self.assertRaises(QuicPacketBuilderStop):
            connection._write_stream_limits(builder, mock.Mock(), stream)
        connection._write_stream_limits(builder, mock.Mock(), stream)
        self.assertEqual(builder.start_frame.call_count, 2)
        self.assertEqual(stream.max_stream_data_local, connection.taken + quicconnection.WINDOW)

    def test_slow_reader(self) -> None:
        """What nobody reads stays with the sender, but for one window, and comes later."""
        window = 1024 * 1024
        self.patch(quicconnection, "WINDOW", window)
        pipes = self.connected()
        data = os.urandom(3 * window)
        pipes.server.reads = False
        pipes.client.to_send, pipes.client.then_end = data, True
        pipes.run(10)
        moved = len(data) - len(pipes.client.to_send)
        self.assertGreaterEqual(moved, window)
        self.assertLess(moved, 2 * window)
        waiting = sum(map(len, pipes.pipes[1]._end.pending))
        self.assertLessEqual(waiting, window)
        sent = self.wire.sent
        pipes.run(5)
        self.assertLess(self.wire.sent - sent, 50)
        pipes.server.reads = True
        self.assertTrue(pipes.run(10, lambda: pipes.server.ended))
        self.assertEqual(pipes.server.digest, hashlib.sha256(data).hexdigest())

    def test_idle(self) -> None:
        """A path that falls silent breaks both ends after a while."""
        pipes = self.connected(idle_timeout=5.0)
        self.wire.loss = 1.0
        pipes.client.to_send = b"anybody?"
        pipes.run(4)
        self.assertEqual([program.ended for program in pipes.programs], [False, False])
        pipes.run(8)
        self.assertEqual([program.broken for program in pipes.programs], [True, True])
        self.assertEqual(len(pipes.results), 4)

    def test_nobody(self) -> None:
        """A handshake that nobody answers fails in time."""
        self.wire.loss = 1.0
        pipes = self.pipes()
        pipes.run(quic.HANDSHAKE_TIMEOUT + 1)
        for side in (0, 1):
            pipes.results[side, "connected"].trap(QuicError)  # type: ignore[attr-defined]
            self.assertTrue(pipes.programs[side].broken)

    def test_stranger(self) -> None:
        """Who does not know the key has no pipe, on either side."""
        pipes = self.pipes(server_key=bytes(32))
        pipes.run(quic.HANDSHAKE_TIMEOUT + 1)
        for side in (0, 1):
            pipes.results[side, "connected"].trap(QuicError)  # type: ignore[attr-defined]

    def test_stranger_first(self) -> None:
        """A stranger whose handshake comes first gets no answer, and does not cost the real one."""
        strangers = Wire()
        greetings: list[bytes] = []
        stranger = Pipes(strangers, client_key=bytes(32))
        stranger.send = lambda side, datagram: greetings.append(datagram)  # type: ignore[method-assign]
        stranger.run(0)
        self.assertEqual(len(greetings), 1)
        stranger.close()
        pipes = self.pipes()
        pipes.pipes[1].received(greetings[0])
        self.wire.clock.advance(0)
        self.assertEqual(self.wire.sent, 1)  # That is the client's.
        self.assertTrue(pipes.run(1, lambda: len(pipes.results) == 2))
        self.assertEqual(pipes.results, {(0, "connected"): None, (1, "connected"): None})

    def test_cancelled(self) -> None:
        """One that is not wanted any more can be cancelled during the handshake."""
        pipes = self.pipes()
        pipes.pipes[0].connected.cancel()
        pipes.results[0, "connected"].trap(QuicError)  # type: ignore[attr-defined]
        self.assertTrue(pipes.programs[0].sock.recv(1) == b"")

    def test_no_library(self) -> None:
        """Without the library there is no pipe, and what is said tells how to get one."""
        self.patch(quic, "AVAILABLE", False)
        with self.assertRaisesRegex(QuicError, "pip install"):
            Pipes(self.wire)

    def test_link(self) -> None:
        """A link's own TLS and its frames pass, as through any other socket."""
        pipes = self.connected()
        channels = []
        for program, visitor, peer in zip(
            pipes.programs, (True, False), (PROVIDER, VISITOR), strict=True
        ):
            identity = VISITOR if visitor else PROVIDER
            tls = TLS[identity.fingerprint].connection(visitor, Peer(peer.fingerprint))
            program.reads = False
            channel = Channel(self.wire.clock, program.sock, tls)  # type: ignore[arg-type]
            channel.owner = Owner()  # type: ignore[assignment]
            channels.append(channel)
            channel.start()
        self.assertTrue(pipes.run(2, lambda: not any(one.handshaking for one in channels)))
        for channel in channels:
            self.assertEqual(self.successResultOf(channel.secured), None)
        payload = os.urandom(60_000)
        channels[0].send(header(Kind.DATA, 1, length=len(payload)) + payload)
        owner: Owner = channels[1].owner  # type: ignore[assignment]
        self.assertTrue(pipes.run(2, lambda: len(owner.payload) == 60_000))
        self.assertEqual(owner.payload, payload)
        for channel in channels:
            channel.close()

    def test_garbage(self) -> None:
        """What is no QUIC, or of another version, does nothing: before, during, after."""
        noise = random.Random(3)
        known = b"\xc0\x00\x00\x00\x01"
        garbage = [b"", b"\x00", b"\x40", known, b"\xc0\xfa\xfa\xfa\xfa" + noise.randbytes(1200)]
        garbage += [noise.randbytes(noise.randrange(1, 1400)) for _ in range(50)]
        garbage += [known + noise.randbytes(1300) for _ in range(50)]
        # A version negotiation, and an Initial that nobody can decrypt.
        garbage.append(b"\x80\x00\x00\x00\x00\x08" + bytes(8) + b"\x08" + bytes(8) + b"\xfa" * 4)
        pipes = self.pipes()
        for datagram in garbage:
            pipes.pipes[0].received(datagram)
            pipes.pipes[1].received(datagram)
        self.assertTrue(pipes.run(5, lambda: len(pipes.results) == 2))
        for datagram in garbage:
            pipes.pipes[0].received(datagram)
            pipes.pipes[1].received(datagram)
        pipes.client.to_send = b"still here"
        pipes.run(1)
        self.assertEqual(pipes.server.count, 10)
