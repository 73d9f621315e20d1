"""Tests of L{relaytun.cli.main}."""

from __future__ import annotations

import click
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from relaytun import __version__
from relaytun.cli.main import relaytun
from relaytun.errors import ConfigError, UserError


class GroupTests(SynchronousTestCase):
    """What holds for all subcommands."""

    def invoke(self, *arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(relaytun, arguments, prog_name="relaytun")
        return result.exit_code, result.stdout, result.stderr

    def failing(self, error: Exception) -> tuple[int, str, str]:
        """Run a subcommand that raises C{error}."""

        @click.command("fail")
        def fail() -> None:
            raise error

        relaytun.add_command(fail)
        self.addCleanup(relaytun.commands.pop, "fail")
        return self.invoke("fail")

    def test_version(self) -> None:
        """The version is the package's."""
        self.assertEqual(self.invoke("--version"), (0, f"relaytun {__version__}\n", ""))

    def test_subcommands(self) -> None:
        """There are the subcommands that work, and no others."""
        self.assertEqual(
            sorted(relaytun.commands),
            [
                "check",
                "clients",
                "connect",
                "demo",
                "doctor",
                "expose",
                "id",
                "import-frp",
                "nat",
                "reload",
                "stats",
                "status",
            ],
        )

    def test_help(self) -> None:
        """Each subcommand explains itself, under either name of the option."""
        for name in relaytun.commands:
            for option in ("-h", "--help"):
                code, out, _ = self.invoke(name, option)
                self.assertEqual(code, 0)
                self.assertIn(f"Usage: relaytun {name} [OPTIONS]", out)

    def test_unknown(self) -> None:
        """A subcommand or an option that does not exist is exit 2 and no traceback."""
        for arguments in (("nonsense",), ("check", "--nonsense"), ("connect",)):
            code, out, err = self.invoke(*arguments)
            self.assertEqual((code, out), (2, ""))
            self.assertIn("Usage: relaytun", err)

    def test_user_error(self) -> None:
        """A mistake of the user's is one line on stderr and exit 1."""
        self.assertEqual(self.failing(UserError("so not")), (1, "", "relaytun: so not\n"))

    def test_config_error(self) -> None:
        """Each problem of a configuration is a line of its own, and the exit code is 2."""
        self.assertEqual(
            self.failing(ConfigError(["one", "two"])), (2, "", "relaytun: one\nrelaytun: two\n")
        )

    def test_no_server(self) -> None:
        """A subcommand that needs a server and is told of none says what to give."""
        for arguments in (
            ("clients",),
            ("connect", "--target", "a", "--service", "b", "--local", "0"),
        ):
            code, out, err = self.invoke(*arguments)
            self.assertEqual((code, out), (2, ""))
            self.assertEqual(
                err,
                "relaytun: --invite: missing: copy the line from <state-dir>/invite on the "
                "server\n",
            )
