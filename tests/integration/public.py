"""What tests of public services share: a server that opens ports, and clients that want some."""

from __future__ import annotations

import re
import signal
import socket

from .processes import (
    PATIENCE,
    RELAYTUN,
    Process,
    ProcessTestCase,
    dialled,
    receive_exactly,
)
from .shared import SharedServerTestCase

#: Where the ports are that tests ask for: below the ephemeral ones.
ALLOWED = "12000-32767"


class Publishing(ProcessTestCase):
    """Starts clients with public services, and looks at what comes of it."""

    def provider(
        self, local: int, *, name: str = "", service: str = "it", client: str = "", **keys: str
    ) -> Process:
        """A client with one service; returns when the server has said what becomes of it."""
        name = name or self.name()
        keys = {"protocol": "tcp", "remote_port": "0", **keys}
        lines = "".join(f"{key} = {value}\n" for key, value in keys.items() if value)
        process = self.start_client(
            name,
            f"[service:{service}]\nlocal_host = 127.0.0.1\nlocal_port = {local}\n{lines}",
            f"reconnect_interval = 50ms\n{client}",
        )
        process.wait_for(f"{service} is (not )?public: ")
        return process

    def name(self) -> str:
        """A name for the test's client that no other test's has."""
        return self.id().rpartition(".")[2].replace("_", "-")

    def port(self, process: Process, after: int = 0) -> int:
        """Where a client's service is public."""
        return int(process.wait_for(r"is public: \w+://127\.0\.0\.1:(\d+)", after)[1])

    def expose(self, *arguments: str, state: str = "expose") -> Process:
        """Start C{relaytun expose}."""
        return self.start(
            "expose",
            *RELAYTUN,
            "expose",
            f"--invite={self.invite}",
            f"--state-dir={self.folder / state}",
            *arguments,
        )

    def interrupt(self, process: Process) -> None:
        """Ctrl-C, and the end."""
        process.signal(signal.SIGINT)
        process.wait()

    def assert_echo(self, port: int, data: bytes = b"hello") -> None:
        """What is sent there comes back, and so does the end of it."""
        with dialled(port) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_exactly(connection, len(data) + 1), data)

    def assert_closed(self, port: int) -> None:
        """Nobody listens there."""
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()

    def refusal(self, process: Process) -> str:
        """Why a client's service is not public."""
        return process.wait_for(r"is not public: (.*)")[1]

    def url(self, process: Process) -> str:
        """What C{relaytun expose} prints."""
        match = process.wait_for(r"^(\w+://\S+) leads to ")
        return re.sub(r"^\w+://", "", match[1])


class PublicTestCase(Publishing, SharedServerTestCase):
    """Tests with one server between them, which gives ports away."""

    settings = f"[public]\nallow_ports = {ALLOWED}"
