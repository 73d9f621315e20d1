"""
The sections of our INI file that an import makes, and their text.

A value that the form of the file cannot carry is left out with a remark; what values
mean is for L{relaytun.config} to judge.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from relaytun.config.section import one_line
from relaytun.frp.notes import Notes

NEEDED = {
    "server": frozenset({"control_port", "relay_port"}),
    "client": frozenset({"server"}),
    "service": frozenset(
        {
            "protocol",
            "local_host",
            "local_port",
            "allow",
            "mode",
            "locations",
            "http_user",
            "http_password",
            "group",
            "group_key",
        }
    ),
    "connect": frozenset({"target", "service", "local_host", "local_port"}),
}
"""The keys without which a section is wrong, or lets in those whom its user keeps out."""

_TOGETHER = {
    "certificate": ("key",),
    "key": ("certificate",),
    "health_check": ("health_check_interval", "health_check_timeout", "health_check_failures"),
}
_COMMENT = re.compile(r"(?:^|\s)[;#]")


class Part:
    """
    One section.

    @ivar header: without the brackets, such as C{service:web}.
    @ivar place: what remarks call it: the name that frp's file gives it; may be empty.
    """

    def __init__(self, header: str, place: str) -> None:
        self.header = header
        self.place = place
        self._lines: dict[str, Sequence[str]] = {}
        self._comments: list[str] = []

    @property
    def kind(self) -> str:
        """The kind of section."""
        return self.header.partition(":")[0]

    @property
    def keys(self) -> list[str]:
        """The keys that are in it."""
        return list(self._lines)

    def put(self, key: str, *lines: str) -> None:
        """Write a value, of several lines for some keys; one that is empty is not written."""
        if any(lines):
            self._lines[key] = lines

    def comment(self, text: str) -> None:
        """Say something to whoever reads the section."""
        self._comments.append(one_line(text))

    def comment_out(self, *keys: str) -> None:
        """Show in comments what these keys are."""
        for key in keys:
            self._comments += [f"{key} = {line}" for line in self._lines.get(key, ())]

    def drop(self, key: str) -> bool:
        """
        Leave a key out, and those that mean nothing without it.

        @return: whether the section may stay without it.
        """
        for each in (key, *_TOGETHER.get(key, ())):
            self._lines.pop(each, None)
        return key not in NEEDED.get(self.kind, frozenset())

    def unwritable(self, notes: Notes) -> bool:
        """
        Leave out what an INI file of ours cannot carry.

        @return: whether the section may stay.
        """
        for key, lines in list(self._lines.items()):
            if key not in self._lines:
                continue
            problem = next((found for line in lines if (found := _problem(line))), "")
            if problem:
                stays = self.drop(key)
                notes.add(self.place, key, f"{problem}: {left_out(stays)}")
                if not stays:
                    return False
        return True

    @property
    def text(self) -> str:
        """The section as it stands in the file."""
        out = [f"; {comment}" for comment in self._comments]
        out.append(f"[{self.header}]")
        for key, lines in self._lines.items():
            if len(lines) == 1:
                out.append(f"{key} = {lines[0]}")
            else:
                out += [f"{key} =", *(f"    {line}" for line in lines)]
        return "\n".join(out) + "\n"


def left_out(stays: bool) -> str:
    """Say what a problem with a key comes to."""
    return "left out" if stays else "so the whole section is left out"


def _problem(line: str) -> str:
    if line != line.strip() or any(unicodedata.category(each) in ("Cc", "Cs") for each in line):
        return "blanks around it or control characters cannot be written here"
    if "${" in line:
        return "${ would stand for a variable of the environment here"
    if _COMMENT.search(line):
        return "a ; or # after a blank would start a comment here"
    return ""
