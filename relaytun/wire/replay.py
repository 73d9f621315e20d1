"""Which numbers were used already, in bounded memory."""

from __future__ import annotations


class ReplayWindow:
    """
    Remembers a set of numbers that mostly rise.

    Every number below C{floor} counts as used.  In the usual case (each number used once,
    roughly in order) the memory is a handful of numbers; a peer that leaves gaps can make it
    remember at most C{size} of them, and then loses the lowest unused ones.
    """

    __slots__ = ("_seen", "_size", "floor")

    def __init__(self, size: int = 4096) -> None:
        """@param size: the most numbers above C{floor} that are remembered."""
        self.floor = 0
        self._seen: set[int] = set()
        self._size = size

    def __contains__(self, number: int) -> bool:
        return number < self.floor or number in self._seen

    def add(self, number: int) -> bool:
        """
        Use C{number}.

        @return: whether it was unused until now.
        """
        if number in self:
            return False
        self._seen.add(number)
        if len(self._seen) > self._size:
            self.floor = min(self._seen) + 1
            self._seen.discard(self.floor - 1)
        while self.floor in self._seen:
            self._seen.discard(self.floor)
            self.floor += 1
        return True
