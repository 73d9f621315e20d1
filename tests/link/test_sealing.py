"""Tests of L{relaytun.link.sealing}."""

from __future__ import annotations

import random
from unittest import mock

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.link import sealing
from relaytun.link.sealing import SECRET_SIZE, Sealing
from relaytun.wire.datagram import OVERHEAD, SEALED_HEADER, session_of_run
from relaytun.wire.preamble import Role

OTHER = bytes(reversed(range(SECRET_SIZE)))
SECRET = bytes(range(SECRET_SIZE))


def pair(epoch: int = 1) -> tuple[Sealing, Sealing]:
    """A visitor's and a provider's sealing that have the same secret."""
    visitor, provider = Sealing(Role.VISITOR), Sealing(Role.PROVIDER)
    for side in (visitor, provider):
        side.renew(epoch, SECRET)
    return visitor, provider


def opened(side: Sealing, packet: bytes) -> list[tuple[int, bytes]]:
    return side.open(memoryview(packet), len(packet))


class SealingTests(SynchronousTestCase):
    @given(
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.integers(0, 60),
        st.integers(1, 9),
        st.integers(0, 60),
    )
    def test_round_trip(self, session: int, flow: int, size: int, count: int, rest: int) -> None:
        """A run that is sealed is a run of that session, and opens to what it was."""
        visitor, provider = pair()
        datagrams = [random.randbytes(size) for _ in range(count)]
        if rest < size:
            datagrams.append(bytes(rest))
        for one, other in ((visitor, provider), (provider, visitor)):
            run = memoryview(b"".join(one.seal(session, flow, datagrams)))
            self.assertEqual(session_of_run(run, size + OVERHEAD), session)
            self.assertEqual(other.open(run, size + OVERHEAD), [(flow, each) for each in datagrams])
        self.assertEqual(visitor.rejected + provider.rejected, 0)

    @given(st.integers(6, 6 + 8 + 4 + 3 + 15), st.integers(1, 255))
    def test_altered(self, place: int, change: int) -> None:
        """A packet with any byte changed is dropped; the one itself is still good after that."""
        visitor, provider = pair()
        (packet,) = visitor.seal(1, 7, [b"abc"])
        altered = bytearray(packet)
        altered[place] ^= change
        self.assertEqual(opened(provider, bytes(altered)), [])
        self.assertEqual(provider.rejected, 1)
        self.assertEqual(opened(provider, packet), [(7, b"abc")])

    @given(st.binary(max_size=200), st.integers(1, 200))
    def test_anything(self, data: bytes, size: int) -> None:
        """Whatever comes in, nothing comes out but what the other side sealed."""
        _, provider = pair()
        self.assertEqual(provider.open(memoryview(data), size), [])
        self.assertEqual(provider.rejected, -(-len(data) // size))

    def test_replayed(self) -> None:
        """A packet is good once, also out of order, and in its own direction only."""
        visitor, provider = pair()
        packets = visitor.seal(1, 7, [b"a", b"b", b"c"])
        for packet in (packets[2], packets[0], packets[1]):
            self.assertEqual(len(opened(provider, packet)), 1)
        for packet in packets:
            self.assertEqual(opened(provider, packet), [])
            self.assertEqual(opened(visitor, packet), [])
        self.assertEqual((provider.rejected, visitor.rejected), (3, 3))

    def test_not_ready(self) -> None:
        """Before the first secret nothing is sealed and nothing opened."""
        side = Sealing(Role.VISITOR)
        self.assertFalse(side.ready)
        self.assertEqual(side.seal(1, 1, [b"x"]), [])
        self.assertEqual(side.open(memoryview(bytes(100)), 50), [])
        with self.assertRaises(ValueError):
            side.renew(1, b"short")

    def test_no_sequence_twice(self) -> None:
        """Being told the same secret again starts no sequence anew."""
        visitor, _ = pair()
        sequences = []
        for _ in range(3):
            for packet in visitor.seal(1, 7, [b"a", b"b"]):
                sequences.append(SEALED_HEADER.unpack_from(packet)[2])
            visitor.renew(1, SECRET)
        self.assertEqual(len(set(sequences)), 6)

    def test_epochs(self) -> None:
        """Data moves to a new secret when the other side has shown that it has it."""
        visitor, provider = pair(1)
        visitor.renew(2, OTHER)
        self.assertTrue(visitor.changing)
        (packet,) = visitor.seal(1, 7, [b"early"])
        self.assertEqual(opened(provider, packet), [(7, b"early")])
        (packet,) = visitor.seal(1, 0, [b"probe"], newest=True)
        self.assertEqual(opened(provider, packet), [])
        provider.renew(2, OTHER)
        (probe,) = provider.seal(1, 0, [b"probe"], newest=True)
        (late,) = provider.seal(1, 7, [b"late"])
        self.assertEqual(opened(visitor, probe), [(0, b"probe")])
        self.assertFalse(visitor.changing)
        self.assertEqual(opened(visitor, late), [(7, b"late")])
        (packet,) = visitor.seal(1, 7, [b"new"])
        self.assertEqual(SEALED_HEADER.unpack(packet[:14])[2] >> 48, 2)
        self.assertEqual(opened(provider, packet), [(7, b"new")])
        self.assertEqual(SEALED_HEADER.unpack(provider.seal(1, 7, [b""])[0][:14])[2] >> 48, 2)

    def test_old_epochs_end(self) -> None:
        """Two epochs are kept: the newest, and the one that was in use before it."""
        visitor, provider = pair(1)
        (old,) = visitor.seal(1, 7, [b"old"])
        for epoch in (2, 3):
            secret = bytes([epoch]) * SECRET_SIZE
            visitor.renew(epoch, secret)
            provider.renew(epoch, secret)
            (probe,) = visitor.seal(1, 0, [b""], newest=True)
            self.assertEqual(len(opened(provider, probe)), 1)
        self.assertEqual(opened(provider, old), [])

    def test_a_secret_that_never_reached_the_other_side(self) -> None:
        """Secrets that only one side has got do not push out the one that both have."""
        visitor, provider = pair(1)
        (probe,) = provider.seal(1, 0, [b""])
        opened(visitor, probe)
        for epoch in (2, 3, 4):
            visitor.renew(epoch, bytes([epoch]) * SECRET_SIZE)
        (packet,) = visitor.seal(1, 7, [b"works"])
        self.assertEqual(opened(provider, packet), [(7, b"works")])

    def test_phases(self) -> None:
        """A key serves a number of packets, then the next one does, and the first is forgotten."""
        with mock.patch.object(sealing, "PHASE_SHIFT", 2):
            visitor, provider = pair()
            packets = visitor.seal(1, 7, [bytes([n]) for n in range(23)])
            run = memoryview(b"".join(packets[:10] + packets[11:]))
            self.assertEqual(len(provider.open(run, len(packets[0]))), 22)
            self.assertEqual(opened(provider, packets[10]), [])
            epoch = provider._newest
            assert epoch is not None
            self.assertEqual(sorted(epoch.receiving._phases), [4, 5])
            (ahead,) = visitor.seal(1, 7, [b"x" * 5])[:1]
            self.assertEqual(len(opened(provider, ahead)), 1)

    def test_the_last_sequence(self) -> None:
        """When the numbers of an epoch are used up nothing more is sealed under it."""
        visitor, _ = pair()
        assert visitor._newest is not None
        visitor._newest.sequence = 2**48 - 1
        self.assertEqual(visitor.seal(1, 7, [b"", b""]), [])
        self.assertEqual(len(visitor.seal(1, 7, [b""])), 1)
        self.assertEqual(visitor.seal(1, 7, [b""]), [])
