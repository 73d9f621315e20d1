"""
Parsers from one text to one value: sizes, durations, ports, ids, hosts and the like.

Pure: each takes a text and returns a value or raises C{ValueError} with a
sentence that says what to write instead. No sentence repeats the text, because
it might be a secret or stand for one. Which key takes which parser is not
decided here.
"""

from __future__ import annotations

import ipaddress
import math
import re
import unicodedata
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

ENDPOINT_TYPES = frozenset({"tcp", "tcp6", "unix", "systemd"})
"""The Twisted stream server endpoints that a control or relay port can be."""

WS_PATH = "/relaytun"
"""Where the server's WebSocket is found, unless somebody wants another path."""

NOBODY = "empty: name at least one client, or remove the key to let everyone in"

_SWITCHES = {
    **dict.fromkeys(("yes", "true", "on", "1"), True),
    **dict.fromkeys(("no", "false", "off", "0"), False),
}
_NUMBER = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)")
_SECONDS = {
    "": Fraction(1),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
_BYTES = {"": 1, "b": 1} | {
    f"{letter}{ending}": 1 << 10 * power
    for power, letter in enumerate("kmgt", start=1)
    for ending in ("b", "ib")
}
_LONGEST = 3650 * 86400
_LARGEST_HOST = 255
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOKEN = re.compile(r"[!-~]{1,512}")
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")


def switch(text: str) -> bool:
    """Read yes or no, in any of the spellings that C{configparser} knows."""
    try:
        return _SWITCHES[text.lower()]
    except KeyError:
        raise ValueError("not a yes or no: write yes or no") from None


def _scaled(text: str) -> tuple[Fraction, str]:
    """Split C{"1.5MB"} into its number and its unit."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError
    return Fraction(match[1]), match[2]


def duration(text: str) -> float:
    """Read a time in seconds, zero or more and at most ten years: C{30s}, C{500ms}, C{30}."""
    try:
        number, unit = _scaled(text)
        seconds = float(number * _SECONDS[unit])
    except (ValueError, KeyError):
        raise ValueError(
            "not a time: write a number and ms, s, m, h or d, such as 30s (no unit: seconds)"
        ) from None
    if seconds > _LONGEST:
        raise ValueError("too long a time: at most 3650d")
    return seconds


def positive_duration(text: str) -> float:
    """Read a time in seconds that is more than zero."""
    seconds = duration(text)
    if seconds == 0:
        raise ValueError("must be more than 0: write a time such as 15s")
    return seconds


def size(text: str) -> int:
    """
    Read a number of bytes: C{100}, C{512KB}, C{1.5MB}, C{1GiB}.

    Units are of 1024, in any case. A part of a byte is rounded up, so that
    only a zero, which often means "no limit", comes out as one.
    """
    try:
        number, unit = _scaled(text)
        return math.ceil(number * _BYTES[unit.lower()])
    except (ValueError, KeyError):
        raise ValueError(
            "not a size: write a number and B, KB, MB, GB or TB, such as 10MB (no unit: bytes)"
        ) from None


def count(text: str) -> int:
    """Read a whole number from 1 to 999999999."""
    if re.fullmatch(r"[0-9]{1,9}", text) is None or int(text) == 0:
        raise ValueError("not a count: write a whole number from 1 to 999999999")
    return int(text)


def count_or_zero(text: str) -> int:
    """Read a whole number from 0 to 999999999."""
    if re.fullmatch(r"[0-9]{1,9}", text) is None:
        raise ValueError("not a count: write a whole number from 0 (no limit) to 999999999")
    return int(text)


def port_or_zero(text: str) -> int:
    """Read a port number, or 0 for one that the kernel picks."""
    if re.fullmatch(r"[0-9]{1,5}", text) is None or int(text) > 65535:
        raise ValueError("not a port: write a number from 0 to 65535 (0: the system picks one)")
    return int(text)


def port(text: str) -> int:
    """Read a port number from 1 to 65535."""
    if re.fullmatch(r"[0-9]{1,5}", text) is None or not 1 <= int(text) <= 65535:
        raise ValueError("not a port: write a number from 1 to 65535")
    return int(text)


def listening(text: str) -> str:
    """
    Check where a port of the server listens.

    @return: the text as it is, or, for a plain port number, without leading zeros.
    """
    kind, colon, _ = text.partition(":")
    if not colon:
        try:
            return str(port_or_zero(text))
        except ValueError:
            raise ValueError(
                "not a port: write a number from 0 to 65535 (0: the system picks one), "
                "or a Twisted endpoint description such as tcp:9000"
            ) from None
    if kind in ("ssl", "tls"):
        raise ValueError(
            "relaytun speaks TLS by itself: write tcp: here, "
            "and give a certificate with the keys certificate and key"
        )
    if kind not in ENDPOINT_TYPES:
        raise ValueError(
            f"not an endpoint description: it starts with {_either(*sorted(ENDPOINT_TYPES))} "
            "and a colon, such as tcp:9000:interface=127.0.0.1"
        )
    return text


def identifier(text: str) -> str:
    """Check the id of a client or a service, or the name of a connect section."""
    if _IDENTIFIER.fullmatch(text) is None:
        raise ValueError(
            "not an id: use 1 to 64 letters, digits, dots, underscores and hyphens, "
            "with a letter or digit first"
        )
    return text


def pinned_identifiers(text: str) -> dict[str, str | None]:
    """
    Read ids that are separated by commas or line ends, each with C{@} and a fingerprint or not.

    @return: at least one id, each with its fingerprint or L{None}.
    """
    found: dict[str, str | None] = {}
    for word in words(text):
        name, at, pin = word.partition("@")
        pinned = fingerprint(pin) if at else None
        if found.setdefault(identifier(name), pinned) != pinned:
            raise ValueError("one client is there twice, not the same way: remove one")
    if not found:
        raise ValueError(NOBODY)
    return found


def words(text: str) -> list[str]:
    """Split a list at its commas and line ends."""
    return [word for word in (each.strip() for each in re.split(r"[,\n]", text)) if word]


def host(text: str) -> str:
    """Check a host name or address; an IPv6 address comes without brackets."""
    if not text:
        raise ValueError("the host is empty: write a name or an address")
    if len(text) > _LARGEST_HOST or unprintable(text) or re.search(r"[\s/\\?#@=]", text):
        raise ValueError("not a host: write a name or an address and nothing else")
    if "[" in text or "]" in text:
        raise ValueError("not a host: write an IPv6 address without brackets here")
    if ":" in text:
        try:
            ipaddress.IPv6Address(text)
        except ValueError:
            raise ValueError("not a host: write it without a port") from None
    return text


def bracketed(name: str) -> str:
    """Write a host as a URL has it."""
    return f"[{name}]" if ":" in name else name


def host_and_port(text: str, default: int | None) -> tuple[str, int]:
    """
    Read C{HOST:PORT}, with an IPv6 host in brackets.

    @param default: the port if there is none; L{None} makes that an error.
    """
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in name or (rest and not rest.startswith(":")):
            raise ValueError("not an address: write an IPv6 host as [HOST]:PORT")
        colon, digits = rest[:1], rest[1:]
    else:
        name, colon, digits = text.partition(":")
    if not name:
        raise ValueError("the host is missing: write HOST:PORT, an IPv6 host in brackets")
    if not colon:
        if default is None:
            raise ValueError("the port is missing: write HOST:PORT")
        return host(name), default
    return host(name), port(digits)


def token(text: str) -> str:
    """Check a token, which is never empty."""
    if _TOKEN.fullmatch(text) is None:
        raise ValueError("not a token: use 1 to 512 printable ASCII characters without spaces")
    return text


def fingerprint(text: str) -> str:
    """Read the fingerprint of a certificate, into lower case."""
    if _FINGERPRINT.fullmatch(text.lower()) is None:
        raise ValueError("not a fingerprint: write sha256: and 64 hex digits")
    return text.lower()


def description(text: str) -> str:
    """Check what people are told about a service."""
    if len(text) > 256 or unprintable(text):
        raise ValueError("not a description: at most 256 characters, none of them a control")
    return text


def path(text: str) -> Path:
    """Read a path: C{~} is expanded; a relative one counts from the process's current folder."""
    if "\0" in text:
        raise ValueError("not a path: it has a zero character")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ValueError("there is no such home folder: write the whole path") from None


def one_of(key: str, *choices: str) -> Callable[[str], str]:
    """
    Make a parser of one of a few words.

    @param key: the key that it is for.
    """

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"not a choice: use {key} = {_either(*choices)}")
        return text

    return parse


def _either(*words: str) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def unprintable(text: str) -> bool:
    """Tell whether there is a control character, or half a character that UTF-8 cannot carry."""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)
