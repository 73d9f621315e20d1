"""Visits to whoever offers a service and is well: services and clients die and come back."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from . import nursery
from .processes import (
    PATIENCE,
    RELAYTUN,
    Process,
    ProcessTestCase,
    dialled,
    eventually,
    free_port,
)


class Health(ProcessTestCase):
    def web(self, port: int) -> Process:
        """A web server with one page."""
        pages = self.folder / "pages"
        pages.mkdir(exist_ok=True)
        Path(pages, "up").write_text("yes")
        options = ("--bind", "127.0.0.1", "--directory", str(pages))
        process = self.start("web", sys.executable, "-m", "http.server", str(port), *options)
        process.wait_for("Serving HTTP")
        return process

    def answers(self, port: int) -> bool:
        """Whether the page is to be had there."""
        try:
            with dialled(port) as connection:
                connection.sendall(b"GET /up HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(100)
        except OSError:
            return False

    def healthy(self, config: Path) -> dict[str, object]:
        """What the client list says of each provider's service."""
        command = [*RELAYTUN, "clients", "--json", f"--config={config}"]
        done = nursery.run(command, self.folder, os.environ, PATIENCE)
        return {
            entry["id"]: entry["services"][0].get("healthy")
            for entry in json.loads(done.stdout)
            if entry["services"]
        }

    def test_left_out_and_back(self) -> None:
        """Nobody is sent to a service that is not well, or to a client that is gone."""
        server = self.start_server()
        ports = {name: free_port() for name in ("one", "two")}
        services = {name: self.web(port) for name, port in ports.items()}
        providers = {
            name: self.start_client(
                name,
                f"[service:web]\nprotocol = http\nlocal_host = 127.0.0.1\nlocal_port = {port}\n"
                "health_check = http /up\nhealth_check_interval = 100ms\n"
                "health_check_failures = 2\n",
            )
            for name, port in ports.items()
        }
        visitor = self.start_client(
            "visitor",
            "[connect:any]\nservice = web\nlocal_port = 0\n"
            "[connect:one]\nservice = web\ntarget = one\nlocal_port = 0\n",
        )
        any_port = int(visitor.wait_for(r":(\d+) leads to any client/web")[1])
        one_port = int(visitor.wait_for(r":(\d+) leads to one/web")[1])
        self.assertTrue(self.answers(any_port) and self.answers(one_port))
        services["one"].kill()
        providers["one"].wait_for("web fails its health check, and gets no new sessions: .*refused")
        eventually(lambda: self.answers(any_port), lambda: visitor.output)
        guest = self.config("guest", "")
        command = self.start(
            "connect",
            *(*RELAYTUN, "connect", f"--config={guest}", "--target=one", "--service=web"),
            "--local=0",
        )
        self.assertEqual(command.wait(), 1)
        self.assertIn("one's health check of web fails; --wait waits for it", command.output)
        services["two"].kill()
        providers["two"].wait_for("web fails its health check")
        said = len(providers["one"].lines)
        self.web(ports["one"])
        providers["one"].wait_for("web is well again", after=said)
        self.assertEqual(self.healthy(guest), {"one": True, "two": False})
        for port in (any_port, one_port):
            eventually(lambda port=port: self.answers(port), lambda: visitor.output)
        self.web(ports["two"])
        providers["two"].wait_for("web is well again")
        providers["one"].kill()
        eventually(lambda: self.answers(any_port), lambda: visitor.output)
        command = self.start(
            "connect",
            *(*RELAYTUN, "connect", f"--config={guest}", "--service=web", "--local=0"),
        )
        port = int(command.wait_for(r"^127\.0\.0\.1:(\d+) leads to any client/web$")[1])
        self.assertTrue(self.answers(port))
        self.assertNotIn("Traceback", server.output + visitor.output)
