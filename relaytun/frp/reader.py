"""
One file of frp's, and those that it includes, as tables; and whose file it is.

Renders templates, tells INI from the other forms, and a server's file from a client's.
What the keys mean is decided in C{server} and C{client}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from relaytun.config.section import one_line
from relaytun.errors import ConfigError
from relaytun.frp import legacy, names
from relaytun.frp.forms import read_tables
from relaytun.frp.table import Table, Tree
from relaytun.frp.template import Renderer

Included = Callable[[str], Iterable[tuple[str, str]]]
"""Gets the name and the text of each file that a pattern of C{includes} means."""

_SERVER_KEYS = frozenset(key.partition(".")[0].lower() for key in names.SERVER.values())
_CLIENT_KEYS = frozenset(key.partition(".")[0].lower() for key in names.CLIENT.values()) | {
    "clientid",
    "proxies",
    "visitors",
}
_PLUGIN = "plugin."


class Reader:
    """
    Reads one file.

    @ivar used: the environment variables whose values are now in what was read.
    @ivar role: C{server} or C{client}, once it is read.
    @ivar is_legacy: whether it is INI.
    """

    def __init__(self, environment: Mapping[str, str], included: Included) -> None:
        self._environment = environment
        self._included = included
        self.used: set[str] = set()
        self.role = ""
        self.is_legacy = False

    def read(self, file: str, text: str) -> list[Table]:
        """
        Read a file.

        @return: its table, and then those of the files that it includes, which have
            proxies and visitors only.
        @raise UserError: it is broken, or nothing tells whose it is.
        """
        text = self._rendered(file, text)
        self.is_legacy = legacy.is_legacy(text)
        if self.is_legacy:
            return [self._legacy(file, legacy.sections(file, text))]
        tree = read_tables(file, text)
        self.role = _role(file, *_keys(tree))
        table = Table(file, "", tree, {})
        if self.role == "server":
            return [table]
        return [
            table,
            *(_traffic(name, read_tables(name, more)) for name, more in self._more(table)),
        ]

    def _legacy(self, file: str, sections: legacy.Sections) -> Table:
        self.role = _role(file, *_legacy_keys(sections))
        if self.role == "server":
            return Table(file, "", legacy.server_tree(sections), names.spelling(names.SERVER))
        spelling = names.spelling(names.CLIENT)
        table = Table(file, "", legacy.client_tree(file, sections), spelling)
        for name, more in self._more(table):
            legacy.add_sections(sections, legacy.sections(name, more))
        return Table(file, "", legacy.client_tree(file, sections), spelling)

    def _more(self, table: Table) -> Sequence[tuple[str, str]]:
        """Get the files that a client's table includes, rendered."""
        found = (each for pattern in table.words("includes") for each in self._included(pattern))
        return [(one_line(name), self._rendered(one_line(name), text)) for name, text in found]

    def _rendered(self, file: str, text: str) -> str:
        renderer = Renderer(file, self._environment)
        rendered = renderer.render(text)
        self.used |= renderer.used
        return rendered


def _traffic(name: str, tree: Tree) -> Table:
    return Table(name, "", {key: tree[key] for key in ("proxies", "visitors") if key in tree}, {})


def _keys(tree: Tree) -> tuple[int, int]:
    """Count the keys that only a server has, and those that only a client has."""
    keys = {key.lower() for key in tree}
    return len(keys & (_SERVER_KEYS - _CLIENT_KEYS)), len(keys & (_CLIENT_KEYS - _SERVER_KEYS))


def _legacy_keys(sections: legacy.Sections) -> tuple[int, int]:
    common = sections.get("common", {})
    server = sum(key in names.SERVER and key not in names.CLIENT for key in common)
    client = sum(key in names.CLIENT and key not in names.SERVER for key in common)
    others = [header for header in sections if header not in ("common", "DEFAULT")]
    plugins = sum(header.startswith(_PLUGIN) for header in others)
    return server + plugins, client + len(others) - plugins


def _role(file: str, server: int, client: int) -> str:
    """Tell whose file it is: by the keys that one side only has, else by its name."""
    if server != client:
        return "server" if server > client else "client"
    match = re.search(r"frp([sc])", file.rpartition("/")[2].lower())
    if match is None:
        raise ConfigError([f"{file}: a server's or a client's? Name it frps.* or frpc.*"])
    return "server" if match[1] == "s" else "client"
