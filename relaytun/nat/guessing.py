"""
Guessing ports, where exactly one side is behind a NAT that maps each destination to another port.

I{Prediction}: such a NAT often counts its ports up.  The hard side has told the peer the next few.
Before anything else takes them it opens one new socket to the peer's address, whose mapping should
be among them, behind those of its known socket; later the easy side tries them all.

I{Birthday}: the hard side opens many sockets to the peer's address, so that many ports of its NAT
lead to one of them, and the easy side tries ports at random: 1000 probes among 64512 ports hit one
of 256 with a chance of 98 %.

The first packets of the hard side live for a few hops only, so that they open its own NAT without
getting to the peer's, where a packet that nobody asked for yet may take the port that is needed.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

from twisted.internet.interfaces import IDelayedCall

from ..interfaces import IReactor
from .candidates import GUESSING
from .udpsocket import UdpSocket

#: What may be guessed, from the weakest: nothing, the ports that come next, or many ports, too.
Policy: TypeAlias = Literal["no", "predict", "birthday"]

#: Sockets that the hard side opens.
SOCKETS = 256
#: Probes of the easy side, at most, and packets a second of either.
PROBES = 1000
RATE = 200
#: Seconds that are given to prediction before birthday begins.
_PREDICTING = 1.0
#: Seconds that the hard side has to open its first sockets.
_HEAD_START = 0.5
#: Seconds for the last probe to be answered, and for the proof.
_AFTERWARDS = 1.0
_BATCH = 0.05
#: Ports that a NAT gives to a mapping.
_PORTS = range(1024, 65536)
#: Descriptors that are left to the rest of the program, at least; and the share that we take.
_RESERVE = 64
_SHARE = 2
#: Fewer sockets than this are not worth it.
_FEWEST = 32


@dataclass(frozen=True, slots=True)
class Hard:
    """
    Which side's NAT is hard, and what may be done about it.

    @ivar mine: whether it is ours; otherwise it is the peer's.
    @ivar address: of the peer, as the server sees it; the last one that is known.
    @ivar predicted: where the hard side says that its next mappings will be, the nearest first.
    @ivar policy: what both sides allow.
    """

    mine: bool
    address: tuple[str, int]
    predicted: tuple[tuple[str, int], ...] = ()
    policy: Policy = "predict"


class Puncher(Protocol):
    """What L{Guessing} needs of an attempt."""

    @property
    def main(self) -> UdpSocket: ...

    def usable(self, address: tuple[str, int]) -> bool: ...
    def open_socket(self) -> UdpSocket | None: ...
    def try_address(self, socket: UdpSocket, address: tuple[str, int], found: str) -> None: ...
    def knock(self, socket: UdpSocket, address: tuple[str, int], low: bool = False) -> None: ...


class Guessing:
    """
    The guesses of one attempt.

    @ivar extra: seconds that the attempt takes longer for it.
    @ivar probing: whether ports are tried at random by now.
    """

    def __init__(self, reactor: IReactor, hard: Hard, puncher: Puncher) -> None:
        self._reactor = reactor
        self._hard = hard
        self._puncher = puncher
        self._timers: list[IDelayedCall] = []
        self._birthday_at = GUESSING + (_PREDICTING if hard.predicted else 0)
        allowed = puncher.usable(hard.address)
        self._predicts = allowed and hard.policy != "no" and bool(hard.predicted)
        self._birthday = allowed and hard.policy == "birthday"
        self.probing = False
        self._ports: Iterator[int] = iter(())
        self.extra = 0.0
        if self._birthday:
            self.extra = self._birthday_at + _HEAD_START + PROBES / RATE + _AFTERWARDS - 5

    def start(self) -> None:
        """At "go"."""
        if self._predicts:
            if self._hard.mine:
                self._open_predicted()
            else:
                self._later(GUESSING, self._predict)
        if not self._birthday:
            return
        if self._hard.mine:
            self._later(self._birthday_at, self._open_many)
        else:
            self._later(self._birthday_at + _HEAD_START, self._probe_many)

    def stop(self) -> None:
        """Nothing is sent any more; the sockets are the attempt's."""
        for timer in self._timers:
            if timer.active():
                timer.cancel()

    def _later(self, seconds: float, what: object, *arguments: object) -> None:
        self._timers = [timer for timer in self._timers if timer.active()]
        self._timers.append(self._reactor.callLater(seconds, what, *arguments))  # type: ignore[arg-type]

    # --- Prediction -----------------------------------------------------------------------------

    def _open_predicted(self) -> None:
        socket = self._puncher.open_socket()
        if socket is not None:
            self._puncher.knock(socket, self._hard.address, low=True)
            self._later(
                GUESSING, self._puncher.try_address, socket, self._hard.address, "predicted"
            )

    def _predict(self) -> None:
        # From the far end: packets from the nearest ports may have come already, to a router of
        # ours that then gives that port another mapping, and the same to all that are tried later.
        for address in reversed(self._hard.predicted):
            if self._puncher.usable(address):
                self._puncher.try_address(self._puncher.main, address, "predicted")

    # --- Birthday -------------------------------------------------------------------------------

    def _open_many(self) -> None:
        self.probing = True
        wanted = min(SOCKETS, spare_descriptors())
        if wanted >= _FEWEST:
            self._open_some(wanted)

    def _open_some(self, wanted: int) -> None:
        batch = min(wanted, int(RATE * _BATCH))
        for _ in range(batch):
            socket = self._puncher.open_socket()
            if socket is None:
                return
            self._puncher.knock(socket, self._hard.address, low=True)
        if wanted > batch:
            self._later(_BATCH, self._open_some, wanted - batch)

    def _probe_many(self) -> None:
        self.probing = True
        # Not from a seed that anybody could know: which ports are tried is nobody's business.
        self._ports = iter(random.SystemRandom().sample(_PORTS, PROBES))
        self._probe_some()

    def _probe_some(self) -> None:
        batch = list(itertools.islice(self._ports, int(RATE * _BATCH)))
        for port in batch:
            self._puncher.knock(self._puncher.main, (self._hard.address[0], port))
        if batch:
            self._later(_BATCH, self._probe_some)


def weaker(one: Policy, other: Policy) -> Policy:
    """What two sides allow of whom each says what it does; what one does alone is in vain."""
    return min(one, other, key=get_args(Policy).index)


def spare_descriptors() -> int:
    """How many descriptors may be used for guesses without starving the rest of the program."""
    try:
        import resource
    except ImportError:
        return 0
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return SOCKETS
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError:
        return 0
    return max(0, limit - used - _RESERVE) // _SHARE
