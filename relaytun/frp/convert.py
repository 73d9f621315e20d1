"""
From the text of a file of frp's to the text of one of ours, and what there is to say about it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from relaytun.config.section import one_line
from relaytun.frp.checked import checked
from relaytun.frp.client import client_parts
from relaytun.frp.notes import Notes
from relaytun.frp.parts import Part
from relaytun.frp.reader import Included, Reader
from relaytun.frp.server import server_parts

_WIDTH = 100


class Imported(NamedTuple):
    """
    What comes of a file of frp's.

    @ivar role: C{server} or C{client}.
    @ivar text: the whole INI file, with the notes as comments at its top.
    @ivar notes: a line for each thing that is not as it was.
    """

    role: str
    text: str
    notes: Sequence[str]


def import_text(
    file: str, text: str, environment: Mapping[str, str], included: Included
) -> Imported:
    """
    Turn a file of frp's into one of ours, which our configuration accepts.

    @param file: its name, which stands in messages and tells forms and roles apart where
        what is in it does not.
    @param environment: for templates.
    @raise UserError: the file is broken, for frp as well, or not one of frp's.
    """
    file = one_line(file)
    role, parts, notes = converted(file, text, environment, included)
    left = checked(role, parts, notes)
    return Imported(role, _text(file, left, notes), notes.lines)


def converted(
    file: str, text: str, environment: Mapping[str, str], included: Included
) -> tuple[str, list[Part], Notes]:
    """
    Turn a file of frp's into sections of ours, which nobody has checked yet.

    @return: the role, the sections and what there is to say.
    @raise UserError: the file is broken, for frp as well, or not one of frp's.
    """
    notes = Notes()
    reader = Reader(environment, included)
    table, *more = reader.read(file, text)
    if reader.role == "server":
        parts = server_parts(table, notes)
    else:
        parts = client_parts(table, more, notes, legacy=reader.is_legacy)
    for variable in sorted(reader.used):
        why = "its value is in the file now: write ${" + variable + "} to have it read at start"
        notes.add("", variable, why)
    return reader.role, parts, notes


def _text(file: str, parts: Sequence[Part], notes: Notes) -> str:
    out = [f"; Imported from {file.rpartition('/')[2]} of frp."]
    if notes.lines:
        out += [";", "; What is not as it was, and why:"]
    for line in notes.lines:
        out += textwrap.wrap(
            line,
            _WIDTH,
            initial_indent="; * ",
            subsequent_indent=";   ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join([*out, "", *(part.text for part in parts)])
