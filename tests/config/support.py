"""What the configuration tests share: files to read, and the problems that come of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from relaytun.config import ClientConfig, ServerConfig, load_client, load_server
from relaytun.errors import ConfigError

PRINT = "sha256:" + "ab" * 32
INVITE = f"relaytun://s3cret@relay.example.com:9000?fp={PRINT}"


class ConfigCase(SynchronousTestCase):
    """A test case with a folder, and an environment that it may change."""

    def setUp(self) -> None:
        """Keep the environment of whoever runs the tests out of them."""
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.patch(os, "environ", {"HOME": "/home/ann"})

    def write(self, name: str, text: str | bytes) -> str:
        """Write a file and return its path."""
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    def server(self, text: str, **overrides: str | bool) -> ServerConfig:
        """Read a server.ini."""
        return load_server(self.write("server.ini", text), overrides)

    def client(self, text: str, **overrides: str | bool) -> ClientConfig:
        """Read a client.ini, or a client.json if that is what the text is."""
        name = "client.json" if text.startswith("{") else "client.ini"
        return load_client(self.write(name, text), overrides)

    def server_problems(self, text: str, **overrides: str | bool) -> list[str]:
        """Read a wrong server.ini."""
        return self.problems(lambda: self.server(text, **overrides))

    def client_problems(self, text: str, **overrides: str | bool) -> list[str]:
        """Read a wrong client file."""
        return self.problems(lambda: self.client(text, **overrides))

    def problems(self, read: object) -> list[str]:
        """Call something that must fail; return its lines without the folder's name."""
        assert callable(read)
        error = self.assertRaises(ConfigError, read)
        lines = [line.replace(f"{self.folder}/", "") for line in error.problems]
        for line in lines:
            self.assertNotIn("\n", line)
            self.assertNotIn("s3cret", line)
        return lines

    def environment(self, variables: Mapping[str, str]) -> None:
        """Set environment variables for the rest of the test."""
        os.environ.update(variables)
