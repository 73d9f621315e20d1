"""
Frp's INI files -> the tables that its TOML files have.

An INI file is one with a C{[common]} section.  Its keys are case-sensitive,
comments behind values are part of them, a key may stand alone for C{true}, and
C{[range:x]} stands for C{x_0}, C{x_1} and so on.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping

from relaytun.errors import ConfigError
from relaytun.frp import names
from relaytun.frp.numbers import pairs
from relaytun.frp.table import FOREIGN, Tree

_COMMON = re.compile(r"^[ \t]*\[common\]", re.MULTILINE)
_RANGE = "range:"
_PLUGIN = "plugin."
_Section = dict[str, str]
Sections = dict[str, _Section]
"""The texts of each section by its header and key."""


def is_legacy(text: str) -> bool:
    """Tell whether a file is in the INI form."""
    return _COMMON.search(text) is not None


def sections(file: str, text: str) -> Sections:
    """
    Read an INI file's sections; one that is there twice is one, and its later keys win.

    @raise ConfigError: a line is broken.
    """
    parser = configparser.RawConfigParser(
        strict=False,
        default_section="",
        comment_prefixes=("#", ";"),
        allow_no_value=True,
        empty_lines_in_values=False,
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        # A blank at the start of a line means nothing to frp, and a continuation to this parser.
        parser.read_string("\n".join(line.strip() for line in text.splitlines()))
    except configparser.MissingSectionHeaderError as error:
        problem = "comes before any section: put it under [common] or a proxy"
        raise ConfigError([f"{file}: line {error.lineno}: {problem}"]) from None
    except configparser.ParsingError as error:
        lines = (f"{file}: line {line}: not a key = value" for line, _ in error.errors)
        raise ConfigError([*lines]) from None
    return {
        header: {
            key: "true" if value is None else _unquoted(value)
            for key, value in parser.items(header)
        }
        for header in parser.sections()
    }


def add_sections(found: Sections, more: Sections) -> None:
    """Add the proxies and visitors of an included file, as if its lines stood behind."""
    for header, section in more.items():
        if header != "common":
            found.setdefault(header, {}).update(section)


def server_tree(found: Sections) -> Tree:
    """Make the tables of a frps.ini."""
    tree = _tree(found.get("common", {}), names.SERVER, names.SERVER_PREFIXES)
    plugins = [header for header in found if header.startswith(_PLUGIN)]
    if plugins:
        tree["httpPlugins"] = [{"name": header.removeprefix(_PLUGIN)} for header in plugins]
    return tree


def client_tree(file: str, found: Sections) -> Tree:
    """
    Make the tables of a frpc.ini, or of a file that one includes.

    @raise ConfigError: a range is broken, or a role unknown.
    """
    tree = _tree(found.get("common", {}), names.CLIENT, names.CLIENT_PREFIXES)
    proxies: list[object] = []
    visitors: list[object] = []
    for header, section in _expanded(file, found).items():
        role = section.get("role") or "server"
        if role not in ("server", "visitor"):
            problem = "the role is neither server nor visitor"
            raise ConfigError([f"{file}: {header}: role: {problem}"])
        into, known = (proxies, names.PROXY) if role == "server" else (visitors, names.VISITOR)
        each = _tree({"type": "tcp", **section}, known, names.PROXY_PREFIXES)
        each["name"] = header
        each.pop("role", None)
        into.append(each)
    return {**tree, "proxies": proxies, "visitors": visitors}


def _expanded(file: str, found: Sections) -> Sections:
    """Put the sections in place that a C{[range:x]} stands for, over those that are there."""
    out: Sections = {
        header: dict(section)
        for header, section in found.items()
        if header not in ("common", "DEFAULT") and not header.startswith(_RANGE)
    }
    for header, section in found.items():
        if not header.startswith(_RANGE):
            continue
        try:
            ports = pairs(section.get("local_port", ""), section.get("remote_port", ""))
        except ValueError as error:
            raise ConfigError(
                [f"{file}: [{header}]: local_port and remote_port: {error}"]
            ) from None
        prefix = header.removeprefix(_RANGE).strip()
        for index, (local, remote) in enumerate(ports):
            own = {**section, "local_port": str(local), "remote_port": str(remote)}
            out.setdefault(f"{prefix}_{index}", {}).update(own)
    return out


def _tree(
    section: Mapping[str, str], known: Mapping[str, str], prefixes: Mapping[str, str]
) -> Tree:
    tree: Tree = {}
    for key, value in section.items():
        if key in known:
            _put(tree, known[key].split("."), value)
            continue
        prefix = next((each for each in prefixes if key.startswith(each) and key != each), None)
        if prefix is None:
            tree[FOREIGN + key] = value
        else:
            _put(tree, [*prefixes[prefix].split("."), key.removeprefix(prefix)], value)
    return tree


def _put(tree: Tree, path: list[str], value: str) -> None:
    *tables, last = path
    for name in tables:
        table = tree.setdefault(name, {})
        assert isinstance(table, dict)
        tree = table
    tree[last] = value


def _unquoted(value: str) -> str:
    """Take the quotes off a value, as frp does."""
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'`":
        return value[1:-1]
    return value
