"""The C{relaytun} command as a process, for the tests of its subcommands."""

from __future__ import annotations

import os

from relaytun.config import format_invite, parse_invite

from . import nursery
from .processes import (
    PATIENCE,
    RELAYTUN,
    Echo,
    Process,
    ProcessTestCase,
    dialled,
    receive_exactly,
)


class CommandTestCase(ProcessTestCase):
    """Subcommands that end by themselves, and those that stay."""

    def setUp(self) -> None:
        super().setUp()
        self.echo = Echo()
        self.addCleanup(self.echo.close)

    def relaytun(self, *arguments: str) -> tuple[int, str, str]:
        """Run a subcommand to its end; returns exit code, stdout and stderr."""
        done = nursery.run(
            [*RELAYTUN, *arguments],
            self.folder,
            # Nothing of whoever runs the tests is to be found.
            {**os.environ, "HOME": str(self.folder), "XDG_STATE_HOME": ""},
            PATIENCE,
        )
        self.assertNotIn("Traceback", done.stderr)
        return done.returncode, done.stdout, done.stderr

    def fails(self, *arguments: str) -> str:
        """Run a subcommand that must fail with one line on stderr, which is returned."""
        code, out, err = self.relaytun(*arguments)
        self.assertEqual((code, out), (1, ""), err)
        (line,) = err.splitlines()
        self.assertTrue(line.startswith("relaytun: "), line)
        return line

    def connect(self, *options: str, name: str = "connect") -> Process:
        """Start C{relaytun connect} as client C{guest}."""
        return self.start(name, *RELAYTUN, "connect", *self.connect_options(*options))

    def connect_options(
        self, *options: str, target: str = "provider", service: str = "echo", local: str = "0"
    ) -> tuple[str, ...]:
        config = self.config("guest", "", client="reconnect_interval = 50ms")
        wish = f"--target={target}", f"--service={service}", f"--local={local}"
        return (f"--config={config}", *wish, *options)

    def port_of(self, process: Process) -> int:
        """The local port, once it is open."""
        return int(process.wait_for(r"^127\.0\.0\.1:(\d+) leads to provider/echo$")[1])

    def assert_echo(self, port: int) -> None:
        with dialled(port) as connection:
            connection.sendall(b"hello")
            self.assertEqual(receive_exactly(connection, 5), b"hello")

    def altered_invite(self, **changes: str) -> str:
        """The server's invite with something else in it."""
        address = parse_invite(self.invite)
        fields = {name: getattr(address, name) for name in address.__struct_fields__}
        return format_invite(type(address)(**{**fields, **changes}))
