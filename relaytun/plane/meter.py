"""Counts of the bytes that passed, and a limit to them."""

from __future__ import annotations

from collections.abc import Callable

_UNLIMITED = 2**62


class Meter:
    """
    What one or several streams have moved.

    @ivar forward: bytes from the first to the second descriptor of each stream.
    @ivar backward: the other way.
    @ivar limit: the most bytes, both ways together.
    @ivar exhausted: called when there are more to come than the limit lets pass.
    """

    __slots__ = ("backward", "exhausted", "forward", "limit")

    def __init__(self, limit: int = 0, exhausted: Callable[[], None] = lambda: None) -> None:
        """@param limit: bytes, 0 for none."""
        self.forward = 0
        self.backward = 0
        self.limit = limit or _UNLIMITED
        self.exhausted = exhausted

    @property
    def total(self) -> int:
        """Bytes both ways."""
        return self.forward + self.backward
