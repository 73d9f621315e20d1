"""
The four forms of frp's files -> tables: INI, TOML, YAML and JSON.

Tells the forms apart as frp does.  What keys mean is not judged here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from relaytun.config.section import one_line
from relaytun.errors import ConfigError, UserError
from relaytun.frp.table import Tree

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_DEEPEST = 50
_MOST = 100_000
_LARGEST = 2**63


def read_tables(file: str, text: str) -> Tree:
    """
    Read a file that is not INI.

    @param file: its name, whose ending tells how what is broken is judged.
    @raise ConfigError: it is broken.
    @raise UserError: it is YAML, and there is nothing here to read that.
    """
    ending = file.lower().rpartition(".")[2]
    try:
        return _table(file, tomllib.loads(text))
    except (ValueError, RecursionError) as error:
        if ending == "toml":
            raise _broken(file, "TOML", str(error)) from None
    return _table(file, _json(file, text) if text.lstrip().startswith("{") else _yaml(file, text))


def _json(file: str, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(file, "JSON", str(error)) from None


def _yaml(file: str, text: str) -> object:
    try:
        import yaml
    except ImportError:
        raise UserError(
            "reading YAML needs PyYAML: pip install 'relaytun[frp]', or give the file as TOML, "
            "JSON or INI"
        ) from None
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f"line {mark.line + 1}: "
        problem = getattr(error, "problem", None) or "broken"
        raise _broken(file, "YAML", f"{place}{problem}") from None
    if isinstance(found, dict):
        # Frp leaves such keys to whoever wants to keep anchors there.
        return {key: value for key, value in found.items() if not str(key).startswith(".")}
    return found


def _table(file: str, found: object) -> Tree:
    plain = _Plain(file).make(found, _DEEPEST)
    if not isinstance(plain, dict):
        raise ConfigError([f"{file}: not a configuration of frp: it has no keys"])
    return plain


class _Plain:
    """Makes what YAML and JSON give into what TOML does: texts for keys, nothing that is null."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._room = _MOST

    def make(self, found: object, depth: int) -> object:
        self._room -= 1
        # YAML's aliases make a lot out of little.
        if not depth or self._room < 0:
            raise ConfigError([f"{self._file}: more, or deeper, tables than any of frp's"])
        if isinstance(found, Mapping):
            return {
                str(key): self.make(value, depth - 1)
                for key, value in found.items()
                if value is not None
            }
        if isinstance(found, list):
            return [self.make(value, depth - 1) for value in found if value is not None]
        if isinstance(found, int) and abs(found) > _LARGEST:
            raise ConfigError([f"{self._file}: a number that is larger than any of frp's"])
        return found if isinstance(found, (str, int, float, bool)) else str(found)


def _broken(file: str, form: str, problem: str) -> ConfigError:
    return ConfigError([f"{file}: not {form}: {one_line(problem)}"])
