"""A stream through real processes: the smallest thing that has to work."""

from __future__ import annotations

import socket

from .processes import Echo, ProcessTestCase, dialled, receive_exactly


class FirstBytes(ProcessTestCase):
    def test_echo_through_three_processes(self) -> None:
        """What a program writes comes back from the service, and a half-close travels."""
        echo = Echo()
        self.addCleanup(echo.close)
        self.start_server()
        self.start_provider(echo.port)
        _, port = self.start_visitor()
        for _ in range(3):
            with dialled(port) as connection:
                connection.sendall(b"x" * 100_000)
                connection.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_exactly(connection, 200_000), b"x" * 100_000)
