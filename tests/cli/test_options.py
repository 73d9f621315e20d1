"""Tests of L{relaytun.cli.options}."""

from __future__ import annotations

import click
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from relaytun.cli.options import (
    IDENTIFIER,
    LOCAL_ADDRESS,
    client_config,
    client_options,
    local_address,
)
from tests.config.support import INVITE, ConfigCase


class LocalAddressTests(SynchronousTestCase):
    """C{--local}."""

    def test_good(self) -> None:
        """A port alone is on loopback; a host may stand in front of it."""
        for text, address in {
            "3000": ("127.0.0.1", 3000),
            "0": ("127.0.0.1", 0),
            "0.0.0.0:80": ("0.0.0.0", 80),
            "localhost:65535": ("localhost", 65535),
            "[::1]:3000": ("::1", 3000),
        }.items():
            self.assertEqual(local_address(text), address)

    def test_bad(self) -> None:
        """Anything else is an error that says what to write."""
        for text, saying in {
            "": "not a port",
            "x": "not a port",
            "65536": "not a port",
            "-1": "not a port",
            "localhost": "not a port",
            "localhost:": "not a port",
            ":3000": "the host is empty",
            "::1": r"IPv6 host as \[HOST\]:PORT",
            "a:b:3000": r"IPv6 host as \[HOST\]:PORT",
            "a b:3000": "not a host",
        }.items():
            with self.assertRaisesRegex(ValueError, saying):
                local_address(text)


class TypeTests(SynchronousTestCase):
    """Values of options are judged as those of a file are."""

    def test_wrong_value(self) -> None:
        """A wrong value is click's usage error, with the sentence of the parser."""

        @click.command()
        @click.option("--service", type=IDENTIFIER)
        @click.option("--local", type=LOCAL_ADDRESS, default=("127.0.0.1", 1))
        def command(service: str, local: tuple[str, int]) -> None:
            click.echo(f"{service} {local}")

        self.assertEqual(
            CliRunner().invoke(command, ["--service", "web"]).stdout, "web ('127.0.0.1', 1)\n"
        )
        result = CliRunner().invoke(command, ["--service", "no/good"])
        self.assertEqual(result.exit_code, 2)
        self.assertIn("Invalid value for '--service': not an id: use 1 to 64", result.stderr)


class ClientOptionTests(ConfigCase):
    """C{--config}, C{--invite}, C{--client-id}, C{--state-dir}."""

    def test_options_win(self) -> None:
        """What stands on the command line wins over the file, and what does not leaves it."""

        @click.command()
        @client_options
        def command(**options: str | None) -> None:
            config = client_config(**options)
            click.echo(f"{config.client_id} {config.state_dir} {config.server.host}")

        path = self.write(
            "a.ini", f"[client]\ninvite = {INVITE}\nclient_id = ann\nstate_dir = /a\n"
        )
        for arguments, output in (
            ((), "ann /a relay.example.com\n"),
            (("--client-id", "bob"), "bob /a relay.example.com\n"),
            (("--state-dir", "/b"), "ann /b relay.example.com\n"),
            (
                ("--invite", INVITE.replace("relay.example.com", "other")),
                "ann /a other\n",
            ),
        ):
            result = CliRunner().invoke(command, ["--config", path, *arguments])
            self.assertEqual((result.stdout, result.stderr), (output, ""))
