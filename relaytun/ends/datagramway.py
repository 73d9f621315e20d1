"""
One way by which sealed datagrams go to the other client: what is gathered for it, and which sizes
are known to pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from ..link.sealing import Sealing
from ..wire import datagram
from ..wire.datagram import CONTROL_FLOW, LARGEST, OVERHEAD, Control
from ..wire.errors import WireError
from .probing import Probing

#: IP packet sizes to try besides that of this machine's own interface: Ethernet's, and what every
#: IPv6 path takes (RFC 8200 section 5).
COMMON_MTUS = (1500, 1280)
#: Sealed datagrams that are gathered before they are sent.
MOST_GATHERED = 256


def packet_sizes(mtu: int, host: str) -> list[int]:
    """
    The sizes of packets that are worth a probe.

    @param mtu: of the largest IP packet that may pass.
    @param host: an address of the family in question.
    """
    headers = 48 if ":" in host else 28
    mtus = {mtu, *(each for each in COMMON_MTUS if each < mtu)}
    return [min(LARGEST, each - headers) for each in mtus]


@dataclass
class Counts:
    """How many datagrams were sent, and how many of these the kernel did not take."""

    sent: int = 0
    lost: int = 0


class Way:
    """
    @ivar number: what stands in the header of its packets.
    @ivar probing: tells what passes.
    @ivar outgoing: what is gathered.
    """

    def __init__(
        self,
        clock: IReactorTime,
        sealing: Sealing,
        counts: Counts,
        transmit: Callable[[list[bytes]], int],
        number: int = 0,
        probes: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param sealing: the link's: all of its ways share the sequence numbers.
        @param transmit: sends packets; says how many of them the kernel took.
        @param probes: called before each probe.
        """
        self.number = number
        self.probing = Probing(clock, self._probe)
        self.outgoing: list[bytes] = []
        self._sealing = sealing
        self._counts = counts
        self._transmit = transmit
        self._probes = probes

    @property
    def room(self) -> int:
        """The largest datagram that may go this way now; less than 0 for none."""
        return self.probing.largest() - OVERHEAD if self._sealing.ready else -OVERHEAD

    def gather(self, flow: int, datagrams: Sequence[bytes | memoryview]) -> None:
        """Send these; L{flush} has to follow."""
        self.probing.used()
        self.outgoing += self._sealing.seal(self.number, flow, datagrams)
        if len(self.outgoing) >= MOST_GATHERED:
            self.flush()

    def flush(self) -> None:
        """Send what was gathered."""
        outgoing = self.outgoing
        if outgoing:
            self.outgoing = []
            sent = self._transmit(outgoing)
            self._counts.sent += sent
            self._counts.lost += len(outgoing) - sent

    def heard(self, payload: bytes) -> None:
        """A datagram of the control flow came this way."""
        try:
            control, token = datagram.decode_control(payload)
        except WireError:
            return
        if control is Control.ANSWER:
            self.probing.answered(token)
            return
        self._say(datagram.encode_control(Control.ANSWER, token))
        if self.room <= 0:
            self.probing.hurry()  # The other side is there.

    def stop(self) -> None:
        """Nothing goes this way."""
        self.probing.stop()
        self.outgoing.clear()

    def _probe(self, token: int, size: int) -> None:
        self._probes()
        probe = datagram.encode_control(Control.PROBE, token, size)
        self._say(probe)
        if self._sealing.changing:
            self._say(probe, newest=True)

    def _say(self, control: bytes, newest: bool = False) -> None:
        packets = self._sealing.seal(self.number, CONTROL_FLOW, [control], newest)
        if packets:
            self._transmit(packets)
