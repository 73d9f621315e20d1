"""What people run through a tunnel, while its server is killed."""

from __future__ import annotations

import contextlib
import http.client
import os
import pty
import random
import select
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from twisted.trial.unittest import SkipTest

from . import test_ssh
from .links import Tunnel
from .processes import PATIENCE, ProcessTestCase, eventually, free_port, needs, program

KILLS = 3


class KilledServer(ProcessTestCase):
    """Programs of a machine whose server has the same ports after each kill."""

    def tunnel_to(self, port: int) -> Tunnel:
        """A tunnel to a service that is there already."""
        tunnel = Tunnel(port=port)
        self.addCleanup(tunnel.kept.close)
        return tunnel


class SecureShell(test_ssh.Ssh):
    """OpenSSH, as in its own tests, through a tunnel of mode link."""

    def start_tunnel(self, service: int) -> int:
        self.tunnel = Tunnel(port=service)
        self.addCleanup(self.tunnel.kept.close)
        return self.tunnel.port

    def test_login(self) -> None:
        """A session that somebody types into goes on across several kills."""
        with terminal([program("ssh"), "-tt", *self.options, self.host, "cat"]) as screen:
            for number in range(KILLS + 1):
                line = f"line number {number}"
                screen.type(f"{line}\n")
                screen.wait_for(line, twice=True)  # The terminal's echo, and that of cat.
                if number < KILLS:
                    self.tunnel.restart_server()
            screen.type("\x04")
            self.assertEqual(screen.end(), 0)

    def test_copies(self) -> None:
        """A tree that rsync copies across a kill is the same at the other end."""
        needs("rsync")
        tree, copy = self.folder / "tree", self.folder / "copy"
        for number in range(60):
            path = tree / str(number % 7) / str(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(random.randbytes(number * 20_000))
        shell = " ".join([program("ssh"), *self.options])
        rsync = self.start(
            "rsync", program("rsync"), "-a", "--bwlimit=40m", "-e", shell,
            f"{tree}/", f"{self.host}:{copy}/",
        )  # fmt: skip
        eventually(lambda: any(copy.glob("*/*")), lambda: f"it does not begin: {rsync.output}")
        self.assertIsNone(rsync.popen.poll())
        self.tunnel.restart_server()
        self.assertEqual(rsync.wait(2 * PATIENCE), 0, rsync.output)
        self.assertEqual(digests(copy), digests(tree))


class Web(KilledServer):
    def test_keep_alive(self) -> None:
        """An HTTP/1.1 connection that is kept alive answers before and after a kill."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        server.handle_error = lambda *args: None  # Its client resets it at the end.
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        tunnel = self.tunnel_to(server.server_address[1])
        client = http.client.HTTPConnection("127.0.0.1", tunnel.port, timeout=PATIENCE)
        self.addCleanup(client.close)
        seen = set()
        for number in range(2 * KILLS - 1):
            client.request("GET", f"/{number}")
            answer = client.getresponse()
            port, _, path = answer.read().decode().partition(" ")
            self.assertEqual((answer.status, path), (200, f"/{number}"))
            seen.add(port)
            if number % 2:
                tunnel.restart_server()
        self.assertEqual(len(seen), 1, "it connected again")


class Pages(BaseHTTPRequestHandler):
    """Each page says who asked for it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.client_address[1]} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *parts: object) -> None:
        """Nobody reads it."""


class Database(KilledServer):
    """PostgreSQL, of the user C{postgres} or C{nobody} if root runs the tests."""

    def test_pgbench(self) -> None:
        """No transaction of pgbench fails when the server is killed while it runs."""
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not folders:
            raise SkipTest("not installed: postgresql")
        self.bin = folders[-1]
        self.folder.chmod(0o755)
        data = self.folder / "database"
        data.mkdir()
        self.user: list[str] = []
        if os.geteuid() == 0:
            needs("setpriv")
            data.chmod(0o700)
            os.chown(data, 65534, 65534)
            self.user = [
                program("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", "--",
            ]  # fmt: skip
        self.run_tool("initdb", "-D", str(data), "-U", "bench", "-A", "trust", "--no-sync")
        while True:
            port = free_port()
            postgres = self.start(
                "postgres", *self.user, str(self.bin / "postgres"), "-D", str(data),
                *("-h", "127.0.0.1", "-p", str(port), "-k", "", "-F"),
            )  # fmt: skip
            eventually(
                lambda it=postgres: it.popen.poll() is not None or "ready to accept" in it.output,
                lambda it=postgres: f"PostgreSQL does not start: {it.output}",
            )
            if postgres.popen.poll() is None:
                break
        tunnel = self.tunnel_to(port)
        there = ["-h", "127.0.0.1", "-p", str(tunnel.port), "-U", "bench", "postgres"]
        self.run_tool("pgbench", "-i", "-q", *there)
        bench = self.start(
            "pgbench", *self.user, str(self.bin / "pgbench"),
            *("-n", "-c", "4", "-T", "4", "-P", "1", *there),
        )  # fmt: skip
        bench.wait_for("progress: 1")
        tunnel.restart_server()
        self.assertEqual(bench.wait(2 * PATIENCE), 0, bench.output)
        self.assertIn("number of failed transactions: 0", bench.output)

    def run_tool(self, name: str, *arguments: str) -> None:
        """To its end, which has to be a good one."""
        tool = self.start(name, *self.user, str(self.bin / name), *arguments)
        self.assertEqual(tool.wait(2 * PATIENCE), 0, tool.output)


class Screen:
    """A program that thinks that somebody sits in front of it."""

    def __init__(self, arguments: list[str]) -> None:
        self._master, slave = pty.openpty()
        self._program = subprocess.Popen(
            arguments, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self._shown = ""

    def type(self, text: str) -> None:
        """On the keyboard."""
        os.write(self._master, text.encode())

    def wait_for(self, text: str, twice: bool = False) -> None:
        """Until it is there."""
        deadline = time.monotonic() + PATIENCE
        while self._shown.count(text) < 1 + twice:
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self._master], [], [], left)[0]:
                raise AssertionError(f"no {text!r} on the screen: {self._shown!r}")
            self._shown += os.read(self._master, 4096).decode(errors="replace")

    def end(self) -> int:
        """Wait for the program's end."""
        with contextlib.suppress(OSError):  # As Linux says that the other side is closed.
            while os.read(self._master, 4096):
                pass
        return self._program.wait(PATIENCE)

    def close(self) -> None:
        """Whatever state it is in."""
        if self._program.poll() is None:
            self._program.kill()
        self._program.wait()
        os.close(self._master)


@contextlib.contextmanager
def terminal(arguments: list[str]) -> Iterator[Screen]:
    """A program in a terminal."""
    screen = Screen(arguments)
    try:
        yield screen
    finally:
        screen.close()


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file below it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): test_ssh.digest(path) for path in files}
