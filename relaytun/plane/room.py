"""
Whether there are file descriptors for more connections.

What is always to be reached (the control port, control.sock) asks nobody.  Of the rest, who needs
further descriptors later has to leave more of them: a visitor before it has a leg or a connection
to a service, a stream before its legs are there.  So what has begun can be brought to its end, and
whoever comes late waits in the queue of the listening port.
"""

from __future__ import annotations

import os
import resource

#: What a daemon has open while it has nothing to do.
_IDLE = 40
#: What is left free by each, if there are that many; with few in all, a share of them.  Half for
#: visitors, since each may need a leg.
_KEPT_BY_VISITORS = 1024
_KEPT_BY_STREAMS = 128
_KEPT_BY_LEGS = 64


class Room:
    """What there is for this process, whoever in it uses it up."""

    def __init__(self, limit: int | None = None) -> None:
        """@param limit: how many descriptors there may be; by default what the kernel says."""
        self._limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if limit is None else limit
        self._most = max(0, self._limit - _IDLE)
        self._probe = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self._probe)

    @property
    def left(self) -> int:
        """
        How many numbers there are from the lowest free one on.

        The kernel gives the lowest that is free.  So whoever stops here may not know of some that
        are taken further up, but has never taken one of those that it leaves to others.
        """
        try:
            lowest = os.dup(self._probe)
        except OSError:
            return 0
        os.close(lowest)
        return self._limit - lowest

    def for_visitors(self) -> bool:
        """Whether one more of those may come who need a stream."""
        return self.left > min(_KEPT_BY_VISITORS, self._most // 2)

    def for_streams(self) -> bool:
        """Whether a visitor that is here may have a connection to a service."""
        return self.left > min(_KEPT_BY_STREAMS, self._most // 4)

    def for_legs(self) -> bool:
        """Whether there may be one more leg of a stream that is wanted."""
        return self.left > min(_KEPT_BY_LEGS, self._most // 8)
