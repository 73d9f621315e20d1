"""
Where the server listens, in the words of Twisted.

Turns the texts of the configuration into endpoint descriptions; opens nothing.
"""

from __future__ import annotations

from relaytun.config import values


def server_endpoint(text: str, host: str) -> str:
    """
    Write a Twisted stream server endpoint description.

    @param text: a port number, or a description, which is returned as it is.
    @param host: the address to listen on, for a port number.
    @raise ValueError: the text is neither, or asks for TLS, which the control
        port does by itself.
    """
    checked = values.listening(text)
    if ":" in checked:
        return checked
    interface = host.replace(":", r"\:")
    return f"tcp:{checked}:interface={interface}"
