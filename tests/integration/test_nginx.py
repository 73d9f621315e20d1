"""A real web server behind the tunnel, and curl in front of it."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess

from .nginx import start_nginx
from .processes import PATIENCE, Process, ProcessTestCase, needs, program

#: C{python -m tests.soak} has larger ones.
DOWNLOAD = 256 * 1024 * 1024
UPLOAD = 128 * 1024 * 1024
REQUESTS = 500
_BLOCK = 4 * 1024 * 1024 - 5


class Nginx(ProcessTestCase):
    def setUp(self) -> None:
        super().setUp()
        needs("nginx", "curl")
        self.www = self.folder / "www"
        (self.www / "upload").mkdir(parents=True)
        _, service = start_nginx(self, "location /upload/ { dav_methods PUT; }")
        self.start_server()
        self.start_provider(service)
        _, self.port = self.start_visitor()

    def curl(self, *arguments: str) -> Process:
        """Run curl to its end, which has to be a good one."""
        curl = self.start("curl", program("curl"), "--silent", "--show-error", "--fail", *arguments)
        self.assertEqual(curl.wait(2 * PATIENCE), 0, curl.output)
        return curl

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def make(self, name: str, size: int) -> str:
        """A file of random blocks with C{size} bytes; returns its SHA-256."""
        block = random.randbytes(_BLOCK)
        total = hashlib.sha256()
        with open(self.www / name, "wb") as stream:
            for start in range(0, size, _BLOCK):
                part = block[: size - start]
                stream.write(part)
                total.update(part)
        return total.hexdigest()

    def test_download(self) -> None:
        """A file of 256 MiB that curl fetches through the tunnel is the one that nginx has."""
        expected = self.make("large", DOWNLOAD)
        with subprocess.Popen(
            [program("curl"), "--silent", "--show-error", "--fail", self.url("large")],
            stdout=subprocess.PIPE,
        ) as curl:
            assert curl.stdout is not None
            total, room = hashlib.sha256(), memoryview(bytearray(1024 * 1024))
            while size := os.readv(curl.stdout.fileno(), [room]):
                total.update(room[:size])
        self.assertEqual((curl.returncode, total.hexdigest()), (0, expected))

    def test_upload(self) -> None:
        """A file that curl puts through the tunnel arrives as it is."""
        expected = self.make("mine", UPLOAD)
        self.curl("--upload-file", str(self.www / "mine"), self.url("upload/yours"))
        arrived = hashlib.sha256((self.www / "upload" / "yours").read_bytes())
        self.assertEqual(arrived.hexdigest(), expected)

    def test_keep_alive(self) -> None:
        """Many requests over one kept connection are each answered, over one stream."""
        self.make("small", 1000)
        curl = self.curl(
            "--write-out",
            "%{num_connects} %{size_download}\n",
            "--output",
            "/dev/null",
            self.url(f"small?[1-{REQUESTS}]"),
        )
        self.assertEqual(curl.lines, ["1 1000"] + ["0 1000"] * (REQUESTS - 1))
