"""
Datagrams, sealed by one client for the other.

Each channel of a link brings a fresh secret (its I{epoch}); from it come AES-256-GCM keys, one for
each direction and for each 2**23 packets, which is where RFC 9001 section 6.6 puts the limit for
one key.  The nonce is the packet's sequence number, which never repeats under one key, because
sequence numbers only rise within an epoch and no secret is taken twice.

What cannot be opened is counted and dropped: forged, replayed, of an epoch that is over.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ..wire.datagram import EPOCH_SHIFT, FLOW, HEADER, OVERHEAD, SEALED_HEADER
from ..wire.preamble import Role
from ..wire.replay import SequenceWindow

#: Bytes of a secret, and the label under which TLS exports it (RFC 8446 section 7.5).
SECRET_SIZE = 64
EXPORTER_LABEL = b"EXPORTER-relaytun-datagrams"

#: Packets under one key, as a power of two.
PHASE_SHIFT = 23
_KEY_SIZE, _IV_SIZE, _TAG_SIZE = 32, 12, 16
_SEQUENCES = 2**EPOCH_SHIFT
_SEALED = SEALED_HEADER.size
_SMALLEST = _SEALED + FLOW.size + _TAG_SIZE

#: How to decrypt, the IV, the replay window, and what to call for the first packet that is real.
_Opening: TypeAlias = tuple[
    Callable[[bytes, bytes, None], bytes],
    int,
    Callable[[int], bool],
    Callable[[int], None] | None,
]


class _Keys:
    """
    One direction of an epoch.

    @ivar latest: the highest phase of which there was a packet; keys are kept for this one and
        its neighbours.
    """

    __slots__ = ("_label", "_phases", "_secret", "latest")

    def __init__(self, secret: bytes, epoch: int, sender: Role) -> None:
        self.latest = 0
        self._secret = secret
        self._label = b"relaytun datagrams v1" + struct.pack("!BH", sender, epoch)
        self._phases: dict[int, tuple[AESGCM, int]] = {}

    def of(self, phase: int) -> tuple[AESGCM, int]:
        """The cipher and the IV, as a number."""
        found = self._phases.get(phase)
        if found is None:
            info = self._label + struct.pack("!Q", phase)
            expand = HKDFExpand(SHA256(), _KEY_SIZE + _IV_SIZE, info)
            made = expand.derive(self._secret)
            found = AESGCM(made[:_KEY_SIZE]), int.from_bytes(made[_KEY_SIZE:], "big")
            self._phases[phase] = found
        return found

    def reached(self, phase: int) -> None:
        """Forget what was before its predecessor."""
        self.latest = phase
        for old in [old for old in self._phases if old < phase - 1]:
            del self._phases[old]


class _Epoch:
    """
    @ivar confirmed: whether the other side is known to have the secret, too.
    @ivar sequence: of the next packet.
    """

    __slots__ = ("confirmed", "number", "receiving", "secret", "sending", "sequence", "window")

    def __init__(self, number: int, secret: bytes, role: Role) -> None:
        self.number = number
        self.secret = secret
        self.sending = _Keys(secret, number, role)
        self.receiving = _Keys(secret, number, role.other)
        self.sequence = 0
        self.window = SequenceWindow()
        self.confirmed = False

    def opened(self, phase: int) -> None:
        """A packet of C{phase} was real."""
        self.confirmed = True
        if phase > self.receiving.latest:
            self.receiving.reached(phase)


class Sealing:
    """
    Both directions of a link's datagrams.

    When the secret changes, data goes out under the one before until something has come in under
    the new one: the other side may get it a moment later.

    @ivar rejected: packets that could not be opened.
    """

    def __init__(self, role: Role) -> None:
        """@param role: which side this is."""
        self.rejected = 0
        self._role = role
        self._newest: _Epoch | None = None
        self._previous: _Epoch | None = None

    @property
    def ready(self) -> bool:
        """Whether there is a secret."""
        return self._newest is not None

    @property
    def changing(self) -> bool:
        """Whether there is a newer secret than the one that data goes out under."""
        return self._newest is not self._sending()

    def renew(self, epoch: int, secret: bytes) -> None:
        """
        The link has a new main channel.

        @param epoch: its generation; the lower 16 bits count.
        @param secret: its L{SECRET_SIZE} exported bytes.
        @raise ValueError: if there are fewer.
        """
        if len(secret) != SECRET_SIZE:
            raise ValueError(f"a secret has {SECRET_SIZE} bytes")
        if any(
            held is not None and held.secret == secret for held in (self._newest, self._previous)
        ):
            return  # Starting again would use its nonces again.
        self._previous = self._sending()
        self._newest = _Epoch(epoch % 2**16, secret, self._role)

    def seal(
        self, session: int, flow: int, datagrams: Sequence[bytes | memoryview], newest: bool = False
    ) -> list[bytes]:
        """
        @param session: what stands in the relay's header.
        @param newest: use the newest secret, whether or not the other side has shown that it has
            it: that is how it learns that this side has.
        @return: a packet for each datagram; none before the first secret.
        """
        epoch = self._newest if newest else self._sending()
        if epoch is None or epoch.sequence + len(datagrams) > _SEQUENCES:
            return []
        packets: list[bytes] = []
        append, pack, prefix = packets.append, SEALED_HEADER.pack, FLOW.pack(flow)
        base = epoch.number << EPOCH_SHIFT
        extra = OVERHEAD - HEADER.size
        sequence = epoch.sequence
        phase = boundary = -1
        for datagram in datagrams:
            if sequence >= boundary:
                phase = sequence >> PHASE_SHIFT
                boundary = (phase + 1) << PHASE_SHIFT
                cipher, iv = epoch.sending.of(phase)
                encrypt = cipher.encrypt
            append(
                pack(session, len(datagram) + extra, base | sequence)
                + encrypt((iv ^ sequence).to_bytes(_IV_SIZE, "big"), prefix + datagram, None)
            )
            sequence += 1
        epoch.sequence = sequence
        if phase > epoch.sending.latest:
            epoch.sending.reached(phase)
        return packets

    def open(self, run: memoryview, size: int) -> list[tuple[int, bytes]]:
        """
        @param run: packets, headers and all, whose headers are right.
        @param size: of each but the last.
        @return: flow and datagram of each one that is real and new.
        """
        opened: list[tuple[int, bytes]] = []
        whole = len(run) - len(run) % size
        for part, each in ((run[:whole], size), (run[whole:], len(run) - whole)):
            if each >= _SMALLEST:
                self._open(struct.iter_unpack(f"!6xQ{each - _SEALED}s", part), opened)
            elif each:
                self.rejected += len(part) // each
        return opened

    def _open(self, packets: Iterator[tuple[int, bytes]], opened: list[tuple[int, bytes]]) -> None:
        append, turn = opened.append, -1
        opening: _Opening | None = None
        for marked, body in packets:
            if marked >> PHASE_SHIFT != turn:
                turn = marked >> PHASE_SHIFT
                opening = self._opening(turn)
            if opening is None:
                self.rejected += 1
                continue
            sequence = marked & (_SEQUENCES - 1)
            decrypt, iv, add, first = opening
            try:
                plain = decrypt((iv ^ sequence).to_bytes(_IV_SIZE, "big"), body, None)
            except InvalidTag:
                self.rejected += 1
                continue
            if not add(sequence):
                self.rejected += 1
                continue
            if first is not None:
                first(sequence >> PHASE_SHIFT)
                opening = decrypt, iv, add, None
            append((int.from_bytes(plain[:4], "big"), plain[4:]))

    def _opening(self, turn: int) -> _Opening | None:
        """
        What opens the packets of one key.

        @param turn: epoch and phase, as they stand in the upper bits of the sequence number.
        """
        number, phase = divmod(turn, 1 << (EPOCH_SHIFT - PHASE_SHIFT))
        for epoch in (self._newest, self._previous):
            if epoch is not None and epoch.number == number:
                # One phase ahead at most: nobody may have keys made for arbitrary numbers.
                if abs(phase - epoch.receiving.latest) > 1:
                    return None
                cipher, iv = epoch.receiving.of(phase)
                news = not epoch.confirmed or phase > epoch.receiving.latest
                return cipher.decrypt, iv, epoch.window.add, epoch.opened if news else None
        return None

    def _sending(self) -> _Epoch | None:
        """The epoch under which data goes out."""
        newest, previous = self._newest, self._previous
        return newest if newest is None or newest.confirmed or previous is None else previous
