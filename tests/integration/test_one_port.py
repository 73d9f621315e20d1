"""Only the control port: signalling and legs over WebSockets, whatever stands in between."""

from __future__ import annotations

import socket
from pathlib import Path

from websockets.sync.client import connect

from ..foreign_client import Client
from .links import QUICK, LinkTestCase, Traffic, Tunnel, exchange
from .processes import PATIENCE, RELAYTUN, needs, receive_exactly
from .ways import HAProxyTunnel, NginxTunnel, TinyproxyTunnel, WayTunnel, WireTunnel

MIB = 1024 * 1024
CLIENT = f"resume_timeout = 20s\n{QUICK}"


class WayTestCase(LinkTestCase):
    """Tests of one way."""

    tunnel: Tunnel

    def check_way(self, path: str = "ws") -> None:
        """Bytes go both ways, each direction ends by itself, and status knows the path."""
        with self.tunnel.stream() as stream:
            exchange(*stream)
            for one, other in (stream, reversed(stream)):
                one.sendall(b"x" * 300_000)
                one.shutdown(socket.SHUT_WR)
                self.assertEqual(len(receive_exactly(other, 300_001)), 300_000)
        for name in ("provider", "visitor"):
            sessions = self.tunnel.status(name)["sessions"]
            self.assertEqual({session["path"] for session in sessions}, {path})


class TLS(WayTestCase):
    """C{wss://} at the server itself, raw sessions."""

    def make_tunnel(self) -> Tunnel:
        return Tunnel(f"transport = ws\n{CLIENT}", mode="raw")

    def test_way(self) -> None:
        """A raw stream goes over wss, with its half-closes."""
        self.check_way()

    def test_reset(self) -> None:
        """A program that dies is an error for the other one, not an end."""
        with self.tunnel.stream() as stream:
            exchange(*stream)
            stream.near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            stream.near.close()
            self.assert_reset(stream.far)

    def test_legs_only(self) -> None:
        """Whoever comes to the path of legs as a web page, or with nonsense, is refused."""
        port = self.tunnel.ports[0]
        for field, status in (("Origin: http://x", b"403"), ("Upgrade: x", b"400")):
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
                head = f"GET /relaytun/leg HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n"
                connection.sendall(head.encode())
                answer = connection.makefile("rb").read()
            self.assertEqual(answer.split(b" ")[1], status)


class Plain(WayTestCase):
    """C{ws://}, links, and a line that breaks."""

    tunnel: WireTunnel

    def make_tunnel(self) -> Tunnel:
        return WireTunnel(client=CLIENT)

    def test_cut(self) -> None:
        """A transfer of 64 MiB goes on when the WebSockets that carry it break."""
        with self.tunnel.stream() as stream:
            traffic = Traffic(stream, 32 * MIB)
            for count in (4, 12):
                traffic.wait_for(count * MIB)
                self.assertGreater(self.tunnel.wire.cut(), 2)
            traffic.finish()
        self.check_way()


class Fallback(WayTestCase):
    """C{auto}: the relay port cannot be reached."""

    def make_tunnel(self) -> Tunnel:
        return _FarRelay(f"transport = auto\n{CLIENT}", server="public_host = 127.0.0.2")

    def test_way(self) -> None:
        """Legs go over WebSockets, and the log says why and for how long."""
        self.check_way()
        self.tunnel.visitor.wait_for(r"the relay port 127\.0\.0\.2:\d+ cannot be reached.*60 s")


class _FarRelay(Tunnel):
    """The server says that its relay is where nobody listens."""

    @property
    def invite(self) -> str:
        return super().invite.replace("127.0.0.2", "127.0.0.1")

    def config(self, client_id: str, sections: str, client: str = "") -> Path:
        path = super().config(client_id, sections, client)
        lines = path.read_text().splitlines()
        lines[1] = f"invite = {self.invite}"
        path.write_text("\n".join(lines))
        return path


class Nginx(WayTestCase):
    """Behind nginx, which ends TLS, at a path of the user's choosing."""

    def setUp(self) -> None:
        needs("nginx")
        super().setUp()

    def make_tunnel(self) -> Tunnel:
        return NginxTunnel("ws_path = /tunnel", client=f"ws_path = /tunnel\n{CLIENT}")

    def test_way(self) -> None:
        """A link goes through it."""
        self.check_way()


class HAProxy(WayTestCase):
    """Behind HAProxy, with the PROXY protocol."""

    tunnel: HAProxyTunnel

    def setUp(self) -> None:
        needs("haproxy")
        super().setUp()

    def make_tunnel(self) -> Tunnel:
        return HAProxyTunnel("proxy_protocol_from = 127.0.0.1/32", client=CLIENT)

    def test_way(self) -> None:
        """A link goes through it; the server knows clients by their own addresses."""
        self.check_way()
        with socket.socket() as sock:
            sock.bind(("127.0.0.5", 0))
            sock.connect(("127.0.0.1", self.tunnel.front))
            headers = {"Authorization": f"Bearer {self.tunnel.token}"}
            client = Client(
                connect("ws://x/", sock=sock, additional_headers=headers, compression=None)
            )
            client.register("far", [])
            self.tunnel.server.wait_for(r"far registered from 127\.0\.0\.5 ")
            client.abort()

    def test_no_header(self) -> None:
        """A peer that has to send a header and does not is dropped."""
        with socket.create_connection(("127.0.0.1", self.tunnel.ports[0]), PATIENCE) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with self.assertRaises(ConnectionError):
                sock.recv(1) or self.fail("closed in order")
        self.tunnel.server.wait_for("does not begin with a PROXY header")


class Tinyproxy(WayTestCase):
    """Through an HTTP proxy with a password, C{transport = auto}."""

    tunnel: TinyproxyTunnel

    def setUp(self) -> None:
        needs("tinyproxy")
        super().setUp()

    def make_tunnel(self) -> Tunnel:
        return TinyproxyTunnel(client=CLIENT)

    def test_way(self) -> None:
        """A link goes through it, from a client with C{proxy =} to one with HTTPS_PROXY."""
        self.check_way()

    def test_wrong_password(self) -> None:
        """The user is told what the proxy says, and never the password."""
        config = WayTunnel.config(self.tunnel, "guest", "", "transport = auto")
        for userinfo, saying in (
            ("ann:wrong@", "refuses the user name and the password"),
            ("", "wants a user name and a password"),
        ):
            command = self.start(
                "clients", *RELAYTUN, "clients", f"--config={config}",
                HTTPS_PROXY=f"http://{userinfo}127.0.0.1:{self.tunnel.proxy}",
            )  # fmt: skip
            self.assertEqual(command.wait(), 1)
            self.assertIn(saying, command.output)
            self.assertNotIn("wrong", command.output)
