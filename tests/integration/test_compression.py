"""A service with C{compression = zstd}: real processes, text, and one side without the library."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import socket
import threading
from pathlib import Path

from relaytun import startup

from .processes import (
    TWISTD,
    Process,
    ProcessTestCase,
    dialled,
    eventually,
    free_port,
    receive_exactly,
)

_WORDS = [b"error", b"warning", b"relay", b"link", b"stream", b"of", b"the", b"a", b"\n", b"42"]
#: Text that is sent in a moment; and so much that somebody can die in the middle of it.
SHORT = 4 * 1024 * 1024
LONG = 64 * 1024 * 1024


def text(size: int) -> bytes:
    """As a log would be."""
    words = b" ".join(random.Random(3).choices(_WORDS, k=256 * 1024))
    return b"".join(itertools.repeat(words, size // len(words) + 1))[:size]


class Compression(ProcessTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.ports = free_port(), free_port()
        self.server = self.run_server()

    def run_server(self) -> Process:
        """Start it; a second time with the same ports and state."""
        control, relay = map(str, self.ports)
        return self.start_server(control=control, relay=relay)

    def serve(self, kind: str) -> int:
        """@return: the local port that leads to a compressed service."""
        _, port = self.start_service(kind)
        self.provider = self.start_provider(port, kind, mode="link", compression="zstd")
        self.visitor, local = self.start_visitor(kind)
        return local

    def without_library(self, client_id: str, sections: str) -> Process:
        """A client on a machine that has no zstd."""
        for name in ("backports", "compression"):
            package = self.folder / "without" / name
            package.mkdir(parents=True, exist_ok=True)
            (package / "__init__.py").touch()
        path = os.pathsep.join(
            [str(self.folder / "without"), str(Path(startup.__file__).parents[1])]
        )
        arguments = [*TWISTD, "-n", "--pidfile=", "relaytun-client"]
        config = f"--config={self.config(client_id, sections)}"
        return self.start(client_id, *arguments, config, PYTHONPATH=path)

    def carried(self) -> int:
        """Bytes that the relay has moved, with all that is around them."""
        return sum(each["bytesIn"] for each in self.status("server")["sessions"])

    def check_upload(self, port: int, data: bytes) -> None:
        """All of it arrives as it was."""
        with dialled(port) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_exactly(connection, 33), hashlib.sha256(data).digest())

    def test_text(self) -> None:
        """A text arrives as it was, in either direction, and what the relay moves is less."""
        port = self.serve("echo")
        data = text(SHORT)
        with dialled(port) as connection:
            sending = threading.Thread(target=connection.sendall, args=(data,), daemon=True)
            sending.start()
            self.assertEqual(receive_exactly(connection, SHORT), data)
            sending.join()
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(connection.recv(1), b"")
        (session,) = self.status("visitor")["sessions"]
        for direction in ("bytesIn", "bytesOut"):
            self.assertTrue(0 < session[direction] < SHORT // 3, session)
        self.assertTrue(0 < self.carried() < SHORT // 3, self.carried())

    def test_conversation(self) -> None:
        """Nothing waits for more to be compressed with."""
        with dialled(self.serve("echo")) as connection:
            for line in (b"a", b"question", b"another one\n"):
                connection.sendall(line)
                self.assertEqual(receive_exactly(connection, len(line)), line)

    def test_server_killed(self) -> None:
        """A transfer goes on where it was when the server is killed and comes back."""
        port = self.serve("sink")
        data = text(LONG)
        failed: list[BaseException] = []

        def upload() -> None:
            try:
                self.check_upload(port, data)
            except BaseException as error:
                failed.append(error)

        sending = threading.Thread(target=upload, daemon=True)
        sending.start()
        eventually(lambda: self.carried() > 1024 * 1024, lambda: f"it does not begin: {failed}")
        self.assertTrue(sending.is_alive(), "it was over before anybody died")
        self.server.kill()
        self.server = self.run_server()
        sending.join(60)
        self.assertFalse(sending.is_alive() or failed, failed)

    def test_visitor_without_library(self) -> None:
        """A visitor that cannot do it gets the service uncompressed, and is told so once."""
        _, service = self.start_service("sink")
        self.start_provider(service, "sink", mode="link", compression="zstd")
        visitor = self.without_library(
            "visitor", "[connect:it]\ntarget = provider\nservice = sink\nlocal_port = 0\n"
        )
        port = int(visitor.wait_for(r"127\.0\.0\.1:(\d+) leads to")[1])
        data = text(SHORT)
        for _ in range(2):
            self.check_upload(port, data)
        self.assertGreater(self.carried(), 2 * SHORT)
        self.assertEqual(visitor.output.count("pip install relaytun[zstd]"), 1)

    def test_provider_without_library(self) -> None:
        """A provider that cannot do it does not start, and says what to install."""
        provider = self.without_library(
            "provider",
            "[service:logs]\nprotocol = tcp\nlocal_port = 9\nmode = link\ncompression = zstd\n",
        )
        self.assertNotEqual(provider.wait(), 0)
        says = r"\[service:logs\] compression = zstd needs .* pip install relaytun\[zstd\]"
        self.assertRegex(provider.lines[-1], says)
        self.assertEqual(len(provider.lines), 1, provider.output)
