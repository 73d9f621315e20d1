"""Only the control port: signalling and legs over WebSockets, with nothing else reachable."""

from __future__ import annotations

from .processes import ProcessTestCase, dialled, receive_exactly


class Direct(ProcessTestCase):
    """Clients with C{transport = ws}, at the server itself."""

    def check(self, mode: str, settings: str = "") -> None:
        self.start_server(config=settings)
        _, port = self.start_service("echo")
        sections = (
            f"[service:echo]\nprotocol = tcp\nlocal_host = 127.0.0.1\nlocal_port = {port}\n"
            f"mode = {mode}\n"
        )
        self.start_client("provider", sections, "transport = ws")
        visitor = self.start_client(
            "visitor",
            f"[connect:it]\ntarget = provider\nservice = echo\nlocal_port = 0\nmode = {mode}\n",
            "transport = ws",
        )
        local = int(visitor.wait_for(r"127\.0\.0\.1:(\d+) leads to")[1])
        with dialled(local) as connection:
            connection.sendall(b"x" * 300_000)
            connection.shutdown(1)
            self.assertEqual(len(receive_exactly(connection, 400_000)), 300_000)
            for name in ("provider", "visitor"):
                paths = [session["path"] for session in self.status(name)["sessions"]]
                self.assertEqual(paths, ["ws"])

    def test_raw(self) -> None:
        """A raw stream goes over wss, its half-close too."""
        self.check("raw")

    def test_link(self) -> None:
        """So does a link."""
        self.check("link")
