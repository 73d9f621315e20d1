"""
Whether the other side of a channel is there.

A PING is answered, whatever the programs do; so silence tells.  Where nothing else does, as without
the relay, as long as something is said, by whomever, it may not be silent for long without being
asked; after the last word it is asked once.  While the programs say nothing the answer may take
twice as long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from .parties import Asker


@dataclass(frozen=True)
class Pace:
    """
    How soon the end of a channel is found.

    @ivar ping: seconds between two PINGs.
    @ivar dead: seconds of silence after which it is lost.
    @ivar impatience: seconds of silence after which another one is wanted, while something is said
        on it; it is asked for an answer after half of that.
    """

    ping: float = 5.0
    dead: float = 15.0
    impatience: float | None = None


#: Through the relay, and without it, where nothing but silence tells of the end.
RELAYED = Pace()
DIRECT = Pace(ping=2.0, dead=6.0, impatience=1.2)
#: In reserve: often enough for a NAT's memory, and for the server to know that the session is used.
RESTING = Pace(ping=15.0, dead=45.0)
#: Seconds that a timer may be late: by more, and it was this process that slept.
_LATE = 0.3


class Pulse:
    """
    @ivar heard: when the last bytes came, by the clock; whoever reads them sets it.
    @ivar lively: something was said since the last question.
    @ivar rtt: seconds, of the last PING, or before that of the handshake.
    """

    def __init__(self, clock: IReactorTime, asker: Asker, pace: Pace) -> None:
        self.heard = clock.seconds()
        self.lively = False
        self.rtt: float | None = None
        self._clock = clock
        self._asker = asker
        self._pace = pace
        self._pinged: float | None = None
        self._shortest = 0.0  # Of the times there and back.
        self._idle = False
        self._asked = self._due = self._given_up = 0.0
        self._watch: IDelayedCall | None = None
        self._beat: IDelayedCall | None = None

    def start(self, shortest: float) -> None:
        """The channel is up; @param shortest: seconds that an answer takes at least."""
        self._shortest = shortest
        self._beat = self._clock.callLater(self._pace.ping, self._ping)

    def stop(self) -> None:
        """The channel is over."""
        for call in (self._beat, self._watch):
            if call is not None and call.active():
                call.cancel()

    def use(self, pace: Pace) -> None:
        """Go by C{pace} from now on, as if something had just been heard."""
        self._pace = pace
        self.heard = self._clock.seconds()
        if self._beat is not None and self._beat.active():
            self._beat.reset(pace.ping)

    @property
    def failing(self) -> bool:
        """Whether nothing has come since it was found silent."""
        return self.heard < self._given_up

    def stir(self) -> None:
        """Something is said, which is neither question nor answer of ours."""
        self.lively = True
        if self._idle and self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._idle = False
        if self._watch is None and self._pace.impatience is not None:
            self._watch_for(self._moment, self._look)

    def ponged(self) -> None:
        """An answer."""
        if self._pinged is not None:
            self.rtt = self._clock.seconds() - self._pinged
            self._shortest = min(self._shortest, self.rtt)
            self._pinged = None

    def _ping(self) -> None:
        now = self._clock.seconds()
        dead = self._pace.dead
        if now - self.heard >= dead:
            self._asker.dead(f"nothing came for {dead:.0f} s")
            return
        left = self.heard + dead - now
        self._beat = self._clock.callLater(min(self._pace.ping, left), self._ping)
        if self._watch is None and self._pace.impatience is not None:
            self._question(2 * self._moment)
            self._idle = True
        else:
            self._send()

    def _send(self) -> None:
        if self._pinged is None:
            self._pinged = self._clock.seconds()
        self._asker.ask()

    @property
    def _moment(self) -> float:
        """Seconds that an answer may take, more on a long way; queues are full of what is heard."""
        return max((self._pace.impatience or 0.0) / 2, 2 * self._shortest)

    def _watch_for(self, seconds: float, act: Callable[[], None]) -> None:
        self._due = self._clock.seconds() + seconds
        self._watch = self._clock.callLater(seconds, act)

    def _look(self) -> None:
        left = self.heard + self._moment - self._clock.seconds()
        if left > 0:
            self._watch_for(left, self._look)
        else:
            self._question(self._moment)

    def _question(self, patience: float) -> None:
        self.lively = False
        self._asked = self._clock.seconds()
        self._watch_for(patience, self._judge)
        self._send()

    def _judge(self) -> None:
        self._watch = None
        self._idle = False
        now = self._clock.seconds()
        if self.heard >= self._asked:
            if self.lively:
                self._look()
        elif now > self._due + _LATE:
            self._question(self._moment)  # What it answered may be waiting to be read.
        else:
            self._watch_for(self._moment, self._judge)
            if not self.failing:
                self._given_up = now
                self._asker.silent()
