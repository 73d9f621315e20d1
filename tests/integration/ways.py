"""What may stand between a client and the control port, for tests: each a real program."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ..test_tls import certificate, pem
from .links import Tunnel
from .processes import PATIENCE, Process, dialled, eventually, free_port, program

_NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/nginx.pem;
        ssl_certificate_key {folder}/nginx.key;
        location /tunnel {{
            proxy_pass http://127.0.0.1:{control};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_read_timeout 1h;
            proxy_buffering off;
        }}
    }}
}}
"""
_HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen front
    bind 127.0.0.1:{port}
    server relaytun 127.0.0.1:{control} send-proxy-v2
"""
_TINYPROXY = """
Port {port}
Listen 127.0.0.1
Allow 127.0.0.1
Timeout 600
MaxClients 100
LogLevel Connect
BasicAuth ann secret
ConnectPort {control}
"""


class WayTunnel(Tunnel):
    """
    A tunnel whose clients have only one way to the server.

    @ivar server_url: what they are told.
    """

    def __init__(self, server: str = "", mode: str = "link", client: str = "") -> None:
        super().__init__(f"transport = ws\n{client}", mode, server)

    def run_server(self) -> Process:
        server = super().run_server()
        self.control = self.ports[0]
        self.prepare()
        return server

    def prepare(self) -> None:
        """Set up the way; C{control} leads to the server."""

    def server_lines(self) -> str:
        """What the [client] section says of the server."""
        return f"server = ws://127.0.0.1:{self.ports[0]}\ntoken = {self.token}"

    @property
    def token(self) -> str:
        return (self.folder / "server" / "token").read_text().strip()

    def config(self, client_id: str, sections: str, client: str = "") -> Path:
        path = super().config(client_id, sections, client)
        lines = path.read_text().splitlines()
        lines[1] = self.server_lines()
        path.write_text("\n".join(lines))
        return path

    def listening(self, name: str, *arguments: str, port: int) -> Process:
        """Start what listens on C{port}."""
        process = self.start(name, *arguments)
        eventually(
            lambda: process.popen.poll() is not None or answers(port),
            lambda: f"{name} does not answer: {process.output}",
        )
        assert process.popen.poll() is None, process.output
        return process

    def write(self, name: str, text: str | bytes) -> str:
        """A file in the tunnel's folder; returns its path."""
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)


class NginxTunnel(WayTunnel):
    """Through an nginx that ends TLS with a certificate of an authority."""

    def prepare(self) -> None:
        self.folder.chmod(0o755)
        key, authority_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        authority = certificate(authority_key, authority=True)
        shown = certificate(key, x509.DNSName("localhost"), issuer=(authority_key, authority))
        self.write("authority.pem", pem(authority))
        self.write("nginx.pem", pem(shown))
        self.write("nginx.key", pem(key))
        self.front = free_port()
        values = {"folder": self.folder, "port": self.front, "control": self.control}
        path = self.write("nginx.conf", _NGINX.format(**values))
        self.listening(
            "nginx", program("nginx"), "-p", str(self.folder), "-c", path, port=self.front
        )

    def server_lines(self) -> str:
        return f"server = wss://localhost:{self.front}\ntoken = {self.token}"

    def start(self, name: str, *arguments: str, **environment: str) -> Process:
        trusted = {"SSL_CERT_FILE": str(self.folder / "authority.pem")}
        return super().start(name, *arguments, **environment, **trusted)


class HAProxyTunnel(WayTunnel):
    """Through a HAProxy that tells whose connections it passes on."""

    def prepare(self) -> None:
        self.front = free_port()
        path = self.write("haproxy.cfg", _HAPROXY.format(port=self.front, control=self.control))
        self.listening("haproxy", program("haproxy"), "-db", "-f", path, port=self.front)

    def server_lines(self) -> str:
        return f"invite = {self.invite.replace(f':{self.control}?', f':{self.front}?')}"


class TinyproxyTunnel(WayTunnel):
    """Through a proxy that wants a password: one client is told by key, one by environment."""

    def prepare(self) -> None:
        self.proxy = free_port()
        path = self.write(
            "tinyproxy.conf", _TINYPROXY.format(port=self.proxy, control=self.control)
        )
        self.listening("tinyproxy", program("tinyproxy"), "-d", "-c", path, port=self.proxy)

    @property
    def proxy_url(self) -> str:
        return f"http://ann:secret@127.0.0.1:{self.proxy}"

    def server_lines(self) -> str:
        # Still this machine; but what is 127.0.0.1 goes through no proxy of the environment.
        return f"invite = {self.invite.replace('127.0.0.1', '0.0.0.0')}"

    def config(self, client_id: str, sections: str, client: str = "") -> Path:
        if client_id == "provider":
            client += f"\nproxy = {self.proxy_url}"
        return super().config(client_id, sections, client.replace("transport = ws", ""))

    def start(self, name: str, *arguments: str, **environment: str) -> Process:
        if name == "visitor":
            environment["HTTPS_PROXY"] = self.proxy_url
        return super().start(name, *arguments, **environment)


class Wire:
    """A TCP forwarder that can be cut: all that goes through it at that moment is lost."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listening.getsockname()[1])
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> int:
        """@return: how many connections it were."""
        victims, self._open = self._open, set()
        for sock in victims:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        return len(victims) // 2

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._target), PATIENCE)
                far.settimeout(None)
                self._open |= {near, far}
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._move, args=(one, other), daemon=True).start()

    def _move(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 18):
                other.sendall(data)
        for sock in (one, other):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class WireTunnel(WayTunnel):
    """Plain WebSockets, through a L{Wire}."""

    def prepare(self) -> None:
        self.wire = Wire(self.control)
        self.kept.callback(self.wire.close)

    def server_lines(self) -> str:
        return f"server = ws://127.0.0.1:{self.wire.port}\ntoken = {self.token}"


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with dialled(port):
            return True
    except OSError:
        return False
