"""What the tests of imports share: files of frp's as text, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twisted.trial.unittest import SynchronousTestCase

from relaytun.errors import UserError
from relaytun.frp.convert import converted
from relaytun.frp.parts import Part


class Converted:
    """
    What becomes of a file, before our configuration has judged it.

    @ivar sections: each section's lines by its header.
    """

    def __init__(self, role: str, parts: Sequence[Part], notes: Sequence[str]) -> None:
        self.role = role
        self.notes = list(notes)
        self.sections = {part.header: _entries(part) for part in parts}

    def noted(self, *words: str) -> list[str]:
        """Get the remarks that have all of these words in them."""
        return [note for note in self.notes if all(word in note for word in words)]


def _entries(part: Part) -> dict[str, str]:
    entries: dict[str, str] = {}
    key = ""
    for line in part.text.splitlines():
        if line.startswith("    "):
            entries[key] = f"{entries[key]}\n{line.strip()}".strip()
        elif line and line[0] not in ";[":
            key, _, value = (word.strip() for word in line.partition("="))
            entries[key] = value
    return entries


class FrpCase(SynchronousTestCase):
    """Converts texts."""

    def convert(
        self,
        text: str,
        name: str = "frpc.toml",
        environment: Mapping[str, str] | None = None,
        included: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    ) -> Converted:
        """Convert a file without looking at any."""
        role, parts, notes = converted(
            name, text, environment or {}, lambda pattern: (included or {})[pattern]
        )
        return Converted(role, parts, notes.lines)

    def refused(self, text: str, name: str = "frpc.toml", **more: object) -> str:
        """Convert a file that is broken; gets what the user is told."""
        error = self.assertRaises(UserError, self.convert, text, name, **more)
        return str(error)

    def service(self, proxy: str, common: str = "") -> tuple[dict[str, str], Converted]:
        """Convert one C{[[proxies]]} called web; gets its section, empty if there is none."""
        found = self.convert(f'{common}\n[[proxies]]\nname = "web"\nlocalPort = 80\n{proxy}\n')
        return found.sections.get("service:web", {}), found
