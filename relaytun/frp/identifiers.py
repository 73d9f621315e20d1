"""
Frp's names -> ids of ours.

The same name becomes the same id in every file, so that who visits a service, in
another file, still finds it.
"""

from __future__ import annotations

import hashlib
import re

from relaytun.config import values
from relaytun.frp.notes import Notes
from relaytun.frp.parts import Part

_LONGEST = 64


def identifier(name: str, kind: str) -> str:
    """
    Make an id of a name.

    @param kind: what it starts with if nothing of the name is left.
    """
    try:
        return values.identifier(name)
    except ValueError:
        pass
    found = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")
    found = re.sub(r"^[^A-Za-z0-9]+", "", found)
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    if not found:
        return f"{kind}-{digest}"
    return found if len(found) <= _LONGEST else f"{found[: _LONGEST - 9]}-{digest}"


def named_part(kind: str, name: str, place: str, notes: Notes) -> Part:
    """Make a section of an id like a name of frp's; a remark says so if it is another."""
    found = identifier(name, kind)
    if found != name:
        notes.add(place, "name", f"is no id here: it is {found} now")
    return Part(f"{kind}:{found}", place)


class Identifiers:
    """Ids of one kind, no two the same."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._taken: set[str] = set()

    def take(self, name: str) -> str:
        """Make an id that nothing else has, by a number behind it if need be."""
        wish = identifier(name, self._kind)
        found = wish
        number = 2
        while found in self._taken:
            ending = f"-{number}"
            found = wish[: _LONGEST - len(ending)] + ending
            number += 1
        self._taken.add(found)
        return found
