"""A real web server behind the tunnel, and curl in front of it."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess

from .processes import (
    PATIENCE,
    Process,
    ProcessTestCase,
    dialled,
    eventually,
    free_port,
    needs,
    program,
)

DOWNLOAD = 1024 * 1024 * 1024
UPLOAD = 128 * 1024 * 1024
REQUESTS = 500
_BLOCK = 4 * 1024 * 1024 - 5

CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 512; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 10000;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/www;
        location /upload/ {{ dav_methods PUT; }}
    }}
}}
"""


class Nginx(ProcessTestCase):
    def setUp(self) -> None:
        super().setUp()
        needs("nginx", "curl")
        self.www = self.folder / "www"
        (self.www / "upload").mkdir(parents=True)
        # Where nginx is started by root, its files are still read by root: there is no master.
        self.folder.chmod(0o755)
        service = self.start_nginx()
        self.start_server()
        self.start_provider(service)
        _, self.port = self.start_visitor()

    def start_nginx(self) -> int:
        """Start it on some port that is free; returns that."""
        while True:
            port = free_port()
            path = self.folder / "nginx.conf"
            path.write_text(CONFIGURATION.format(folder=self.folder, port=port))
            nginx = self.start("nginx", program("nginx"), "-p", str(self.folder), "-c", str(path))
            eventually(
                lambda nginx=nginx, port=port: nginx.popen.poll() is not None or answers(port),
                lambda nginx=nginx: f"nginx does not answer: {nginx.output}",
            )
            if nginx.popen.poll() is None:
                self.nginx = nginx
                return port
            self.assertIn("Address already in use", nginx.output)

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
        """A file of 1 GiB that curl fetches through the tunnel is the one that nginx has."""
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


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with dialled(port):
            return True
    except OSError:
        return False
