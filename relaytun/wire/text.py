"""Text from the network made fit for a log line or a terminal."""

from __future__ import annotations

import unicodedata

#: Unicode categories that can forge a log line or reorder what a reader sees: controls (Cc),
#: format characters such as the bidi overrides (Cf), surrogates, private use, unassigned,
#: line and paragraph separators.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, limit: int = 200) -> str:
    r"""
    Escape what a terminal would obey, and cut what is too long.

    >>> printable("a\x1b[31m")
    'a\\x1b[31m'

    @param limit: the most characters of C{text} that are kept; a cut is marked with C{...}.
    """
    kept = text[:limit]
    escaped = "".join(
        character
        if unicodedata.category(character) not in _UNPRINTABLE
        else character.encode("unicode_escape").decode("ascii")
        for character in kept
    )
    return escaped + "..." if len(text) > limit else escaped
