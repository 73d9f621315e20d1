"""
The head of one HTTP/1.1 message: its first line and its fields, taken strictly.

For the two short conversations that come before a tunnel's bytes: the opening handshake of a
WebSocket and the C{CONNECT} of a proxy.  What follows the head is left alone: no bodies, no
second message.  Whoever serves HTTP uses a library for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import WireError

#: The longest head, in bytes, that is taken.
MAX_HEAD = 16 * 1024

_END = b"\r\n\r\n"
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_START = re.compile(r"[\x20-\x7e\x80-\xff]+")
_STATUS = re.compile(r"HTTP/1\.[01] ([1-5][0-9][0-9])( .*)?")
_REQUEST = re.compile(r"([A-Z]+) ([\x21-\x7e]+) HTTP/1\.1")


class HeadTooLong(WireError):
    """It has more than L{MAX_HEAD} bytes."""


@dataclass(frozen=True, slots=True)
class Head:
    """
    @ivar start: the first line.
    @ivar fields: names (in lower case) and values, in their order.
    """

    start: str
    fields: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        """
        The value of the field C{name} (in lower case).

        @raise WireError: if there is more than one.
        """
        values = [value for each, value in self.fields if each == name]
        if len(values) > 1:
            raise WireError("a field that may be there once is there twice")
        return values[0] if values else None

    def names(self, name: str) -> list[str]:
        """The words of a list field, in lower case, however many fields it is spread over."""
        joined = ",".join(value for each, value in self.fields if each == name)
        return [word for word in (part.strip().lower() for part in joined.split(",")) if word]

    def request(self) -> tuple[str, str]:
        """
        Method and target of a request.

        @raise WireError: if it is none of HTTP/1.1.
        """
        match = _REQUEST.fullmatch(self.start)
        if match is None:
            raise WireError("that is no HTTP/1.1 request")
        return match[1], match[2]

    def status(self) -> int:
        """
        The status of a response.

        @raise WireError: if it is none of HTTP/1.
        """
        match = _STATUS.fullmatch(self.start)
        if match is None:
            raise WireError("that is no HTTP response")
        return int(match[1])


class HeadReader:
    """
    Gathers one head.

    @ivar rest: the bytes that came behind it.
    """

    def __init__(self) -> None:
        self._data = b""
        self.rest = b""

    def feed(self, data: bytes) -> Head | None:
        """
        More bytes; none after the head is whole.

        @return: the head, once it is whole.
        @raise HeadTooLong: (a L{WireError}) if it is.
        @raise WireError: if it is no head.
        """
        seen = max(0, len(self._data) - len(_END) + 1)
        self._data += data
        end = self._data.find(_END, seen)
        if end > MAX_HEAD or (end < 0 and len(self._data) > MAX_HEAD):
            raise HeadTooLong(f"a head has at most {MAX_HEAD} bytes")
        if end < 0:
            return None
        self.rest = self._data[end + len(_END) :]
        start, *lines = self._data[:end].decode("latin-1").split("\r\n")
        if not _START.fullmatch(start):
            raise WireError("the first line is no line of HTTP")
        return Head(start, tuple(_field(line) for line in lines))


def _field(line: str) -> tuple[str, str]:
    match = _FIELD.fullmatch(line)
    if match is None:
        raise WireError("a line of the head is no field")
    return match[1].lower(), match[2].rstrip(" \t")


def write(start: str, *fields: tuple[str, str]) -> bytes:
    """The bytes of a head; what goes in is the caller's own and fit for it."""
    lines = [start, *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")
