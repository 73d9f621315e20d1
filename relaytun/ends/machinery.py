"""What all sessions of a process share: how it dials, moves bytes and proves itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..events import Events
from ..interfaces import IReactor
from ..link.handshake import LinkTLS
from ..link.link import RESUME_TIMEOUT
from ..link.memory import Memory
from ..plane.carriers import CarrierPool
from ..plane.datagrams import ReceiveBuffer
from ..plane.dial import Dialer


@dataclass(frozen=True, kw_only=True)
class Machinery:
    """
    @ivar dialer: for the relay and for local services.
    @ivar pool: for raw streams.
    @ivar tls: shows this process's identity to the other side of a link.
    @ivar memory: what the streams of links may have to send again.
    @ivar datagrams: where datagrams are read to.
    @ivar resume_timeout: seconds that streams of a link wait for a channel.
    @ivar events: C{session_opened}, C{session_closed}, and what its owner tells.
    """

    reactor: IReactor
    dialer: Dialer
    pool: CarrierPool
    tls: LinkTLS
    memory: Memory = field(default_factory=Memory)
    datagrams: ReceiveBuffer = field(default_factory=ReceiveBuffer)
    resume_timeout: float = RESUME_TIMEOUT
    events: Events = field(default_factory=Events)

    def close(self) -> None:
        """Let go of what is kept for the next stream."""
        self.pool.close()
