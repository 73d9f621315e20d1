"""Counts of the bytes that passed, a limit to them, and how fast they may."""

from __future__ import annotations

from collections.abc import Callable

from .rates import Rate

#: The limit where there is none.
UNLIMITED = 2**62


class Meter:
    """
    What one or several streams have moved.

    @ivar forward: bytes from the first to the second descriptor of each stream.
    @ivar backward: the other way.
    @ivar limit: the most bytes, both ways together.
    @ivar exhausted: called when there are more to come than the limit lets pass.  If it raises the
        limit, they go on.
    @ivar forward_rates, backward_rates: what each direction has to keep to, all of them.
    """

    __slots__ = ("backward", "backward_rates", "exhausted", "forward", "forward_rates", "limit")

    def __init__(self, limit: int = 0, exhausted: Callable[[], None] = lambda: None) -> None:
        """@param limit: bytes, 0 for none."""
        self.forward = 0
        self.backward = 0
        self.limit = limit or UNLIMITED
        self.exhausted = exhausted
        self.forward_rates: tuple[Rate, ...] = ()
        self.backward_rates: tuple[Rate, ...] = ()

    @property
    def total(self) -> int:
        """Bytes both ways."""
        return self.forward + self.backward
