"""The one exception of every decoder in C{wire/}."""

from __future__ import annotations


class WireError(Exception):
    """
    What the other side sent breaks the protocol.

    The text is fit to be sent back and logged: it never quotes what came in.
    """
