"""
What INI files, JSON files and command lines are turned into before their values are judged.

A L{Section} holds texts by key, each with the place it came from, so that one
set of rules serves all three and every problem is noted with its place. The
rules themselves are in C{server} and C{client}, the names of the keys in C{keys}.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeVar

from relaytun.config import values
from relaytun.config.files import read_text

T = TypeVar("T")

_VARIABLE = re.compile(r"\$\{([^}]*)(\}?)")


class Entry(NamedTuple):
    """
    One key's text.

    @ivar place: where it is written, such as C{client.ini: [client] token}.
    @ivar text: without blanks around it; L{None} if it cannot be had.
    @ivar problem: why it cannot be had. It matters only if nothing else replaces the entry.
    """

    place: str
    text: str | None
    problem: str = ""


class Section:
    """
    The texts of one section; what is wrong with them is noted, never raised.

    Whoever notes a problem gets a stand-in value and reads on; what was read is
    thrown away in the end.

    @ivar kind: a key of L{relaytun.config.keys.KEYS}.
    @ivar place_of: where a key is, or would be, written.
    @ivar problems: the lines noted so far, shared by all sections of a file.
    """

    def __init__(self, kind: str, place_of: Callable[[str], str], problems: list[str]) -> None:
        self.kind = kind
        self.place_of = place_of
        self.problems = problems
        self.entries: dict[str, Entry] = {}

    def note(self, key: str, problem: str) -> None:
        """Note a problem at a key, whether or not the key is there."""
        entry = self.entries.get(key)
        place = self.place_of(key) if entry is None else entry.place
        self.problems.append(f"{place}: {problem}")

    def put(self, key: str, text: str) -> None:
        """Put in a text from a file, with its C{${NAME}}s replaced."""
        try:
            self.entries[key] = Entry(self.place_of(key), expand(text).strip())
        except ValueError as error:
            self.put_broken(key, str(error))

    def put_broken(self, key: str, problem: str) -> None:
        """Put in a key whose value cannot even be taken as a text."""
        self.entries[key] = Entry(self.place_of(key), None, problem)

    def override(self, texts: Mapping[str, str], place_of: Callable[[str], str]) -> None:
        """Put in texts from the command line, which win and are taken literally."""
        for key, text in texts.items():
            self.entries[key] = Entry(place_of(key), text.strip())

    def drop(self, *keys: str) -> None:
        """Forget keys that something else has replaced."""
        for key in keys:
            self.entries.pop(key, None)

    def given(self, key: str) -> bool:
        """Tell whether a key has a value; an empty one is none."""
        return key in self.entries and self.entries[key].text != ""

    def empty(self, key: str) -> bool:
        """Tell whether a key is there, but has nothing in it."""
        return key in self.entries and self.entries[key].text == ""

    def text(self, key: str) -> str | None:
        """Get a text, L{None} if it is absent, empty or cannot be had."""
        entry = self.entries.get(key)
        return None if entry is None else entry.text or None

    def get(self, key: str, parse: Callable[[str], T], default: T) -> T:
        """Read a value of one line; absent, empty or wrong is the default."""
        if "\n" in (self.text(key) or ""):
            self.note(
                key, "goes over several lines: write it in one, and start no key with a blank"
            )
            return default
        return self.get_lines(key, parse, default)

    def get_lines(self, key: str, parse: Callable[[str], T], default: T) -> T:
        """Read a value that may go over several lines."""
        text = self.text(key)
        if text is None:
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.note(key, str(error))
            return default

    def need(self, key: str, parse: Callable[[str], T], stand_in: T, remedy: str) -> T:
        """Read a value that must be there."""
        if not self.given(key):
            self.note(key, f"missing: {remedy}")
            return stand_in
        return self.get(key, parse, stand_in)

    def check(self) -> None:
        """Note each key whose text cannot be had."""
        for key, entry in self.entries.items():
            if entry.problem:
                self.note(key, entry.problem)

    def state_dir(self, default: str) -> Path:
        """
        Read C{state_dir}.

        @param default: a folder's name under the user's state folder, or a whole path.
        """
        home = os.environ.get("XDG_STATE_HOME", "")
        if not self.given("state_dir"):
            base = home if os.path.isabs(home) else "~/.local/state"
            place = self.place_of("state_dir")
            self.entries["state_dir"] = Entry(place, os.path.join(base, default))
        return self.get("state_dir", values.path, Path())

    def token(self, remedy: str) -> str | None:
        """
        Read C{token} or the file that C{token_file} names.

        @param remedy: what to do about an empty one.
        """
        return self.secret("token", values.token, remedy)

    def secret(self, key: str, parse: Callable[[str], str], remedy: str) -> str | None:
        """
        Read a secret from its key, or from the file that the key with C{_file} names.

        @param remedy: what to do about an empty one.
        """
        given = [each for each in (key, f"{key}_file") if each in self.entries]
        if len(given) == 2:
            self.note(f"{key}_file", f"{key} is given as well: remove one of the two")
        elif given:
            return self._secret(key, given[0], parse, remedy)
        return None

    def _secret(
        self, key: str, written: str, parse: Callable[[str], str], remedy: str
    ) -> str | None:
        def read(text: str) -> str:
            secret = text if written == key else read_text(values.path(text)).strip()
            if not secret:
                raise ValueError(f"{key} is empty: {remedy}")
            return parse(secret)

        if self.empty(written):
            self.note(written, f"{key} is empty: {remedy}")
        return self.get(written, read, None)


def expand(text: str) -> str:
    """
    Replace each C{${NAME}} by the environment variable of that name.

    @raise ValueError: there is no such variable; its name is told.
    """

    def value(match: re.Match[str]) -> str:
        name, closed = match.groups()
        if not closed or re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
            raise ValueError("a ${ must be followed by a variable's name and }")
        if name not in os.environ:
            raise ValueError(
                f"the environment variable {name} is not set: set it, or write a value"
            )
        return os.environ[name]

    return _VARIABLE.sub(value, text)


def shown(key: str) -> str:
    """
    Make an unknown key fit to be shown.

    What is unlike a key may be a secret on the wrong line, and is not repeated.
    """
    return key if re.fullmatch(r"[A-Za-z_][\w.-]{0,29}", key, re.ASCII) else "(not a key)"


def one_line(name: str) -> str:
    """Make the name of a file or a section fit to be shown."""
    return "".join(character if character.isprintable() else "?" for character in name)


def unknown(what: str, word: str, known: Mapping[str, str]) -> str:
    """
    Say that a section or a key does not exist, and which one is nearest.

    @param known: each word that there is, and how to write it.
    """

    def fold(text: str) -> str:
        return re.sub(r"[\s_-]", "", text).lower()

    by_fold = {fold(each): written for each, written in known.items()}
    near = difflib.get_close_matches(fold(word), by_fold, 1)
    if near:
        return f"unknown {what}: did you mean {by_fold[near[0]]}?"
    return f"unknown {what}: there are {', '.join(known.values())}"
