"""Public ports: anybody reaches a service at the server, without any program of ours."""

from __future__ import annotations

import socket
import threading

from ..foreign_client import tcp_service
from .processes import (
    PATIENCE,
    Echo,
    dialled,
    eventually,
    free_port,
    needs,
    program,
    receive_exactly,
)
from .public import ALLOWED, PublicTestCase, Publishing
from .udp import EchoService, Sender


class Ports(PublicTestCase):
    """TCP and UDP ports of services."""

    def setUp(self) -> None:
        super().setUp()
        self.echo = Echo()
        self.addCleanup(self.echo.close)

    def test_link(self) -> None:
        """The port that was asked for leads to the service, by a link."""
        number = free_port()
        process = self.provider(self.echo.port, remote_port=str(number))
        self.assertEqual(self.port(process), number)
        self.assert_echo(number, b"x" * 1000)
        (session,) = self.status(self.name())["sessions"]
        self.assertEqual((session["peer"], session["mode"]), ("public", "link"))

    def test_raw(self) -> None:
        """In raw mode, too; a reset of the visitor is one for the service."""
        port = self.port(self.provider(self.echo.port, mode="raw"))
        for _ in range(3):
            self.assert_echo(port, b"x" * 100_000)
        with dialled(port) as connection:
            connection.sendall(b"half")
            self.assertEqual(receive_exactly(connection, 4), b"half")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        eventually(
            lambda: self.streams(self.name()) == 0,
            lambda: f"a stream is left: {self.status(self.name())}",
        )

    def test_udp(self) -> None:
        """Datagrams from each sender come back to it."""
        service = EchoService()
        self.addCleanup(service.close)
        port = self.port(self.provider(service.port, protocol="udp"))
        for _ in range(3):
            sender = Sender(port)
            self.addCleanup(sender.close)
            self.assertTrue(sender.answered(b"anybody?"))
            self.assertEqual(sender.ask(b"x" * 1200), b"x" * 1200)

    def test_dig(self) -> None:
        """A name server behind NAT answers dig at a public port."""
        needs("dnsmasq", "dig")
        local = free_port()
        dnsmasq = self.start(
            "dnsmasq",
            *(program("dnsmasq"), "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv"),
            *("--no-hosts", "--address=/public.test/10.7.7.7", "--log-facility=-", "--pid-file="),
            *("--listen-address=127.0.0.1", "--bind-interfaces", f"--port={local}"),
        )
        dnsmasq.wait_for("started")
        port = self.port(self.provider(local, protocol="udp"))
        dig = self.start(
            "dig", program("dig"), "@127.0.0.1", f"-p{port}", "+short", "public.test", "A"
        )
        self.assertEqual(dig.wait(2 * PATIENCE), 0, dig.output)
        self.assertEqual(dig.lines, ["10.7.7.7"])

    def test_expose(self) -> None:
        """One command makes a port public, says where, and closes it at Ctrl-C."""
        process = self.expose(str(self.echo.port))
        port = int(self.url(process).rpartition(":")[2])
        self.assert_echo(port)
        self.interrupt(process)
        eventually(lambda: not listens(port), lambda: "the port stays open")
        again = self.expose(str(self.echo.port))
        self.assertEqual(int(self.url(again).rpartition(":")[2]), port)
        self.assert_echo(port)

    def test_expose_twice(self) -> None:
        """A second one of the same port says that there is one, and the first goes on."""
        first = self.expose(str(self.echo.port))
        port = int(self.url(first).rpartition(":")[2])
        second = self.expose(str(self.echo.port))
        self.assertEqual(second.wait(), 1, second.output)
        self.assertIn(f"another relaytun expose of port {self.echo.port} (pid ", second.output)
        self.assert_echo(port)

    def test_expose_refused(self) -> None:
        """A port that may not be had is an error that says which may."""
        process = self.expose(str(self.echo.port), "--remote-port=80")
        self.assertEqual(process.wait(), 1, process.output)
        (line,) = process.lines
        self.assertIn("tcp port 80 may not be had here", line)
        self.assertIn("12000-32767", line)

    def test_proxy_protocol(self) -> None:
        """The service is told first who its visitor is."""
        for mode in ("link", "raw"):
            process = self.provider(
                self.echo.port, name=f"proxied-{mode}", mode=mode, proxy_protocol="v1"
            )
            port = self.port(process)
            with dialled(port) as connection:
                here = connection.getsockname()[1]
                connection.sendall(b"hello")
                expected = b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\nhello" % (here, port)
                self.assertEqual(receive_exactly(connection, len(expected)), expected)

    def test_proxy_protocol_nginx(self) -> None:
        """A real nginx takes the header of version 2."""
        needs("nginx", "curl")
        local = free_port()
        conf = self.folder / "nginx.conf"
        conf.write_text(
            f"daemon off; master_process off; pid {self.folder}/nginx.pid; error_log stderr;\n"
            "events {}\nhttp { access_log off; server {\n"
            f"listen 127.0.0.1:{local} proxy_protocol;\n"
            "location / { return 200 $proxy_protocol_addr:$proxy_protocol_port; }\n} }\n"
        )
        self.start("nginx", program("nginx"), "-p", str(self.folder), "-c", str(conf))
        eventually(lambda: listens(local), lambda: "nginx does not listen")
        port = self.port(self.provider(local, protocol="http", proxy_protocol="v2"))
        curl = self.start(
            "curl",
            *(program("curl"), "-sS", "--fail", "-w", " %{local_port}"),
            f"http://127.0.0.1:{port}/",
        )
        self.assertEqual(curl.wait(), 0, curl.output)
        told, here = curl.output.split()
        self.assertEqual(told, f"127.0.0.1:{here}")

    def test_changed(self) -> None:
        """A port that is to be something else stays open: it is had again at once."""
        client, service = self.client(), tcp_service("echo")
        client.provide(self.echo.port)
        number = free_port()
        for version in ("v1", "v2", "v1"):
            exposure = {"service": "echo", "remotePort": number, "proxyProtocol": version}
            client.say("update_services", services=[service], exposures=[exposure])
            self.assertEqual(client.wait_for("exposed").get("message", ""), "")
            with dialled(number) as connection:
                begin = b"PROXY" if version == "v1" else b"\r\n\r\n\0"
                self.assertEqual(receive_exactly(connection, 5), begin)

    def test_own_ports(self) -> None:
        """The server's own ports are nobody's."""
        process = self.provider(self.echo.port, remote_port=str(self.control_port))
        self.assertIn("may not be had here", self.refusal(process))

    def test_conflict(self) -> None:
        """The later one is told, changes nothing for the first, and gets it when that leaves."""
        number = free_port()
        first = self.provider(self.echo.port, name="first", remote_port=str(number))
        other = Echo()
        self.addCleanup(other.close)
        later = self.provider(other.port, name="later", remote_port=str(number))
        self.assertIn(f"tcp port {number} is taken", self.refusal(later))
        self.assert_echo(number)
        first.stop()
        eventually(lambda: not listens(number), lambda: "the port stays open")
        # It is kept for the first: nobody else gets it in the meantime.
        again = self.start_client(
            "first",
            f"[service:it]\nprotocol = tcp\nlocal_host = 127.0.0.1\nlocal_port = {self.echo.port}"
            f"\nremote_port = {number}\n",
        )
        self.assertEqual(self.port(again), number)
        self.assert_echo(number)

    def test_killed_provider(self) -> None:
        """A provider that is killed and started again has its port at once."""
        number = free_port()
        process = self.provider(self.echo.port, remote_port=str(number))
        self.assert_echo(number)
        process.kill()
        # Until it is missed, a connection may be given to it, and is lost with it.
        eventually(lambda: self.is_gone(self.name()), lambda: "the server keeps the dead one")
        with dialled(number) as connection:  # It comes while there is nobody.
            connection.sendall(b"early")
            self.provider(self.echo.port, remote_port=str(number))
            self.assertEqual(receive_exactly(connection, 5), b"early")
        self.assert_echo(number)

    def test_group(self) -> None:
        """Two providers of a group take turns; when one is killed the other has them all."""
        number, services = free_port(), [Naming(b"a"), Naming(b"b")]
        providers = []
        for service in services:
            self.addCleanup(service.close)
            name = f"group-{service.word.decode()}"
            keys = {"remote_port": str(number), "group": "both", "group_key": "secret"}
            providers.append(self.provider(service.port, name=name, **keys))
        self.assertEqual(sorted(ask(number) for _ in range(6)), [b"a"] * 3 + [b"b"] * 3)
        stranger = self.provider(
            self.echo.port, name="c", remote_port=str(number), group="both", group_key="guess"
        )
        self.assertIn("is taken", self.refusal(stranger))
        providers[0].kill()
        eventually(lambda: self.is_gone("group-a"), lambda: "the server keeps the dead one")
        self.assertEqual([ask(number) for _ in range(4)], [b"b"] * 4)

    def is_gone(self, client: str) -> bool:
        return client not in self.status("server")["clients"]


class Restart(Publishing):
    """What is left when the server is killed."""

    def test_server_restarted(self) -> None:
        """The same port is open again as soon as server and client have found each other."""
        echo = Echo()
        self.addCleanup(echo.close)
        control, relay = str(free_port()), str(free_port())
        config = f"[public]\nallow_ports = {ALLOWED}"
        server = self.start_server(control=control, relay=relay, config=config)
        process = self.provider(echo.port)
        port = self.port(process)
        self.assert_echo(port)
        said = len(process.lines)
        server.kill()
        self.start_server(control=control, relay=relay, config=config)
        self.assertEqual(self.port(process, said), port)
        self.assert_echo(port)


class Naming:
    """A service that says its word to whoever connects."""

    def __init__(self, word: bytes) -> None:
        self.word = word
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                connection.sendall(self.word)


def ask(port: int) -> bytes:
    """What a L{Naming} says."""
    with dialled(port) as connection:
        return receive_exactly(connection, 2)


def listens(port: int) -> bool:
    """Whether somebody does."""
    try:
        with dialled(port):
            return True
    except OSError:
        return False
