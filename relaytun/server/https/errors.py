"""Why there is no certificate: what an order can end with."""

from __future__ import annotations


class Refused(Exception):
    """The authority gives none for this name; the text is its own, so not to be trusted."""


class Unreachable(Exception):
    """The authority gives none at all: it is not there, or takes no orders from us now."""
