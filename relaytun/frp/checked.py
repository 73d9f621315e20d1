"""
What an import made, checked by our own configuration as C{relaytun check} would.

What is refused is left out with the reason, so that the file that comes out is valid.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from relaytun.config.client import build_client
from relaytun.config.ini import read_ini
from relaytun.config.server import build_server
from relaytun.config.source import Source
from relaytun.errors import ConfigError, UserError
from relaytun.frp.notes import Notes
from relaytun.frp.parts import Part, left_out

_FILE = "imported"
_PROBLEM = re.compile(rf"{_FILE}: \[([^\]]+)\](?: (\S+))?: (.*)", re.DOTALL)
_FILES = ("certificate", "key", "token_file")


def checked(role: str, parts: Sequence[Part], notes: Notes) -> list[Part]:
    """
    Leave out what our configuration refuses, with a remark for each.

    Files that are named, such as a certificate, are looked at as any reader of the
    configuration does.

    @param role: C{server} or C{client}.
    @return: the sections that stay, which make a valid file.
    @raise UserError: the section of the server or client itself would be left out.
    """
    left = [part for part in parts if part.unwritable(notes)]
    while any(part.kind == role for part in left):
        problems = _problems(role, "\n".join(part.text for part in left))
        if not problems:
            return [part for part in left if part.keys or part.kind == role]
        by_header = {part.header: part for part in left}
        if not any(header in by_header for header, _, _ in problems):
            raise UserError(f"what would be written is not valid: {problems[0][2]}")
        gone = {id(part) for part in left if not _repair(by_header, problems, part, notes)}
        left = [part for part in left if id(part) not in gone]
    raise UserError("\n".join(line for line in notes.lines if line.endswith(left_out(False))))


def _problems(role: str, text: str) -> list[tuple[str, str, str]]:
    """Ask the configuration; gets the header, the key and the sentence of each problem."""
    problems: list[str] = []
    source = Source(None)
    source.file = _FILE
    source.problems = problems
    try:
        source.sections = read_ini(_FILE, text, problems)
        (build_server if role == "server" else build_client)(source, {})
    except ConfigError as error:
        return [_place(line) for line in error.problems]
    return []


def _place(line: str) -> tuple[str, str, str]:
    match = _PROBLEM.fullmatch(line)
    return ("", "", line) if match is None else (match[1], match[2] or "", match[3])


def _repair(
    by_header: dict[str, Part], problems: Sequence[tuple[str, str, str]], part: Part, notes: Notes
) -> bool:
    """
    Leave out of a section what is refused.

    @return: whether the section may stay.
    """
    before = part.keys
    for header, key, text in problems:
        if by_header.get(header) is not part or (key in before and key not in part.keys):
            continue
        if key in _FILES:
            part.comment("To be put back where the files are:")
            part.comment_out(*_FILES)
        stays = part.drop(key) and key in before
        notes.add(part.place, key, f"{text}: {left_out(stays)}")
        if not stays:
            return False
    return True
