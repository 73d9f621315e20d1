"""
Which leg belongs to which: the rules by which a session's legs become channels.

Pure: a leg is any hashable value, authentic already.  Nothing that a leg claims here, not even
a replay of its own preamble, disturbs legs that are paired or that wait.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..wire.preamble import Preamble, Refusal, Role
from ..wire.replay import ReplayWindow

L = TypeVar("L")

#: Spare legs that a provider may have waiting for a session.
MAX_SPARES = 32
#: Legs without a partner that one session may have.
MAX_WAITING = 1024


@dataclass(frozen=True)
class Match(Generic[L]):
    """Two legs that belong together."""

    visitor: L
    provider: L


@dataclass(frozen=True)
class Wait:
    """
    The partner is not there yet.

    @ivar wanted: a visitor waits, and no spare leg was there for it: ask the provider.
    """

    wanted: bool = False


class Pairing(Generic[L]):
    """The legs of one session that are not yet channels."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Role, int], L] = {}
        self._spares: deque[L] = deque()
        self._preambles: dict[L, Preamble] = {}
        self._asked: set[int] = set()
        self._paired = ReplayWindow()
        self._serials = ReplayWindow()
        self._nonces: dict[int, set[bytes]] = {}
        self._nonce_count = 0

    @property
    def spares(self) -> int:
        """How many spare legs wait."""
        return len(self._spares)

    def admit(self, preamble: Preamble, leg: L) -> Match[L] | Wait | Refusal:
        """A leg has come."""
        if preamble.spare:
            return self._admit_spare(preamble, leg)
        channel, role = preamble.channel, preamble.role
        if channel in self._paired or preamble.nonce in self._nonces.get(channel, ()):
            return Refusal.REPLAYED
        if (role, channel) in self._waiting:
            return Refusal.DUPLICATE
        partner = self._waiting.get((role.other, channel))
        if partner is None and role is Role.VISITOR and self._spares:
            partner = self._spares[0]
        if partner is not None:
            return self._match(channel, role, leg, partner)
        if len(self._waiting) >= MAX_WAITING:
            return Refusal.LIMIT
        self._waiting[role, channel] = leg
        self._preambles[leg] = preamble
        return Wait(wanted=role is Role.VISITOR)

    def wants_provider(self, channel: int) -> bool:
        """Whether a visitor's leg waits there for a provider's."""
        return (Role.VISITOR, channel) in self._waiting

    def asked(self, channel: int) -> None:
        """The provider was asked for its leg: spare legs are for others now."""
        self._asked.add(channel)

    def withdraw(self, leg: L) -> None:
        """C{leg} is gone, or gave up; its preamble will not be taken again."""
        preamble = self._preambles.pop(leg, None)
        if preamble is None:
            return
        if preamble.spare:
            self._spares.remove(leg)
            return
        channel = preamble.channel
        del self._waiting[preamble.role, channel]
        self._asked.discard(channel)
        if self._nonce_count < MAX_WAITING:
            self._nonces.setdefault(channel, set()).add(preamble.nonce)
            self._nonce_count += 1
        else:  # No memory left for its nonce: remember the channel as used instead.
            self._use(channel)

    def clear(self) -> list[L]:
        """@return: all legs that waited."""
        legs = list(self._preambles)
        self._waiting.clear()
        self._spares.clear()
        self._preambles.clear()
        return legs

    def _admit_spare(self, preamble: Preamble, leg: L) -> Match[L] | Wait | Refusal:
        if not self._serials.add(preamble.channel):
            return Refusal.REPLAYED
        for (role, channel), visitor in self._waiting.items():
            if role is Role.VISITOR and channel not in self._asked:
                return self._match(channel, Role.PROVIDER, leg, visitor)
        if len(self._spares) >= MAX_SPARES:
            return Refusal.LIMIT
        self._spares.append(leg)
        self._preambles[leg] = preamble
        return Wait()

    def _match(self, channel: int, role: Role, leg: L, partner: L) -> Match[L]:
        known = self._preambles.pop(partner)
        if known.spare:
            self._spares.remove(partner)
        else:
            del self._waiting[known.role, channel]
        self._use(channel)
        return Match(leg, partner) if role is Role.VISITOR else Match(partner, leg)

    def _use(self, channel: int) -> None:
        self._paired.add(channel)
        self._asked.discard(channel)
        self._nonce_count -= len(self._nonces.pop(channel, ()))
