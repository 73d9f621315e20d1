"""
Where a configuration comes from: at most one file, and options that win over it.

Reads the file in either form and tells a server's from a client's. What the
values mean is not judged here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from relaytun.config.files import read_text
from relaytun.config.ini import read_ini
from relaytun.config.json_file import read_json
from relaytun.config.keys import CLIENT_KINDS, SERVER_KINDS
from relaytun.config.section import Section, one_line
from relaytun.errors import ConfigError


class Source:
    """
    The sections of one file, or of none.

    @ivar file: the file's name for messages; empty if there is no file.
    @ivar problems: the lines noted so far.
    """

    def __init__(self, path: str | None) -> None:
        """
        @raise ConfigError: the file cannot be read, or is broken beyond reading on.
        """
        self.file = "" if path is None else one_line(path)
        self.problems: list[str] = []
        self.sections: list[Section] = []
        if path is None:
            return
        try:
            text = read_text(Path(path))
        except ValueError as error:
            raise ConfigError([f"{self.file}: {error}"]) from None
        read = read_json if text.lstrip().startswith("{") else read_ini
        self.sections = read(self.file, text, self.problems)

    @property
    def role(self) -> str | None:
        """C{"server"} or C{"client"}; L{None} if no section tells."""
        kinds = {section.kind for section in self.sections}
        if kinds & SERVER_KINDS:
            return "server"
        return "client" if kinds & CLIENT_KINDS else None

    def expect(self, role: str) -> None:
        """
        Refuse a file that is for the other side, in one line.

        @raise ConfigError: it is.
        """
        if self.role not in (None, role):
            problem = f"this is a {self.role} file: give it to relaytun-{self.role}"
            raise ConfigError([f"{self.file}: {problem}"])

    def all(self, kind: str) -> list[Section]:
        """Get the sections of a kind."""
        return [section for section in self.sections if section.kind == kind]

    def one(self, kind: str, options: Mapping[str, str]) -> Section:
        """
        Get the only section of a kind, an empty one if there is none.

        @param options: from the command line, by the key that each one overrides.
        """
        place_of = partial("{}: [{}] {}".format, self.file, kind) if self.file else _option
        section = next(iter(self.all(kind)), Section(kind, place_of, self.problems))
        section.override(options, _option)
        return section

    def finish(self) -> None:
        """
        End the reading.

        @raise ConfigError: something was noted.
        """
        if self.problems:
            raise ConfigError(self.problems)


def _option(key: str) -> str:
    """Write the option that overrides a key."""
    return "--" + key.removesuffix("_port").replace("_", "-")


def texts(overrides: Mapping[str, str | bool], keys: Mapping[str, str]) -> dict[str, str]:
    """
    Turn options into texts by the keys that they override.

    @param keys: each option that there is, and its key; another one is our bug.
    """
    return {
        keys[option]: ("yes" if value else "no") if isinstance(value, bool) else value
        for option, value in overrides.items()
    }
