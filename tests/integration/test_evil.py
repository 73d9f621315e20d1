"""A relay that lies: correct bytes, or an error for both programs, and never anything else."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable

from relaytun.wire import frames
from relaytun.wire.frames import Kind

from . import evil
from .evil import Deed, EvilTunnel, Impostor, Leg
from .links import MIB, QUICK, OwnTunnelTestCase, Stream, Traffic, Tunnel, exchange
from .processes import PATIENCE, eventually, receive_exactly, side_by_side

SIZE = 4 * MIB
#: More bytes than a handshake has, each way.
HANDSHAKE = 2000
DEEDS = {
    "flip": evil.flip,
    "drop": evil.drop,
    "repeat": evil.repeat,
    "insert": evil.insert,
    "swap": evil.swap,
    "end": evil.end,
}


class EvilTestCase(OwnTunnelTestCase):
    client = "resume_timeout = 3s"
    tunnel: EvilTunnel

    def make_tunnel(self) -> Tunnel:
        return EvilTunnel(f"{self.client}\n{QUICK}")

    def setUp(self) -> None:
        super().setUp()
        self.relay = self.tunnel.relay
        self.addCleanup(self.relay.honest)


class TamperedForAWhile(EvilTestCase):
    client = "resume_timeout = 30s"

    def test_each(self) -> None:
        """The stream outlives it, whatever it is."""
        names = "in_the_handshake", "in_the_transfer", "first_frames"
        side_by_side(*map(TamperedForAWhile, names))

    def check(self, names: Iterable[str], place: int) -> None:
        """With each deed done to a channel of its own, a transfer arrives as it was sent."""
        left = list(names)

        def deed(leg: Leg, down: bool, start: int, data: bytes) -> bytes:
            if left and start <= place < start + len(data):
                return DEEDS[left.pop()](data, place - start)
            return data

        with self.tunnel.stream() as stream:
            exchange(*stream)
            self.relay.deed = deed
            self.relay.cut()
            traffic = Traffic(stream, SIZE)
            eventually(lambda: not left, lambda: f"not done: {left}")
            traffic.finish()
        self.assert_nothing_left()

    def in_the_handshake(self) -> None:
        """Whatever happens in the handshakes, the stream goes on over a later channel."""
        # A gap would wait for the handshake's deadline.
        self.check(DEEDS.keys() - {"drop"}, 700)

    def in_the_transfer(self) -> None:
        """Whatever happens in the middle, the stream goes on over the next channel, unharmed."""
        self.check(DEEDS, MIB + 4321)

    def first_frames(self) -> None:
        """As long as no frame comes through nothing arrives, and then all of it does."""

        def deed(leg: Leg, down: bool, start: int, data: bytes) -> bytes:
            return evil.flip(data, 0) if start > HANDSHAKE else data

        with self.tunnel.stream() as (near, far):
            exchange(near, far)
            self.relay.deeds, self.relay.deed = 0, deed
            self.relay.cut()
            near.sendall(b"late, but as it was")
            eventually(lambda: self.relay.deeds > 5, lambda: "no channel is tried any more")
            self.relay.honest()
            self.assertEqual(receive_exactly(far, 19), b"late, but as it was")
            exchange(far, near)


class TamperedForEver(EvilTestCase):
    def check(self, deed: Deed) -> None:
        """Both programs get an error; what they got before is right."""
        with self.tunnel.stream() as stream:
            exchange(*stream)
            self.relay.deed = deed
            self.relay.cut()
            stream.near.sendall(b"never to arrive in another form")
            self.assert_right_or_reset(stream, b"never to arrive in another form")
        self.relay.honest()
        self.tunnel.await_link()

    def assert_right_or_reset(self, stream: Stream, sent: bytes) -> None:
        """All of it may arrive, and only that; then the far and the near end are reset."""
        received = bytearray()
        with self.assertRaises(ConnectionError, msg="it ended in order"):
            while data := stream.far.recv(MIB):
                received += data
        self.assertTrue(sent.startswith(bytes(received)), received)
        self.assert_reset(stream.near)

    def test_each(self) -> None:
        """Both programs are reset in time."""
        names = "flipped_handshake", "dropped_handshake", "ended_handshake", "flipped_frames"
        side_by_side(*map(TamperedForEver, names))

    def flipped_handshake(self) -> None:
        """No handshake comes through: a bit is another."""
        self.check(evil.at(300, evil.flip))

    def dropped_handshake(self) -> None:
        """No handshake comes through: a few bytes are missing."""
        self.check(evil.at(300, evil.drop))

    def ended_handshake(self) -> None:
        """No handshake comes through: it ends too soon."""
        self.check(evil.at(300, evil.end))

    def flipped_frames(self) -> None:
        """Channels that begin, and let nothing come through, end in an error as well."""

        def deed(leg: Leg, down: bool, start: int, data: bytes) -> bytes:
            return evil.flip(data, 0) if start > HANDSHAKE else data

        self.check(deed)


class InPlaceOfTheRelay(EvilTestCase):
    """Legs end at the evil relay: it talks to the clients by itself."""

    def setUp(self) -> None:
        super().setUp()
        self.legs: list[Leg] = []
        self.changed = threading.Condition()

    def test_each(self) -> None:
        """It learns nothing, and nobody takes it for another."""
        side_by_side(*map(InPlaceOfTheRelay, ("impostor", "plain", "replayed")))

    def take_all(self) -> None:
        """From now on, no leg gets to the real relay."""

        def take(leg: Leg) -> bool:
            with self.changed:
                self.legs.append(leg)
                self.changed.notify_all()
            return True

        self.relay.takes = take
        self.relay.cut()

    def next_leg(self, visitor: bool) -> Leg:
        """One of the visitor's, or of the provider's."""

        def mine() -> list[Leg]:
            return [leg for leg in self.legs if leg.visitor == visitor]

        with self.changed:
            self.assertTrue(self.changed.wait_for(mine, PATIENCE), "no leg comes")
            leg = mine()[0]
            self.legs.remove(leg)
        return leg

    def impostor(self) -> None:
        """TLS that ends in the middle is refused by both sides, who say so; the streams break."""
        impostor = Impostor(self.folder)
        with self.tunnel.stream() as (near, far):
            self.take_all()
            for visitor in (True, False):
                with contextlib.suppress(OSError):
                    impostor.answer(self.next_leg(visitor)).recv(1)
            self.tunnel.visitor.wait_for("provider is not the one whom the server announced")
            self.tunnel.provider.wait_for("visitor is not the one whom the server announced")
            for connection in (near, far):
                self.assert_reset(connection)
        self.relay.honest()
        self.tunnel.await_link()

    def plain(self) -> None:
        """Frames without TLS are nothing, to both: no byte gets to a program, none comes out."""
        with self.tunnel.stream() as (near, far):
            self.take_all()
            near.sendall(b"a secret in flight")
            leg = self.next_leg(visitor=True)
            leg.client.sendall(
                b"+"
                + frames.header(Kind.WELCOME, 0, 1)
                + frames.header(Kind.RESUME)
                + data_frame(1, 0, b"forged")
            )
            said = everything(leg)
            self.assertNotIn(b"secret", said)
            leg = self.next_leg(visitor=False)
            leg.client.sendall(
                b"+"
                + frames.hello(0, 1, bytes(16), "it", True)
                + frames.header(Kind.OPEN, 1)
                + data_frame(1, 0, b"forged")
            )
            everything(leg)
            for connection in (near, far):
                self.assert_reset(connection)
        self.relay.honest()
        self.tunnel.await_link()

    def replayed(self) -> None:
        """A channel that was recorded opens no stream when it is played again."""
        recorded: list[bytes] = []

        def record(leg: Leg, down: bool, start: int, data: bytes) -> bytes:
            if not down:
                recorded.append(data)
            return data

        with self.tunnel.stream() as (near, far):
            self.relay.deed = record
            self.relay.cut()
            exchange(near, far, b"once and not again")
            self.take_all()
            leg = self.next_leg(visitor=False)
            leg.client.sendall(b"+" + b"".join(recorded))
            everything(leg)
            self.assertFalse(self.tunnel.service.waits())
            for connection in (near, far):
                self.assert_reset(connection)
        self.relay.honest()
        self.tunnel.await_link()


def data_frame(stream: int, offset: int, data: bytes) -> bytes:
    """A DATA frame."""
    return frames.HEADER.pack(Kind.DATA, 0, 0, len(data), stream, offset) + data


def everything(leg: Leg) -> bytes:
    """What a client says to its end."""
    parts = []
    leg.client.settimeout(PATIENCE)
    with contextlib.suppress(ConnectionError):
        while data := leg.client.recv(65536):
            parts.append(data)
    leg.close()
    return b"".join(parts)
