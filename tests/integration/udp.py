"""What the tests of udp services share: senders, a service, and a router on the way."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar

from relaytun.wire.datagram import BIND_SIZE, MAGIC

from ..polling import select
from .processes import PATIENCE, Process, ProcessTestCase, eventually, free_port
from .test_kill import Proxy

#: Where the clients find the server when there is a L{Router} in between.
ROUTER = "127.0.0.2"
#: Seconds after which a datagram that was not answered is sent again.
AGAIN = 0.2
#: What is asked until there is an answer.
ANYBODY = b"anybody?"


def udp_socket(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A bound one, with a deadline."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
    sock.bind((host, port))
    sock.settimeout(PATIENCE)
    return sock


class Sender:
    """A program that asks and is answered; each is a flow."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = udp_socket(host)
        self.socket.connect((host, port))

    def close(self) -> None:
        self.socket.close()

    def send(self, payload: bytes) -> None:
        # Until somebody listens, and while a port is opened anew, the kernel says so.
        with contextlib.suppress(ConnectionRefusedError):
            self.socket.send(payload)

    def receive(self, patience: float = PATIENCE) -> bytes:
        """@raise TimeoutError: if nothing comes."""
        self.socket.settimeout(patience)
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                return self.socket.recv(65536)

    def ask(self, payload: bytes) -> bytes:
        """One question that has to be answered the first time; late answers are passed over."""
        self.send(payload)
        while (answer := self.receive()) == ANYBODY:
            pass
        return answer

    def answered(self, payload: bytes, patience: float = AGAIN) -> bool:
        """Whether this comes back now; older answers are passed over."""
        self.send(payload)
        try:
            while self.receive(patience) != payload:
                pass
        except TimeoutError:
            return False
        return True


