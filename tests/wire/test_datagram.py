"""Tests of L{relaytun.wire.datagram}."""

from __future__ import annotations

import contextlib

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire import datagram
from relaytun.wire.datagram import (
    BIND_SIZE,
    HEADER,
    MAGIC,
    SMALLEST_PROBE,
    Bind,
    Control,
    Kind,
    decode_bind,
    decode_control,
    encode_bind,
    encode_control,
    may_hold_bind,
    session_of_run,
    split,
)
from relaytun.wire.errors import WireError
from relaytun.wire.preamble import Role

KEY = bytes(range(32))
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)


def packet(session: int, data: bytes) -> bytes:
    return HEADER.pack(session, len(data)) + data


class BindTests(SynchronousTestCase):
    @given(
        U32, st.sampled_from(Role), st.sampled_from(Kind), U64, st.binary(min_size=16, max_size=16)
    )
    def test_round_trip(
        self, session: int, role: Role, kind: Kind, counter: int, cookie: bytes
    ) -> None:
        """What is encoded is decoded, and authentic with the right key only."""
        data = encode_bind(KEY, session, role, kind, counter, cookie)
        self.assertEqual(len(data), BIND_SIZE)
        bind = decode_bind(data)
        self.assertEqual(
            (bind.session, bind.role, bind.kind, bind.counter, bind.cookie),
            (session, role, kind, counter, cookie),
        )
        self.assertTrue(bind.is_authentic(KEY))
        self.assertFalse(bind.is_authentic(bytes(32)))

    @given(st.integers(0, BIND_SIZE - 1), st.integers(1, 255))
    def test_every_byte_counts(self, place: int, change: int) -> None:
        """No byte of a bind packet can be changed unnoticed."""
        data = bytearray(encode_bind(KEY, 7, Role.VISITOR, Kind.ASK, 1))
        data[place] ^= change
        try:
            bind = decode_bind(bytes(data))
        except WireError:
            return
        self.assertFalse(bind.is_authentic(KEY))

    @given(st.one_of(st.binary(max_size=80), st.binary(min_size=BIND_SIZE, max_size=BIND_SIZE)))
    def test_anything(self, data: bytes) -> None:
        """Any bytes are a bind packet or a WireError."""
        with contextlib.suppress(WireError):
            self.assertIsInstance(decode_bind(memoryview(data)), Bind)

    def test_malformed(self) -> None:
        """Wrong lengths, magic, roles, kinds and reserved bytes are refused."""
        good = encode_bind(KEY, 7, Role.VISITOR, Kind.ASK, 1)
        bad = [good[:-1], good + b"x"]
        for place, value in ((5, 9), (6, 0), (10, 3), (11, 3), (12, 1), (13, 1)):
            changed = bytearray(good)
            changed[place] = value
            bad.append(bytes(changed))
        for data in bad:
            with self.assertRaises(WireError):
                decode_bind(data)


class RunTests(SynchronousTestCase):
    @given(U32, st.integers(0, 40), st.integers(1, 6), st.integers(0, 40))
    def test_agreeing(self, session: int, size: int, count: int, rest: int) -> None:
        """A run whose packets all name one session, with their right lengths, is that session's."""
        run = packet(session, bytes(size)) * count
        if rest < size:
            run += packet(session, bytes(rest))
        self.assertEqual(session_of_run(memoryview(run), size + HEADER.size), session)

    @given(st.integers(0, 4), st.integers(0, 5), st.integers(1, 255), st.integers(0, 6))
    def test_one_that_differs(self, which: int, place: int, change: int, rest: int) -> None:
        """One packet with another header, wherever in the run, spoils it."""
        run = bytearray(packet(5, bytes(10)) * 4 + packet(5, bytes(rest)))
        run[which * 16 + place] ^= change
        with self.assertRaises(WireError):
            session_of_run(memoryview(run), 16)

    @given(st.binary(max_size=60), st.integers(0, 70))
    def test_anything(self, data: bytes, size: int) -> None:
        """Any bytes are a run or a WireError, and what passes agrees packet by packet."""
        try:
            session = session_of_run(memoryview(data), size)
        except WireError:
            return
        for each in split(memoryview(data), size):
            self.assertEqual(HEADER.unpack_from(each), (session, len(each) - HEADER.size))

    def test_last_too_short(self) -> None:
        """A last packet that is shorter than a header spoils the run."""
        with self.assertRaises(WireError):
            session_of_run(memoryview(packet(5, bytes(10)) + bytes(5)), 16)

    @given(st.binary(max_size=50), st.integers(1, 60))
    def test_split(self, data: bytes, size: int) -> None:
        """The datagrams of a run are all of it; only the last is shorter."""
        parts = [bytes(part) for part in split(memoryview(data), size)]
        self.assertEqual(b"".join(parts), data)
        self.assertTrue(all(len(part) == size for part in parts[:-1]))

    def test_split_empty(self) -> None:
        """A run of size 0 is one empty datagram."""
        self.assertEqual(list(split(memoryview(b""), 0)), [b""])

    @given(st.integers(0, 3), st.integers(20, 80))
    def test_bind_is_seen(self, before: int, size: int) -> None:
        """A bind packet between or behind data is not overlooked."""
        bind = encode_bind(KEY, 5, Role.VISITOR, Kind.ASK, 1)
        if size <= BIND_SIZE:
            size = BIND_SIZE
            run = packet(5, bytes(size - 6)) * before + bind + packet(5, bytes(size - 6))
        else:
            run = packet(5, bytes(size - 6)) * before + bind
            size = size if before else len(run)
        self.assertTrue(may_hold_bind(memoryview(run), size))

    def test_no_bind(self) -> None:
        """Data of whatever size is not taken for a bind packet."""
        for size in (10, BIND_SIZE, 100):
            run = packet(5, bytes(size - 6)) * 3
            self.assertFalse(may_hold_bind(memoryview(run), size))
        short = packet(5, bytes(94)) + packet(5, bytes(BIND_SIZE - 6))
        self.assertFalse(may_hold_bind(memoryview(short), 100))


class ControlTests(SynchronousTestCase):
    @given(st.sampled_from(Control), U64, st.integers(0, 300))
    def test_round_trip(self, control: Control, token: int, size: int) -> None:
        """Whatever it is padded to, what it says is the same."""
        data = encode_control(control, token, size)
        self.assertEqual(decode_control(data), (control, token))
        sealed = datagram.OVERHEAD + len(data)
        self.assertEqual(sealed, max(size, SMALLEST_PROBE))

    @given(st.binary(max_size=20))
    def test_anything(self, data: bytes) -> None:
        """Any bytes are a control datagram or a WireError."""
        try:
            control, _ = decode_control(data)
        except WireError:
            return
        self.assertEqual(control, data[0])

    def test_sealed_data_is_no_bind(self) -> None:
        """The magic is no sequence number that anybody reaches."""
        sequence = int.from_bytes(MAGIC + bytes(4), "big") % 2**datagram.EPOCH_SHIFT
        self.assertGreater(sequence, 2**45)
