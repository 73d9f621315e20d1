"""
Frp's own way of writing numbers: lists of ports with ranges in them, and bandwidths.

Each function raises C{ValueError} with a sentence about what is wrong.
"""

from __future__ import annotations

import math
import re

_RANGE = re.compile(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?")
_BANDWIDTH = re.compile(r"([0-9]{1,15}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s*(KB|MB)")
_UNITS = {"KB": 1024, "MB": 1024 * 1024}

MOST = 10000
"""How many numbers a list may come to: keeps C{1-999999999} from filling the memory."""


def ranges(text: str) -> list[tuple[int, int]]:
    """Read C{"6000-6006,6007"} as first and last numbers; a single one is both."""
    found = []
    for word in text.split(","):
        match = _RANGE.fullmatch(word)
        if match is None:
            raise ValueError("not a list of numbers: frp has it as 6000-6006,6007")
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if last < first:
            raise ValueError("a range ends before it starts")
        found.append((first, last))
    return found


def numbers(text: str) -> list[int]:
    """Read C{"6000-6002,6007"} as each of its numbers."""
    found = ranges(text)
    if sum(last - first + 1 for first, last in found) > MOST:
        raise ValueError(f"more than {MOST} numbers")
    return [number for first, last in found for number in range(first, last + 1)]


def pairs(first: str, second: str) -> list[tuple[int, int]]:
    """Read two lists of the same length, number by number."""
    one, other = numbers(first), numbers(second)
    if len(one) != len(other):
        raise ValueError("the two lists of numbers are not of the same length")
    return list(zip(one, other, strict=True))


def bandwidth(text: str) -> str:
    """
    Read C{1.5MB} or C{512KB}, whose units are of 1024 as ours are.

    @return: the same in our writing, whole bytes a second; empty for no limit.
    """
    match = _BANDWIDTH.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a bandwidth: frp has it as 1MB or 512KB")
    number = math.floor(float(match[1]) * _UNITS[match[2]])
    for unit, scale in (("MB", _UNITS["MB"]), ("KB", _UNITS["KB"])):
        if number and number % scale == 0:
            return f"{number // scale}{unit}"
    return str(number) if number else ""
