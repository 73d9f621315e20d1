"""How the daemons end, and how they refuse to begin."""

from __future__ import annotations

import signal
import socket
import time

from .processes import TWISTD, Process, ProcessTestCase, dialled, eventually
from .services import ask_source, take

#: Seconds that a daemon may take to end; its good-bye to a server that hangs has three.
END = 5.0
LONG = 1024 * 1024 * 1024
#: twistd ends by the signal that it was sent, once it is done.
IN_ORDER = {0, -signal.SIGTERM}


class Stop(ProcessTestCase):
    def test_sigterm(self) -> None:
        """Each ends soon on SIGTERM with a stream under way, says no traceback, and can begin."""
        _, service = self.start_service("source")
        server = self.start_server()
        provider = self.start_provider(service, "source")
        visitor, port = self.start_visitor("source")
        for daemon in (visitor, provider, server):
            with dialled(port) as connection:
                ask_source(connection, LONG)
                take(connection, 1024 * 1024)
                self.check_end(daemon)
            if daemon is visitor:
                visitor, port = self.start_visitor("source")
            elif daemon is provider:
                provider = self.start_provider(service, "source")
                # Its visitor learns of the new one by its next stream at the latest.
                self.assert_eventually_carries(port)
        self.start_server()
        for daemon in (visitor, provider):
            self.check_end(daemon)

    def test_sigterm_without_server(self) -> None:
        """A client whose server is gone ends just as soon."""
        _, service = self.start_service("source")
        server = self.start_server()
        provider = self.start_provider(service, "source")
        server.kill()
        provider.wait_for("next attempt in")
        self.check_end(provider)

    def test_sigterm_with_hanging_server(self) -> None:
        """A client whose server hangs ends just as soon."""
        _, service = self.start_service("source")
        server = self.start_server()
        provider = self.start_provider(service, "source")
        server.signal(signal.SIGSTOP)
        self.addCleanup(server.signal, signal.SIGCONT)
        self.check_end(provider)

    def check_end(self, daemon: Process) -> None:
        """SIGTERM ends it in time and in order."""
        begin = time.monotonic()
        self.assertIn(daemon.stop(), IN_ORDER, daemon.output)
        self.assertLess(time.monotonic() - begin, END)
        self.assertNotIn("Traceback", daemon.output)

    def assert_eventually_carries(self, port: int) -> None:
        """A stream works, now or soon."""

        def works() -> bool:
            try:
                with dialled(port) as connection:
                    ask_source(connection, 1024)
                    return take(connection, 1024) == 1024
            except OSError:
                return False

        eventually(works, lambda: "no stream comes through")


class Refuse(ProcessTestCase):
    def refused(self, role: str, *options: str) -> str:
        """Start a daemon that cannot run; returns the line on its stderr."""
        daemon = self.start(
            role, *TWISTD, "-n", "--pidfile=", "--logfile=twistd.log", f"relaytun-{role}", *options
        )
        self.assertNotIn(daemon.wait(), IN_ORDER)
        self.assertEqual(len(daemon.lines), 1, daemon.output)
        return daemon.lines[0]

    def server_options(self, state: str, control: object = 0, relay: object = 0) -> list[str]:
        """The least that a server needs."""
        return [
            f"--state-dir={self.folder / state}",
            f"--control={control}",
            f"--relay={relay}",
            "--host=127.0.0.1",
        ]

    def test_second_server(self) -> None:
        """A second server with the same state directory is refused, and the first lives on."""
        server = self.start_server()
        line = self.refused("server", *self.server_options("server"))
        self.assertRegex(line, f"another relaytun process .pid {server.pid}. uses")
        self.start_client("provider", "")

    def test_second_client(self) -> None:
        """A second client with the same state directory is refused."""
        self.start_server()
        client = self.start_client("provider", "")
        line = self.refused("client", f"--config={self.folder}/provider.ini")
        self.assertRegex(line, f"another relaytun process .pid {client.pid}. uses")
        self.assertTrue(self.status("provider")["connected"])

    def test_busy_ports(self) -> None:
        """A port that is busy is one line and the end, for each port that there is."""
        self.start_server()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            busy = taken.getsockname()[1]
            for ports in ({"control": busy}, {"relay": busy}):
                line = self.refused("server", *self.server_options("other", **ports))
                self.assertRegex(line, f"cannot listen on .*{busy}.*: Address already in use")
            path = self.config(
                "visitor",
                f"[connect:it]\ntarget = provider\nservice = echo\nlocal_port = {busy}\n",
            )
            line = self.refused("client", f"--config={path}")
            self.assertRegex(line, f"cannot listen on 127.0.0.1:{busy}: Address already in use")

    def test_after_a_kill(self) -> None:
        """What a killed daemon leaves in its state directory keeps nobody from it."""
        server = self.start_server()
        client = self.start_client("provider", "")
        invite = self.invite
        for daemon in (client, server):
            daemon.kill()
        self.start_server()
        self.assertEqual(self.invite.partition("fp=")[2], invite.partition("fp=")[2])
        self.start_client("provider", "")
        self.assertEqual(self.status("server")["clients"], ["provider"])
