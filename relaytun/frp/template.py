"""
Frp's files are Go templates: this renders the part of that language that frp's users are told of.

That is environment values, the two functions that make ranges of ports, with
their loops, and comments. Anything else is refused by its line, because a half
rendered file would be a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from relaytun.errors import ConfigError
from relaytun.frp.numbers import numbers, pairs

_ACTION = re.compile(r"\{\{(-(?=\s))?\s*(.*?)\s*((?<=\s)-)?\}\}", re.DOTALL)
_ENVIRONMENT = re.compile(r"(?:\$\.|\.)Envs\.(\w+)")
_VARIABLE = re.compile(r"\$(\w*)(?:\.(First|Second))?")
_STRING = r'(?:"([^"\\\n]*)"|`([^`]*)`)'
_LOOP = re.compile(
    r"range\s+(?:\$(\w*)\s*(?:,\s*\$(\w+)\s*)?:=\s*)?"
    rf"(parseNumberRangePair|parseNumberRange)\s+{_STRING}(?:\s+{_STRING})?"
)
_DEEPEST = 3
_LARGEST = 4 * 1024 * 1024


class _Piece(NamedTuple):
    """Text, or an action when C{line} is more than zero."""

    text: str
    line: int


class Renderer:
    """
    Renders one file.

    @ivar used: the environment variables whose values are now in the text.
    """

    def __init__(self, file: str, environment: Mapping[str, str]) -> None:
        self._file = file
        self._environment = environment
        self._room = _LARGEST
        self.used: set[str] = set()

    def render(self, text: str) -> str:
        """
        Render a whole file.

        @raise ConfigError: a variable is not set, or an action is not one of those known here.
        """
        if "{{" not in text:
            return text
        pieces = list(_pieces(text))
        out, rest = self._block(pieces, 0, {}, 0)
        if rest < len(pieces):
            raise self._broken(pieces[rest].line, "an end without a range")
        return out

    def _block(
        self, pieces: list[_Piece], at: int, variables: Mapping[str, object], depth: int
    ) -> tuple[str, int]:
        """Render up to the C{end} that closes this block, or to the end of the file."""
        out: list[str] = []
        while at < len(pieces):
            piece = pieces[at]
            if piece.line and piece.text == "end":
                break
            if piece.line and piece.text.startswith("range"):
                text, at = self._loop(pieces, at, variables, depth)
            else:
                text = self._action(piece, variables, out) if piece.line else piece.text
            self._room -= len(text)
            if self._room < 0:
                raise self._broken(piece.line, "the loops make more text than any file needs")
            out.append(text)
            at += 1
        return "".join(out), at

    def _loop(
        self, pieces: list[_Piece], at: int, variables: Mapping[str, object], depth: int
    ) -> tuple[str, int]:
        line = pieces[at].line
        match = _LOOP.fullmatch(pieces[at].text)
        if match is None or depth == _DEEPEST:
            raise self._unknown(line)
        first, second = match[4] or match[5] or "", match[6] or match[7] or ""
        try:
            values: list[object] = (
                [*pairs(first, second)] if match[3].endswith("Pair") else [*numbers(first)]
            )
        except ValueError as error:
            raise self._broken(line, str(error)) from None
        out = []
        end = at
        for index, value in enumerate(values):
            # With one variable, Go gives it the value and not the index.
            names = {match[1]: index, match[2]: value} if match[2] else {match[1]: value}
            text, end = self._block(pieces, at + 1, {**variables, **names}, depth + 1)
            out.append(text)
        if end == len(pieces):
            raise self._broken(line, "a range without an end")
        return "".join(out), end

    def _action(self, piece: _Piece, variables: Mapping[str, object], out: list[str]) -> str:
        if piece.text.startswith("/*") and piece.text.endswith("*/"):
            return ""
        if match := _ENVIRONMENT.fullmatch(piece.text):
            return self._value(match[1], piece.line, "".join(out))
        if (match := _VARIABLE.fullmatch(piece.text)) and match[1] in variables:
            value = variables[match[1]]
            if isinstance(value, tuple) == bool(match[2]):
                return str(value[match[2] == "Second"] if isinstance(value, tuple) else value)
        raise self._unknown(piece.line)

    def _value(self, name: str, line: int, before: str) -> str:
        if name in self._environment:
            self.used.add(name)
            return self._environment[name]
        if before.rpartition("\n")[2].lstrip().startswith(("#", ";")):
            return ""  # Nobody reads a comment's value.
        raise self._broken(line, f"the environment variable {name} is not set: set it")

    def _unknown(self, line: int) -> ConfigError:
        return self._broken(
            line,
            "a template that is not known here (known: {{ .Envs.NAME }} and range over "
            "parseNumberRangePair or parseNumberRange): write out what it stands for",
        )

    def _broken(self, line: int, problem: str) -> ConfigError:
        return ConfigError([f"{self._file}: line {line}: {problem}"])


def _pieces(text: str) -> Iterator[_Piece]:
    """Split a file, with the blanks gone that an action's C{-} takes with it."""
    at = 0
    trimmed = False
    for match in _ACTION.finditer(text):
        before = text[at : match.start()]
        before = before.lstrip() if trimmed else before
        yield _Piece(before.rstrip() if match[1] else before, 0)
        yield _Piece(match[2].strip(), text.count("\n", 0, match.start()) + 1)
        at = match.end()
        trimmed = bool(match[3])
    yield _Piece(text[at:].lstrip() if trimmed else text[at:], 0)
