"""
A punched path that QUIC and sealed datagrams have in common.

The first byte of a datagram tells whose it is: QUIC sets 0x40 (RFC 9000, section 17.2), and no
sealed datagram on a punched path does.  Punch packets stay with the path itself.
"""

from __future__ import annotations

from collections.abc import Callable

from .path import UdpPath

_QUIC = 0x40


class Share:
    """
    One of the two uses.

    @ivar received: set it: gets each datagram that is for this use.
    @ivar lost: set it: called once, with nothing, when the path is dead; it is closed then.
    """

    def __init__(self, path: UdpPath, over: Callable[[Share], None]) -> None:
        """@param over: told when this use is over."""
        self.received: Callable[[bytes], None] = _nobody
        self.lost: Callable[[], None] = _nobody
        self._path = path
        self._over = over

    @property
    def address(self) -> tuple[str, int]:
        """The peer's, as seen from here."""
        return self._path.address

    @property
    def round_trip(self) -> float:
        """Seconds, of the last ping."""
        return self._path.round_trip

    def send(self, data: bytes) -> bool:
        """
        Send a datagram to the peer.

        @return: whether the kernel took it; what it did not take is lost.
        """
        return self._path.send(data)

    def close(self) -> None:
        """This use is over; nobody is told.  A second time does no harm."""
        self.received = self.lost = _nobody
        self._over(self)


class SharedPath:
    """
    Takes a path over, and closes it when nobody uses it any more.

    @ivar quic, sealed: the two uses.  Each has to be closed some time.
    """

    def __init__(self, path: UdpPath, over: Callable[[], None] = lambda: None) -> None:
        """@param over: called once, when nobody uses it any more."""
        self._path = path
        self._over = over
        self.quic = Share(path, self._closed)
        self.sealed = Share(path, self._closed)
        self._open = {self.quic, self.sealed}
        path.received = self._received
        path.lost = self._lost

    def _received(self, data: bytes) -> None:
        if data:
            (self.quic if data[0] & _QUIC else self.sealed).received(data)

    def _lost(self) -> None:
        for share in (self.quic, self.sealed):
            share.lost()

    def _closed(self, share: Share) -> None:
        if share in self._open:
            self._open.discard(share)
            if not self._open:
                self._path.close()
                self._over()


def _nobody(*_: bytes) -> None:
    """Nobody listens."""
