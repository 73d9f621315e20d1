"""A disk without any room: public ports serve, and the log says what cannot be kept."""

from __future__ import annotations

import contextlib
import os
import subprocess

from twisted.trial.unittest import SkipTest

from .processes import Echo, needs, program
from .public import ALLOWED, Publishing


class Full(Publishing):
    """The server's state directory is a very small file system."""

    def test_full(self) -> None:
        """What runs goes on, who comes is served, and so is a server that starts then."""
        needs("mount", "umount")
        if os.geteuid() != 0:
            raise SkipTest("only root may mount a file system")
        state = self.folder / "server"
        state.mkdir()
        mount = [program("mount"), "-t", "tmpfs", "-o", "size=400k", "none", str(state)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            raise SkipTest("no file system may be mounted here")
        self.addCleanup(subprocess.run, [program("umount"), "-l", str(state)], check=True)
        config = f"[public]\nallow_ports = {ALLOWED}\n"
        echo = Echo()
        self.addCleanup(echo.close)
        server = self.start_server(config=config)
        port = self.port(self.provider(echo.port, name="before"))
        with contextlib.suppress(OSError), open(state / "filling", "wb", buffering=0) as filling:
            while filling.write(bytes(4096)):
                pass
        after = self.port(self.provider(echo.port, name="after"))
        server.wait_for("cannot keep whose tcp .* is: database or disk is full")
        server.wait_for("cannot keep that after belongs to .*: database or disk is full")
        for each in (port, after):
            self.assert_echo(each)
        self.assertEqual(server.stop(), -15)
        self.assertNotIn("Traceback", server.output)
        again = self.start_server(config=config)
        self.assertIn("No space left on device; the invite is in this log only", again.output)
        self.assertNotIn("Traceback", again.output)
