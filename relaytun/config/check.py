"""C{relaytun check}: validate a file of either side."""

from __future__ import annotations

from relaytun.config.client import build_client
from relaytun.config.server import build_server
from relaytun.config.source import Source
from relaytun.errors import ConfigError


def check_file(path: str) -> str:
    """
    Validate a file as fully as its server or client would.

    @return: C{"server"} or C{"client"}: whose file it is.
    @raise ConfigError: with a line for each thing that is wrong.
    """
    source = Source(path)
    role = source.role
    if role is None:
        source.finish()
        has = "only [hooks]" if source.sections else "no section"
        raise ConfigError([f"{source.file}: has {has}: start with [server] or [client]"])
    if role == "server":
        build_server(source, {})
    else:
        build_client(source, {})
    return role
