"""
Options that several subcommands share, and the types of their values.

What an option may be is judged by the parsers of L{relaytun.config}, as in a file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..config import ClientConfig, domains, load_client, values

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Parsed(click.ParamType):  # type: ignore[type-arg]
    """A value that a function makes of the text, or says what is wrong with it."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self._parse(value) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(str(error), param, ctx)


def local_address(text: str) -> tuple[str, int]:
    """
    Read C{PORT} or C{HOST:PORT}; an IPv6 host is in brackets, port 0 is one that the kernel picks.

    @raise ValueError: the text is neither.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        return "127.0.0.1", values.port_or_zero(port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("not an address: write an IPv6 host as [HOST]:PORT")
    return values.host(host), values.port_or_zero(port)


IDENTIFIER = _Parsed("id", values.identifier)
FINGERPRINT = _Parsed("sha256:...", values.fingerprint)
LOCAL_ADDRESS = _Parsed("[host:]port", local_address)
PORT_OR_ZERO = _Parsed("port", values.port_or_zero)
DOMAIN = _Parsed("name", domains.wildcard_domain)
SUBDOMAIN = _Parsed("name", domains.subdomain)

config_option = click.option("--config", "-c", metavar="FILE", help="Configuration file.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
state_dir_option = click.option(
    "--state-dir", metavar="DIR", help="Where identity and control socket are."
)


def client_options(command: _Command) -> _Command:
    """Add what tells which server to use, and who one is there."""
    for option in (
        state_dir_option,
        click.option("--client-id", metavar="ID", help="The name to be known by."),
        click.option("--invite", help="The server's invite, relaytun://TOKEN@HOST:PORT?fp=..."),
        config_option,
    ):
        command = option(command)
    return command


def client_config(config: str | None, **options: str | None) -> ClientConfig:
    """
    The configuration that the values of L{client_options} make.

    @raise ConfigError: with a line for each thing that is wrong.
    """
    given = {name: value for name, value in options.items() if value is not None}
    return load_client(config, given)
