"""
INI text -> sections.

Finds what is wrong with the form: broken lines, duplicates, unknown sections
and keys. What the values mean is not judged here.

Comments start with C{;} or C{#}, at the start of a line or after a blank.
"""

from __future__ import annotations

import configparser
from functools import partial

from relaytun.config.keys import KEYS, NAME_KEYS
from relaytun.config.section import Section, one_line, shown, unknown
from relaytun.errors import ConfigError

_HEADERS = {
    kind: f"[{kind}:{NAME_KEYS[kind].upper()}]" if kind in NAME_KEYS else f"[{kind}]"
    for kind in KEYS
}


def read_ini(file: str, text: str, problems: list[str]) -> list[Section]:
    """
    Read the sections of an INI file, in order.

    @param file: the file's name for the messages.
    @param problems: where lines about what is wrong are added.
    @return: the sections of known kinds.
    @raise ConfigError: a line is broken; with the lines noted so far.
    """
    parser = _parse(file, text, problems)
    sections = [_section(file, parser, header, problems) for header in parser.sections()]
    return [section for section in sections if section is not None]


def _parse(
    file: str, text: str, problems: list[str], *, strict: bool = True
) -> configparser.RawConfigParser:
    """Parse strictly; if something is there twice, note it and parse again with the last one."""
    parser = configparser.RawConfigParser(
        strict=strict,
        default_section="",
        inline_comment_prefixes=(";", "#"),
        empty_lines_in_values=False,
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(text)
    except configparser.DuplicateSectionError as error:
        place = f"line {error.lineno}: [{one_line(error.section)}]"
        problems.append(f"{file}: {place}: is there twice: put the two together")
        return _parse(file, text, problems, strict=False)
    except configparser.DuplicateOptionError as error:
        place = f"line {error.lineno}: [{one_line(error.section)}] {shown(error.option)}"
        problems.append(f"{file}: {place}: is there twice: remove one")
        return _parse(file, text, problems, strict=False)
    except configparser.MissingSectionHeaderError as error:
        problem = "comes before any section: start with a line such as [server] or [client]"
        raise ConfigError([*problems, f"{file}: line {error.lineno}: {problem}"]) from None
    except configparser.ParsingError as error:
        problem = "not a [section], a key = value or a comment"
        lines = [f"{file}: line {number}: {problem}" for number, _ in error.errors]
        raise ConfigError([*problems, *lines]) from None
    return parser


def _section(
    file: str, parser: configparser.RawConfigParser, header: str, problems: list[str]
) -> Section | None:
    kind, colon, name = header.partition(":")
    label = f"{file}: [{one_line(header)}]"
    name_key = NAME_KEYS.get(kind)
    if kind not in KEYS or (colon and name_key is None):
        problems.append(f"{label}: {unknown('section', kind, _HEADERS)}")
        return None
    section = Section(kind, partial("{} {}".format, label), problems)
    for key, value in parser.items(header):
        if key in KEYS[kind]:
            section.put(key, value)
        else:
            section.note(shown(key), unknown("key", key, {each: each for each in KEYS[kind]}))
    if name_key is not None:
        section.override({name_key: name}, lambda _: label)
    return section
