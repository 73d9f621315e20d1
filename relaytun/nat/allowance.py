"""How much may be done in a time."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime


class Allowance:
    """C{rate} a second, and as many at once after a quiet second."""

    def __init__(self, reactor: IReactorTime, rate: float) -> None:
        self._reactor = reactor
        self._rate = rate
        self._left = rate
        self._at = reactor.seconds()

    def take(self) -> bool:
        """Whether one more is allowed, which then is taken."""
        now = self._reactor.seconds()
        self._left = min(self._rate, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
