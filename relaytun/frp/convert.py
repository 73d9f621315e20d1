"""
From the text of a file of frp's to the text of one of ours, and what there is to say about it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from relaytun.config.section import one_line
from relaytun.errors import ConfigError
from relaytun.frp import legacy, names
from relaytun.frp.checked import checked
from relaytun.frp.client import client_parts
from relaytun.frp.forms import read_tables
from relaytun.frp.notes import Notes
from relaytun.frp.parts import Part
from relaytun.frp.server import server_parts
from relaytun.frp.table import Table, Tree
from relaytun.frp.template import Renderer

Included = Callable[[str], Iterable[tuple[str, str]]]
"""Gets the name and the text of each file that a pattern of C{includes} means."""

_WIDTH = 100
_SERVER_KEYS = frozenset(key.partition(".")[0] for key in names.SERVER.values())
_CLIENT_KEYS = frozenset(key.partition(".")[0] for key in names.CLIENT.values()) | {
    "clientID",
    "proxies",
    "visitors",
}


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
    renderer = Renderer(file, environment)
    rendered = renderer.render(text)
    is_legacy = legacy.is_legacy(rendered)
    sections = legacy.sections(file, rendered) if is_legacy else {}
    tree = {} if is_legacy else read_tables(file, rendered)
    role = _role(file, tree, sections)
    if role == "server":
        tree = legacy.server_tree(sections) if is_legacy else tree
        parts = server_parts(_table(file, tree, names.SERVER, is_legacy), notes)
    else:
        tree = legacy.client_tree(file, sections) if is_legacy else tree
        table = _table(file, tree, names.CLIENT, is_legacy)
        more = [
            _included(name, extra, environment, is_legacy, renderer.used)
            for pattern in table.words("includes")
            for name, extra in included(pattern)
        ]
        parts = client_parts(table, more, notes, legacy=is_legacy)
    for variable in sorted(renderer.used):
        why = "its value is in the file now: write ${" + variable + "} to have it read at start"
        notes.add("", variable, why)
    return role, parts, notes


def _included(
    name: str, text: str, environment: Mapping[str, str], is_legacy: bool, used: set[str]
) -> Table:
    name = one_line(name)
    renderer = Renderer(name, environment)
    rendered = renderer.render(text)
    used |= renderer.used
    if is_legacy:
        tree = legacy.client_tree(name, legacy.sections(name, rendered))
    else:
        tree = read_tables(name, rendered)
    return Table(name, "", {key: tree[key] for key in ("proxies", "visitors") if key in tree}, {})


def _table(file: str, tree: Tree, known: Mapping[str, str], is_legacy: bool) -> Table:
    return Table(file, "", tree, names.spelling(known) if is_legacy else {})


def _role(file: str, tree: Tree, sections: Mapping[str, Mapping[str, str]]) -> str:
    """Tell whose file it is: by the keys that one side only has, else by its name."""
    if sections:
        common = sections.get("common", {})
        server = sum(key in names.SERVER and key not in names.CLIENT for key in common)
        client = sum(key in names.CLIENT and key not in names.SERVER for key in common)
        server += any(header.startswith("plugin.") for header in sections)
        client += any(
            header not in ("common", "DEFAULT") and not header.startswith("plugin.")
            for header in sections
        )
    else:
        keys = {key.lower() for key in tree}
        server = len(keys & {key.lower() for key in _SERVER_KEYS - _CLIENT_KEYS})
        client = len(keys & {key.lower() for key in _CLIENT_KEYS - _SERVER_KEYS})
    if server != client:
        return "server" if server > client else "client"
    match = re.search(r"frp([sc])", file.rpartition("/")[2].lower())
    if match is None:
        problem = "a server's or a client's? Name it frps.* or frpc.*"
        raise ConfigError([f"{file}: {problem}"])
    return "server" if match[1] == "s" else "client"


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
