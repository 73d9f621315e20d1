"""
JSON text of a client -> sections.

Finds what is wrong with the form: syntax, types, duplicates, unknown keys. What
the values mean is not judged here.

The keys are those of the INI file in camelCase, C{server} as C{serverUrl}; the
sections are the lists C{services} and C{connect} and the object C{hooks}; lists, such
as C{servers}, C{allow} and C{customDomains}, are lists of texts, and headers are
objects. The bare numbers of C{reconnectInterval} and of all other times are
B{milliseconds}, as is the custom of JSON; texts carry a unit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

from relaytun.config.keys import CLIENT_HOOKS, KEYS, NAME_KEYS
from relaytun.config.section import Section, shown, unknown
from relaytun.errors import ConfigError

_LISTS = {"services": "service", "connect": "connect"}


class _Number(str):
    """A number as it is written, so that texts and numbers share their parsers."""


def read_json(file: str, text: str, problems: list[str]) -> list[Section]:
    """
    Read the sections of a JSON file.

    @param file: the file's name for the messages.
    @param problems: where lines about what is wrong are added.
    @return: the client's section, then one for each service and connect, and the hooks.
    @raise ConfigError: it is not JSON at all; with the lines noted so far.
    """
    try:
        document = _parse(file, text, problems)
    except ValueError as error:
        raise ConfigError([*problems, f"{file}: {error}"]) from None
    lists = {name: document.pop(name, None) for name in _LISTS}
    hooks = document.pop("hooks", None)
    also_known = (*_LISTS, "hooks")
    sections = [_section("client", f"{file}: ", document, problems, also_known)]
    for name, items in lists.items():
        if items is not None and not isinstance(items, list):
            problems.append(f"{file}: {name}: must be a list of objects")
            continue
        for index, item in enumerate(items or ()):
            place = f"{file}: {name}[{index}]"
            if isinstance(item, dict):
                sections.append(_section(_LISTS[name], f"{place}.", item, problems))
            else:
                problems.append(f"{place}: must be an object")
    if isinstance(hooks, dict):
        sections.append(_section("hooks", f"{file}: hooks.", hooks, problems))
    elif hooks is not None:
        problems.append(f"{file}: hooks: must be an object")
    return sections


def _parse(file: str, text: str, problems: list[str]) -> dict[str, Any]:
    """Parse an object; duplicates are noted, and the last one counts."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                problems.append(f"{file}: {shown(key)}: is there twice in one object: remove one")
            found[key] = value
        return found

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is not JSON: write a number")

    try:
        document = json.loads(
            text,
            object_pairs_hook=unique,
            parse_constant=refuse,
            parse_int=_Number,
            parse_float=_Number,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise ValueError(f"{where}: not JSON: {error.msg}") from None
    except RecursionError:
        raise ValueError("not JSON for people: it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("must be one JSON object")
    return document


def _section(
    kind: str,
    prefix: str,
    item: dict[str, Any],
    problems: list[str],
    also_known: tuple[str, ...] = (),
) -> Section:
    """Put each value of an object into a section, as a text."""
    section = Section(kind, lambda key: prefix + _camel(kind, key), problems)
    names = (NAME_KEYS[kind], *KEYS[kind]) if kind in NAME_KEYS else KEYS[kind]
    names = CLIENT_HOOKS if kind == "hooks" else names
    keys = {_camel(kind, name): name for name in names}
    for written, value in item.items():
        key = keys.get(written)
        if key is None:
            known = {each: each for each in (*keys, *also_known)}
            problems.append(f"{prefix}{shown(written)}: {unknown('key', written, known)}")
        elif value is not None:
            try:
                section.put(key, _CONVERTERS.get(key, _text)(value))
            except TypeError as error:
                section.put_broken(key, str(error))
    return section


def _camel(kind: str, key: str) -> str:
    if (kind, key) == ("client", "server"):
        return "serverUrl"
    first, *rest = key.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _text(value: object) -> str:
    if isinstance(value, _Number) or not isinstance(value, str):
        raise TypeError("must be a text in double quotes")
    return value


def _text_or_number(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("must be a number")
    return value


def _switch(value: object) -> str:
    if not isinstance(value, bool):
        raise TypeError("must be true or false")
    return "yes" if value else "no"


def _interval(value: object) -> str:
    if isinstance(value, _Number):
        return f"{value}ms"
    if not isinstance(value, str) or value[-1:].isdigit():
        raise TypeError('must be a number of milliseconds, or a text with a unit such as "1s"')
    return value


def _size(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError('must be a number of bytes, or a text with a unit such as "5MB"')
    return value


def _list_of(what: str) -> Callable[[object], str]:
    def lines(value: object) -> str:
        if not isinstance(value, list) or any(
            isinstance(each, _Number) or not isinstance(each, str) or "," in each for each in value
        ):
            raise TypeError(f"must be a list of texts, one for each {what}")
        return "\n".join(value)

    return lines


def _headers(value: object) -> str:
    if not isinstance(value, dict) or any(
        isinstance(text, _Number) or not isinstance(text, str) or "\n" in name + text
        for name, text in value.items()
    ):
        raise TypeError('must be an object of texts of one line, such as {"X-Name": "value"}')
    return "\n".join(f"{name}: {text}" for name, text in value.items())


_CONVERTERS: dict[str, Callable[[object], str]] = {
    "local_port": _text_or_number,
    "remote_port": _text_or_number,
    "auto_reconnect": _switch,
    "reconnect_interval": _interval,
    "heartbeat_interval": _interval,
    "resume_timeout": _interval,
    "drain_timeout": _interval,
    "health_check_interval": _interval,
    "health_check_timeout": _interval,
    "health_check_failures": _text_or_number,
    "bandwidth": _size,
    "bandwidth_up": _size,
    "bandwidth_down": _size,
    "servers": _list_of("server"),
    "allow": _list_of("client"),
    "custom_domains": _list_of("name"),
    "locations": _list_of("path"),
    "request_headers": _headers,
    "response_headers": _headers,
}
