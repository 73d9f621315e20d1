"""Which numbers were used already, in bounded memory."""

from __future__ import annotations

from array import array


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


class SequenceWindow:
    """
    The same for numbers that come fast, with gaps and a little out of order, as packets do.

    A number is good once, unless it is C{size} or more behind the highest one.  Adding costs the
    same whatever came before, and the memory is 8 bytes for each of C{size} numbers.
    """

    __slots__ = ("_mask", "_slots", "_top")

    def __init__(self, size: int = 4096) -> None:
        """@param size: a power of two."""
        self._mask = size - 1
        # Of the numbers that fall into a slot, the last one, plus one: 0 is for none yet.
        self._slots = array("Q", bytes(8 * size))
        self._top = 0

    def add(self, number: int) -> bool:
        """
        Use C{number}, below 2**63.

        @return: whether it was unused until now, and is not too old to know.
        """
        number += 1
        slot = number & self._mask
        if number > self._top:
            self._top = number
        elif self._slots[slot] >= number or number + self._mask < self._top:
            return False
        self._slots[slot] = number
        return True
