"""Running out of file descriptors: nothing spins, no stream breaks, and all recovers."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable

from ..foreign_client import Client, Leg, Session, sign_in, tcp_service
from .nursery import with_descriptors
from .processes import PATIENCE, Echo, Process, ProcessTestCase, dialled, receive_exactly

LIMIT = 256
#: Share of a processor that a process may take while it has no descriptor left.
MOST_CPU = 0.2


class Descriptors(ProcessTestCase):
    """A server, or a client, that may have 256 descriptors."""

    limited = ""

    def start(self, name: str, *arguments: str, **environment: str) -> Process:
        """As ever; but C{limited} gets no more than 256 descriptors."""
        if name == self.limited:
            arguments = with_descriptors(LIMIT, *arguments)
        return super().start(name, *arguments, **environment)

    def sign_in(self, name: str, *services: object) -> Client:
        token = (self.folder / "server" / "token").read_text().strip()
        client = sign_in(self.control_port, token, name, services)  # type: ignore[arg-type]
        self.addCleanup(client.abort)
        return client

    def flood(self, port: int, count: int) -> list[socket.socket]:
        """Silent connections, as far as the port takes them."""
        flood = []
        for _ in range(count):
            each = socket.socket()
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
            self.addCleanup(each.close)
            flood.append(each)
        return flood

    def assert_calm(
        self, process: Process, act: Callable[[], object], seconds: float = 2.0
    ) -> None:
        """For a while, do C{act} ten times a second; the process takes next to no CPU."""
        began, cpu = time.monotonic(), process.cpu_seconds()
        while (elapsed := time.monotonic() - began) < seconds:
            act()
            select.select([], [], [], 0.1)
        self.assertLess((process.cpu_seconds() - cpu) / elapsed, MOST_CPU, process.output[-3000:])

    def until(self, act: Callable[[], object]) -> float:
        """Try until it works; returns the seconds that it took."""
        began = time.monotonic()
        while True:
            try:
                act()
                return time.monotonic() - began
            except (OSError, AssertionError, EOFError) as error:
                if time.monotonic() - began > PATIENCE:
                    raise AssertionError("it never worked again") from error

    def assert_no_surprise(self, process: Process) -> None:
        self.assertIsNone(process.popen.poll(), process.output[-3000:])
        self.assertNotIn("Traceback", process.output)
        self.assertNotIn("Unhandled", process.output)

    def test_server(self) -> None:
        """Floods of both ports leave the running stream and the processor alone, and pass."""
        self.limited = "server"
        server = self.start_server()
        provider = self.sign_in("provider", tcp_service("echo"))
        visitor = self.sign_in("visitor")
        visitor.say("connect_request", toClientId="provider", serviceId="echo")
        partner = provider.accept()
        session = Session(1, visitor.wait_for("create_session"))
        one, other = self.meet(session, partner, 0)
        before = server.descriptors()

        def flows() -> None:
            one.send(b"there")
            self.assertEqual(other.receive(5), b"there")
            other.send(b"back!" * 100)
            self.assertEqual(one.receive(500), b"back!" * 100)

        for port in (session.address[1], self.control_port):
            flood = self.flood(port, 600)
            self.assert_calm(server, flows)
            self.assertLessEqual(server.descriptors(), LIMIT)
            # Those that are silent leave room for those that are not, well before their 10 s.
            self.assertLess(self.until(lambda: self.sign_in("latecomer").close()), 5)
            self.assertLess(self.until(lambda: self.fresh(session, partner)), 5)
            flows()
            for each in flood:
                each.close()
            self.until(lambda: self.assertLess(server.descriptors(), before + 12))
        self.fresh(session, partner)
        flows()
        self.assert_no_surprise(server)

    def test_more_channels_than_descriptors(self) -> None:
        """Legs that have every right wait their turn, and find their partner later."""
        self.limited = "server"
        server = self.start_server()
        provider = self.sign_in("provider", tcp_service("echo"))
        visitor = self.sign_in("visitor")
        visitor.say("connect_request", toClientId="provider", serviceId="echo")
        partner = provider.accept()
        session = Session(1, visitor.wait_for("create_session"))
        channels = []
        for number in range(50):
            channels.append(self.meet(session, partner, number))
        waiting = []
        for number in range(50, 150):
            legs = session.dial(number), partner.dial(number)
            waiting.append(legs)
            for leg in legs:
                self.addCleanup(leg.close)

        def flow() -> None:
            for one, other in channels:
                one.send(b"x")
                self.assertEqual(other.receive(1), b"x")

        self.assert_calm(server, lambda: None)
        flow()
        self.sign_in("still").close()
        for one, other in channels:
            one.close()
            other.close()
        for one, other in waiting:
            one.granted()
            other.granted()
            one.send(b"late")
            self.assertEqual(other.receive(4), b"late")
            one.close()
            other.close()
        self.assert_no_surprise(server)

    def test_public(self) -> None:
        """Floods of public ports and names leave both control ports and running streams alone."""
        self.limited = "server"
        echo = Echo()
        self.addCleanup(echo.close)
        server = self.start_server(
            config="[public]\nallow_ports = 12000-32767\n"
            "[http]\nvhost_http_port = 0\nsubdomain_host = web.test\n"
        )
        place = f"local_host = 127.0.0.1\nlocal_port = {echo.port}\n"
        provider = self.start_client(
            "provider",
            f"[service:link]\nprotocol = tcp\nremote_port = 0\n{place}"
            f"[service:raw]\nprotocol = tcp\nremote_port = 0\nmode = raw\n{place}"
            f"[service:web]\nprotocol = http\nsubdomain = web\n{place}",
        )
        ports = {
            mode: int(provider.wait_for(rf"{mode} is public: tcp://127.0.0.1:(\d+)")[1])
            for mode in ("link", "raw")
        }
        provider.wait_for("web is public")
        http = self.status("server")["listening"]["http"]["port"]
        request = b"GET / HTTP/1.1\r\nHost: web.web.test\r\n\r\n"
        with dialled(ports["link"]) as one, dialled(ports["raw"]) as other:

            def flows() -> None:
                for connection in (one, other):
                    connection.sendall(b"hello")
                    self.assertEqual(receive_exactly(connection, 5), b"hello")

            flows()
            for port, first in ((ports["link"], b"x"), (ports["raw"], b"x"), (http, request)):
                flood = self.flood(port, 300)
                for each in flood:
                    with contextlib.suppress(OSError):
                        each.send(first)
                self.assert_calm(server, flows, 1.0)
                self.assertLess(server.descriptors(), LIMIT - 10)
                self.assertEqual(self.status("server")["clients"], ["provider"])
                self.sign_in("latecomer").close()
                for each in flood:
                    each.close()
                self.until(lambda: self.echoes(ports["link"]))
        self.assert_no_surprise(server)

    def test_client(self) -> None:
        """A visitor's daemon with more programs than descriptors serves what it can, and later."""
        self.limited = "visitor"
        echo = Echo()
        self.addCleanup(echo.close)
        self.start_server()
        self.start_provider(echo.port)
        visitor, port = self.start_visitor()
        with dialled(port) as connection:

            def flows() -> None:
                connection.sendall(b"hello")
                self.assertEqual(receive_exactly(connection, 5), b"hello")

            flows()
            flood = self.flood(port, 400)
            self.assert_calm(visitor, flows)
            for each in flood:
                each.close()
            flows()
        self.until(lambda: self.echoes(port))
        self.assert_no_surprise(visitor)

    def echoes(self, port: int) -> None:
        with contextlib.closing(socket.create_connection(("127.0.0.1", port), 5)) as connection:
            connection.sendall(b"again")
            self.assertEqual(receive_exactly(connection, 5), b"again")

    def meet(self, session: Session, partner: Session, number: int) -> tuple[Leg, Leg]:
        """A channel."""
        one, other = session.dial(number), partner.dial(number)
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        return one.granted(), other.granted()

    def fresh(self, session: Session, partner: Session) -> None:
        """A new channel works."""
        self.number = getattr(self, "number", 0) + 1
        one, other = self.meet(session, partner, self.number)
        one.send(b"fresh")
        self.assertEqual(other.receive(5), b"fresh")
        one.close()
        other.close()
