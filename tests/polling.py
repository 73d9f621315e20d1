"""Which sockets are ready, whatever their numbers: C{select(2)} knows the first 1,024 only."""

from __future__ import annotations

import select as system
from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")

_READABLE = system.POLLIN | system.POLLHUP | system.POLLERR
_WRITABLE = system.POLLOUT | system.POLLHUP | system.POLLERR


def select(
    readers: Iterable[T], writers: Iterable[T] = (), timeout: float | None = 0
) -> tuple[list[T], list[T]]:
    """
    @param readers, writers: what has a C{fileno}.
    @param timeout: seconds; C{None} is for ever.
    @return: those of each that are ready, in their order.
    """
    wanted: dict[int, int] = {}
    lists: list[tuple[list[Any], int, int]] = [
        (list(readers), system.POLLIN, _READABLE),
        (list(writers), system.POLLOUT, _WRITABLE),
    ]
    for some, event, _ in lists:
        for each in some:
            wanted[each.fileno()] = wanted.get(each.fileno(), 0) | event
    poll = system.poll()
    for descriptor, events in wanted.items():
        poll.register(descriptor, events)
    seen = dict(poll.poll(None if timeout is None else timeout * 1000))
    ready = [
        [each for each in some if seen.get(each.fileno(), 0) & mask] for some, _, mask in lists
    ]
    return ready[0], ready[1]
