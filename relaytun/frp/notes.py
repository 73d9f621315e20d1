"""
What a user is told about an import: a line for each thing that did not come along as it was.

Lines name places and keys and never repeat a value, which may be a secret.
"""

from __future__ import annotations

from collections.abc import Sequence

from relaytun.config.section import one_line

_SHOWN = 4


class Notes:
    """The remarks of one import, each once, in the order of their first appearance."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], dict[str, None]] = {}

    def add(self, place: str, key: str, text: str) -> None:
        """
        Remark on something.

        @param place: whose it is, such as the name of a proxy; empty: the whole file's.
        @param key: as the user wrote it; empty: the whole place.
        """
        self._keys.setdefault((place, text), {})[key] = None

    @property
    def lines(self) -> list[str]:
        """The remarks, one line for all places and keys that share one."""
        places: dict[tuple[bool, tuple[str, ...], str], list[str]] = {}
        for (place, text), keys in self._keys.items():
            places.setdefault((bool(place), tuple(keys), text), []).append(place)
        return [_line(found, keys, text) for (_, keys, text), found in places.items()]


def _line(places: Sequence[str], keys: Sequence[str], text: str) -> str:
    parts = (_some(places), ", ".join(keys), text)
    return one_line(": ".join(part for part in parts if part))


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
