"""A visit to whoever offers the service."""

from __future__ import annotations

from .processes import (
    RELAYTUN,
    Echo,
    Process,
    ProcessTestCase,
    dialled,
    eventually,
    receive_exactly,
)


class AnyTarget(ProcessTestCase):
    def provider(self, name: str, port: int) -> Process:
        return self.start_client(
            name,
            f"[service:echo]\nprotocol = tcp\nlocal_host = 127.0.0.1\nlocal_port = {port}\n",
        )

    def answers(self, port: int) -> bool:
        """Whether what goes in comes back."""
        try:
            with dialled(port) as connection:
                connection.sendall(b"hello")
                return receive_exactly(connection, 5) == b"hello"
        except OSError:
            return False

    def test_another_takes_over(self) -> None:
        """Without a target any client will do, and another one when it is gone."""
        echo = Echo()
        self.addCleanup(echo.close)
        self.start_server()
        one = self.provider("one", echo.port)
        visitor = self.start_client("visitor", "[connect:it]\nservice = echo\nlocal_port = 0\n")
        port = int(visitor.wait_for(r":(\d+) leads to any client/echo")[1])
        self.assertTrue(self.answers(port))
        self.provider("two", echo.port)
        one.kill()
        eventually(lambda: self.answers(port), lambda: visitor.output)
        config = self.config("guest", "")
        command = self.start(
            "guest",
            *RELAYTUN,
            *("connect", f"--config={config}", "--service=echo", "--local=0"),
        )
        port = int(command.wait_for(r"^127\.0\.0\.1:(\d+) leads to any client/echo$")[1])
        self.assertTrue(self.answers(port))