class EchoService:
    """
    A UDP service in this process: sends back what comes.

    @ivar heard: how many datagrams came, by who sent them.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.heard: Counter[Any] = Counter()
        self._socket = udp_socket(host)
        self._socket.settimeout(None)
        self._over = False
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        if self._over:
            return
        self._over = True
        host = self._socket.getsockname()[0]
        with udp_socket(host) as last:
            last.sendto(b"", (host, self.port))
        self._thread.join(PATIENCE)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            payload, address = self._socket.recvfrom(65536)
            if self._over:
                return
            self.heard[address] += 1
            with contextlib.suppress(OSError):
                self._socket.sendto(payload, address)


class Router:
    """
    A NAT between the clients and a server: TCP passes, and UDP as the test says.

    It is at L{ROUTER}, with the numbers of the server's ports.

    @ivar passes: whether a UDP packet passes; gets it.
    @ivar packets: how many came, those that did not pass, too.
    """

    def __init__(self, control: int, relay: int) -> None:
        self.passes: Callable[[bytes], bool] = lambda packet: True
        self.packets = 0
        self._proxies = [Proxy(port, (ROUTER, port)) for port in (control, relay)]
        self._server = "127.0.0.1", relay
        self._inside = udp_socket(ROUTER, relay)
        self._outside: dict[Any, socket.socket] = {}
        self._ear, self._mouth = socket.socketpair()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._route, daemon=True)
        self._thread.start()

    def block(self) -> None:
        """From now on no UDP passes."""
        self.passes = lambda packet: False

    def unblock(self) -> None:
        """From now on all of it does."""
        self.passes = lambda packet: True

    def forget(self) -> None:
        """No mapping is there any more, as after a while of silence: the next are other ports."""
        with self._lock:
            outside, self._outside = self._outside, {}
            for sock in outside.values():
                sock.close()
        self._mouth.send(b".")

    def close(self) -> None:
        self._mouth.close()
        self._thread.join(PATIENCE)
        for proxy in self._proxies:
            proxy.close()
        for sock in [self._ear, self._inside, *self._outside.values()]:
            sock.close()

    def _route(self) -> None:
        while True:
            with self._lock:
                outside = {sock: address for address, sock in self._outside.items()}
            with contextlib.suppress(OSError, ValueError):  # A mapping was forgotten just now.
                ready, _ = select([self._inside, self._ear, *outside], timeout=None)
                for sock in ready:
                    if sock is self._ear:
                        if not self._ear.recv(100):
                            return
                        break
                    with self._lock:
                        self._pass_on(sock, outside.get(sock))

    def _pass_on(self, sock: socket.socket, client: Any) -> None:
        packet, sender = sock.recvfrom(65536)
        self.packets += 1
        if not self.passes(packet):
            return
        if client is not None:
            self._inside.sendto(packet, client)
            return
        if sender not in self._outside:
            self._outside[sender] = udp_socket()
        self._outside[sender].sendto(packet, self._server)


def is_bind(packet: bytes) -> bool:
    """Whether it is for the relay itself, or from it."""
    return len(packet) == BIND_SIZE and packet[6:10] == MAGIC


class UdpTestCase(ProcessTestCase):
    """
    A server, a provider and a visitor of a udp service.

    @ivar daemons: the three processes, by the name of their state directory.
    @ivar port: the local one that leads to the service.
    @cvar blocked: whether no UDP gets to the relay.
    """

    port: int
    blocked: ClassVar[bool] = False

    def setUp(self) -> None:
        super().setUp()
        self.daemons: dict[str, Process] = {}

    def echo_service(self) -> EchoService:
        """A service that ends with the test."""
        echo = EchoService()
        self.addCleanup(echo.close)
        return echo

    def sender(self, port: int | None = None, host: str = "127.0.0.1") -> Sender:
        """A program that ends with the test."""
        sender = Sender(self.port if port is None else port, host)
        self.addCleanup(sender.close)
        return sender

    def run_server(self, config: str = "", host: str | None = None) -> Process:
        """
        Start it; a second time with the same ports and state.

        @param host: where the clients are to dial it.
        """
        if not hasattr(self, "ports"):
            self.ports = free_port(), free_port()
        control, relay = map(str, self.ports)
        if self.blocked:
            host = ROUTER
        options = () if host is None else (f"--public-host={host}",)
        server = self.start_server(*options, control=control, relay=relay, config=config)
        self.daemons["server"] = server
        if self.blocked:
            self.route().block()
        return server

    def route(self) -> Router:
        """A router in front of the server that was started."""
        router = Router(*self.ports)
        self.addCleanup(router.close)
        return router

    def run_provider(
        self, port: int, more: str = "", client: str = "", host: str = "127.0.0.1"
    ) -> Process:
        """
        Client C{provider}, which offers C{game} at a local UDP port.

        @param more: further sections.
        @param client: further lines for the [client] section.
        @param host: where the service is.
        """
        provider = self.start_client(
            "provider",
            f"[service:game]\nprotocol = udp\nlocal_host = {host}\nlocal_port = {port}\n{more}",
            client,
        )
        self.daemons["provider"] = provider
        return provider

    def run_visitor(self, local_port: int = 0, more: str = "") -> Process:
        """
        Client C{visitor}; its local port becomes C{port}.

        @param more: further sections.
        """
        visitor = self.start_client(
            "visitor",
            f"[connect:it]\ntarget = provider\nservice = game\nlocal_port = {local_port}\n{more}",
        )
        self.daemons["visitor"] = visitor
        self.port = int(visitor.wait_for(r"udp 127\.0\.0\.1:(\d+) leads to provider/game")[1])
        return visitor

    def run_tunnel(self, service: int) -> None:
        """All three."""
        self.run_server()
        self.run_provider(service)
        self.run_visitor()

    def run_tunnel_behind_router(self, service: int) -> Router:
        """All three, with a router between the server and both clients."""
        self.run_server(host=ROUTER)
        router = self.route()
        self.run_provider(service)
        self.run_visitor()
        return router

    def session(self, name: str) -> dict[str, Any]:
        """The one udp session that the daemon C{name} has."""
        (session,) = (each for each in self.status(name)["sessions"] if each["service"] == "game")
        return session  # type: ignore[no-any-return]

    def paths(self) -> set[str]:
        """Which way datagrams take now, there and back."""
        sessions = [*self.status("visitor")["sessions"], *self.status("provider")["sessions"]]
        return {
            session["datagrams"]["path"]
            for session in sessions
            if session["service"] == "game" and "datagrams" in session
        }

    def wait_for_usual_path(self) -> None:
        """Until datagrams go as they should in this test: by UDP if it is not blocked."""
        self.wait_for_path("link" if self.blocked else "udp")

    def wait_for_path(self, path: str) -> None:
        """Until datagrams take C{path} both ways."""
        eventually(lambda: self.paths() == {path}, lambda: f"they take {self.paths()}")

    def wait_for_answer(self, sender: Sender) -> None:
        """Until a datagram comes back."""
        eventually(lambda: sender.answered(ANYBODY), lambda: "no datagram comes back")
