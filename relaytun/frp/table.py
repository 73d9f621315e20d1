"""
One table of a file of frp's, read by dotted keys.

Gives each value in the type that frp takes it for, remembers what was asked for, and
remarks on the rest: a known key without a counterpart, or an unknown one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from relaytun.config.section import one_line, shown
from relaytun.errors import ConfigError
from relaytun.frp.notes import Notes

Tree = dict[str, object]
"""A table of frp's as its TOML has it: texts, numbers, booleans, lists and tables by key."""

FOREIGN = "?"
"""Starts a key that an INI file has and frp does not know: it is never taken for one of TOML."""

_OFF = frozenset({"", "0", "false", "no", "off", "none", "[]", "{}"})
_SWITCHES = {
    **dict.fromkeys(("true", "yes", "on", "1", "t", "y"), True),
    **dict.fromkeys(("false", "no", "off", "0", "f", "n"), False),
}


class Reason(NamedTuple):
    """
    Why a key of frp's has no counterpart.

    @ivar silent: the values that mean the same here, and need no remark.
    """

    text: str
    silent: frozenset[str] = _OFF


class Table:
    """
    A table, and the spelling in which its user knows the keys.

    @ivar place: whose it is in remarks, such as the name of a proxy; may be empty.
    """

    def __init__(
        self, file: str, place: str, tree: Mapping[str, object], spelling: Mapping[str, str]
    ) -> None:
        """
        @param spelling: how dotted keys are written where that is not as in TOML.
        """
        self.file = file
        self.place = place
        self._tree = tree
        self._spelling = {key.lower(): written for key, written in spelling.items()}
        self._taken: set[str] = set()

    def spelled(self, key: str) -> str:
        """Write a dotted key as the file has it."""
        return self._spelling.get(key.lower(), key)

    def value(self, key: str) -> object:
        """Get a value as it is; L{None} if there is none. Like frp, take keys in any case."""
        self._taken.add(key.lower())
        found: object = self._tree
        for name in key.split("."):
            if not isinstance(found, Mapping):
                return None
            found = _member(found, name)
        return found

    def text(self, key: str) -> str:
        """Get a text; empty if there is none."""
        value = self.value(key)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise self.broken(key, "not a text")
        return str(value).strip()

    def number(self, key: str) -> int:
        """Get a whole number; 0 if there is none, which frp takes for the default."""
        value = self.value(key)
        if value is None or value == "":
            return 0
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value):
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise self.broken(key, "not a whole number")

    def switch(self, key: str, default: bool = False) -> bool:
        """Get a yes or no."""
        value = self.value(key)
        if value is None or value == "":
            return default
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in _SWITCHES:
            return _SWITCHES[value.strip().lower()]
        raise self.broken(key, "not true or false")

    def words(self, key: str) -> list[str]:
        """Get a list of texts, which an INI file separates by commas."""
        value = self.value(key)
        if value is None:
            return []
        words = value.split(",") if isinstance(value, str) else value
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise self.broken(key, "not a list of texts")
        return [word.strip() for word in words if word.strip()]

    def mapping(self, key: str) -> dict[str, str]:
        """Get texts by name."""
        value = self.value(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping) or not all(
            isinstance(each, (str, int, float)) for each in value.values()
        ):
            raise self.broken(key, "not a table of texts")
        return {str(name): str(each).strip() for name, each in value.items()}

    def tables(self, key: str) -> list[Mapping[str, object]]:
        """Get a list of tables."""
        value = self.value(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
            raise self.broken(key, "not a list of tables")
        return value

    def broken(self, key: str, problem: str) -> ConfigError:
        """Make the error that a value is wrong for frp too."""
        places = (self.file, self.place, self.spelled(key), problem)
        return ConfigError([one_line(": ".join(place for place in places if place))])

    def finish(
        self, notes: Notes, known: Collection[str], reasons: Mapping[str, Reason], kind: str
    ) -> None:
        """
        Remark on each key that nobody asked for.

        @param known: the keys that frp knows in such a table, besides those with a reason.
        @param reasons: why a key, or all under it, has no counterpart.
        @param kind: what kind of table this is.
        """
        folded = {key.lower(): reason for key, reason in reasons.items()}
        names = {key.lower() for key in known}
        told = {key.lower(): self.spelled(key) for key in (*known, *reasons)}
        for path, value in _leaves(self._tree, "", {*names, *self._taken}):
            key = path.lower()
            if _within(key, self._taken):
                continue
            known_as = next((each for each in _prefixes(key) if each in folded), None)
            silent = _OFF if known_as is None else folded[known_as].silent
            if str(value).strip().lower() in silent and (known_as or _within(key, names)):
                continue
            written = self.spelled(path).removeprefix(FOREIGN)
            if known_as is not None:
                whole = written if key in self._spelling else told[known_as]
                notes.add(self.place, whole, folded[known_as].text)
            elif _within(key, names):
                notes.add(self.place, written, f"means nothing for {kind}")
            else:
                notes.add(self.place, shown(written), _unknown(written, told))


def _member(table: Mapping[str, object], name: str) -> object:
    if name in table:
        return table[name]
    folded = name.lower()
    return next((value for key, value in table.items() if str(key).lower() == folded), None)


def _leaves(
    table: Mapping[str, object], prefix: str, whole: Collection[str]
) -> Iterator[tuple[str, object]]:
    """Walk through the values, and through tables that are not C{whole} of one key."""
    for name, value in table.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value and path.lower() not in whole:
            yield from _leaves(value, f"{path}.", whole)
        else:
            yield path, value


def _prefixes(key: str) -> Iterator[str]:
    """Tell a dotted key and all above it, the longest first."""
    while key:
        yield key
        key = key.rpartition(".")[0]


def _within(key: str, keys: Collection[str]) -> bool:
    return any(each in keys for each in _prefixes(key))


def _unknown(written: str, told: Mapping[str, str]) -> str:
    def fold(text: str) -> str:
        return re.sub(r"[\s_-]", "", text).lower()

    by_fold = {fold(each): each for each in told.values()}
    # The last part too: who writes remote_port in TOML, or bandwidthLimit without its table.
    by_fold |= {fold(each.rpartition(".")[2]): each for each in told.values() if "." in each}
    near = difflib.get_close_matches(fold(written), by_fold, 1, cutoff=0.7)
    if near:
        return f"unknown to frp too, did you mean {by_fold[near[0]]}? Put it right and import again"
    return "unknown to frp too: left out"
