"""What the others do when a process is killed, stopped or cut off at a bad moment."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator

from ..polling import select
from .processes import (
    PATIENCE,
    TWISTD,
    Process,
    ProcessTestCase,
    dialled,
    eventually,
    free_port,
    receive_exactly,
    side_by_side,
)
from .services import ask_source, digest, digest_of, take

#: More than the buffers on the way hold, so that it is under way when somebody dies.
LONG = 2 * 1024 * 1024 * 1024
SHORT = 1024 * 1024
#: Seconds from a login to the clientId, whoever had it before.
TAKE_OVER = 1.0


class KillTestCase(ProcessTestCase):
    """A server at ports that a later one can have again, and clients to be started."""

    def setUp(self) -> None:
        super().setUp()
        self.source, self.service = self.start_service("source")

    def run_server(self, config: str = "") -> Process:
        """Start it; a second time with the same ports and state."""
        if not hasattr(self, "ports"):
            self.ports = free_port(), free_port()
        control, relay = map(str, self.ports)
        return self.start_server(control=control, relay=relay, config=config)

    def run_tunnel(self) -> None:
        """All three, and one stream to warm them up."""
        self.server = self.run_server()
        self.provider = self.start_provider(self.service, "source", mode="raw")
        self.visitor, self.port = self.start_visitor("source")
        self.check_stream()

    def check_stream(self) -> None:
        """A new stream carries what it should."""
        with dialled(self.port) as connection:
            ask_source(connection, SHORT)
            self.assertEqual(digest_of(connection), (SHORT, digest(SHORT)))

    def check_stream_eventually(self) -> None:
        """A new stream works, now or as soon as everybody is back."""
        failures: list[str] = []

        def works() -> bool:
            try:
                self.check_stream()
            except (OSError, self.failureException) as error:
                failures.append(str(error))
                return False
            return True

        eventually(works, lambda: f"no stream comes through: {failures[-1]}")

    @contextlib.contextmanager
    def transfer(self) -> Iterator[socket.socket]:
        """A long stream that is under way."""
        with dialled(self.port) as connection:
            ask_source(connection, LONG)
            self.assertEqual(take(connection, SHORT), SHORT)
            yield connection

    def assert_breaks(self, connection: socket.socket) -> None:
        """The program sees an error: an early end would look like a whole file."""
        with self.assertRaises(ConnectionError):
            count = take(connection, LONG)
            self.assertEqual(count, LONG, "the stream ended as if it were whole")


class Killed(KillTestCase):
    """SIGKILL in the middle of a transfer."""

    def setUp(self) -> None:
        super().setUp()
        self.run_tunnel()

    def test_provider(self) -> None:
        """A provider killed in a transfer breaks it, leaves nothing, and is replaced at once."""
        level = self.settled_level(server=self.server, visitor=self.visitor)
        with self.transfer() as connection:
            self.provider.kill()
            self.assert_breaks(connection)
        self.server.wait_for("ended client_offline")
        self.provider = self.start_provider(self.service, "source", mode="raw")
        self.check_stream_eventually()
        self.assertNotIn("id_in_use", self.server.output + self.provider.output)
        self.assert_back_at(level, server=self.server, visitor=self.visitor)

    def test_visitor(self) -> None:
        """A visitor killed in a transfer leaves nothing with the others, and is back at once."""
        level = self.settled_level(server=self.server, provider=self.provider)
        with self.transfer() as connection:
            self.visitor.kill()
            self.assert_breaks(connection)
        self.server.wait_for("ended client_offline")
        self.visitor, self.port = self.start_visitor("source")
        self.check_stream()
        self.assertNotIn("id_in_use", self.server.output + self.visitor.output)
        self.assert_back_at(level, server=self.server, provider=self.provider)

    def test_server(self) -> None:
        """A server killed in a transfer breaks it; both clients are back when it is."""
        clients = {"provider": self.provider, "visitor": self.visitor}
        level = self.settled_level(**clients)
        with self.transfer() as connection:
            self.server.kill()
            self.assert_breaks(connection)
        seen = {name: len(client.lines) for name, client in clients.items()}
        for client in clients.values():
            client.wait_for("the connection to the server is lost")
        self.server = self.run_server()
        for name, client in clients.items():
            client.wait_for("signed in as", after=seen[name])
        self.check_stream_eventually()
        self.assert_back_at(level, **clients)

    def test_service(self) -> None:
        """A service killed in a transfer breaks that stream only, and leaves nothing."""
        daemons = {"server": self.server, "provider": self.provider, "visitor": self.visitor}
        level = self.settled_level(**daemons)
        with self.transfer() as connection:
            self.source.kill()
            with contextlib.suppress(ConnectionError):
                self.assertLess(take(connection, LONG), LONG)
        with dialled(self.port) as connection, contextlib.suppress(ConnectionError):
            self.assertEqual(connection.recv(1), b"")
        self.provider.wait_for("source does not answer")
        self.assert_back_at(level, **daemons)

    def test_program(self) -> None:
        """A program that resets its connection in a transfer leaves nothing."""
        daemons = {"server": self.server, "provider": self.provider, "visitor": self.visitor}
        level = self.settled_level(**daemons)
        with self.transfer():
            pass  # What was not read makes a reset of the end.
        self.assert_back_at(level, **daemons)


class KilledInHandshake(KillTestCase):
    """SIGKILL while a session is offered: the provider is stopped, so it does not answer."""

    def setUp(self) -> None:
        super().setUp()
        self.server = self.run_server()
        self.provider = self.start_provider(self.service, "source", mode="raw")
        self.before = self.settled_level(server=self.server)
        self.provider.signal(signal.SIGSTOP)
        self.visitor, self.port = self.start_visitor("source")
        eventually(
            lambda: len(self.status("server")["sessions"]) == 1,
            lambda: "the visitor does not ask for its session",
        )

    def test_provider(self) -> None:
        """A session whose provider dies before its answer is over, and there is a new one."""
        self.provider.kill()
        self.server.wait_for("ended client_offline")
        self.visitor.wait_for("waiting for provider/source: the provider left")
        self.assertEqual(self.status("server")["sessions"], [])
        self.provider = self.start_provider(self.service, "source", mode="raw")
        self.check_stream_eventually()

    def test_visitor(self) -> None:
        """A session whose visitor dies before the answer is over for its provider as well."""
        self.visitor.kill()
        self.server.wait_for("ended client_offline")
        self.provider.signal(signal.SIGCONT)
        self.provider.wait_for("visitor visits source")
        eventually(
            lambda: not self.status("provider")["sessions"],
            lambda: "the provider keeps a session that never was",
        )
        self.assert_back_at(self.before, server=self.server)

    def test_server(self) -> None:
        """A server that dies before the answer is missed by both, and they meet at the next."""
        self.server.kill()
        self.provider.signal(signal.SIGCONT)
        self.visitor.wait_for("the connection to the server is lost")
        self.server = self.run_server()
        self.check_stream_eventually()
        self.assertEqual(len(self.status("provider")["sessions"]), 1)


class HalfOpen(KillTestCase):
    """A peer that is there for the kernel, and answers nothing."""

    def test_in_time(self) -> None:
        """Nobody waits for one without end, whoever it is."""
        side_by_side(*map(HalfOpen, ("stopped_provider", "lonely_stream", "stopped_server")))

    def test_take_over(self) -> None:
        """A new login takes over its clientId from one that hangs, within a second."""
        self.server = self.run_server()
        provider = self.start_provider(self.service, "source", mode="raw")
        provider.signal(signal.SIGSTOP)
        self.addCleanup(provider.signal, signal.SIGCONT)
        shutil.copytree(
            self.folder / "provider",
            self.folder / "copy",
            ignore=shutil.ignore_patterns("lock", "control.sock"),
        )
        path = self.config("provider", "", "")
        path.write_text(path.read_text().replace(f"{self.folder}/provider", f"{self.folder}/copy"))
        again = self.start(
            "again", *TWISTD, "-n", "--pidfile=", "relaytun-client", f"--config={path}"
        )
        again.wait_for("Starting factory|relaytun|starting up")
        begin = time.monotonic()
        again.wait_for("signed in as provider")
        self.assertLess(time.monotonic() - begin, TAKE_OVER)
        self.assertNotIn("refuses", again.output)
        provider.kill()
        self.assertEqual(self.status("server")["clients"], ["provider"])

    def stopped_provider(self) -> None:
        """
        Streams to a provider that hangs are refused soon, those it had go on when it does, and
        new ones work again.
        """
        self.server = self.run_server("heartbeat_timeout = 3s\nheartbeat_interval = 1s")
        beat = "heartbeat_interval = 1s"
        _, service = self.start_service("echo")
        self.provider = self.start_client(
            "provider",
            "[service:echo]\nprotocol = tcp\nmode = raw\nlocal_host = 127.0.0.1\n"
            f"local_port = {service}\n\n[service:source]\nprotocol = tcp\nmode = raw\n"
            f"local_host = 127.0.0.1\nlocal_port = {self.service}\n",
            beat,
        )
        self.visitor = self.start_client(
            "visitor",
            "[connect:it]\ntarget = provider\nservice = source\nlocal_port = 0\n\n"
            "[connect:echo]\ntarget = provider\nservice = echo\nlocal_port = 0\n",
            beat,
        )
        self.port, echo = (
            int(self.visitor.wait_for(rf"127\.0\.0\.1:(\d+) leads to provider/{name}")[1])
            for name in ("source", "echo")
        )
        self.check_stream()
        with dialled(echo) as connection:
            connection.sendall(b"before")
            self.assertEqual(receive_exactly(connection, 6), b"before")
            lines = len(self.provider.lines)
            self.provider.signal(signal.SIGSTOP)
            connection.sendall(b"during")
            eventually(
                lambda: self.status("server")["clients"] == ["visitor"],
                lambda: "the server does not miss the provider",
            )
            with dialled(self.port) as refused, self.assertRaises(ConnectionError):
                refused.recv(1)
            self.visitor.wait_for("no stream to provider/source: provider is not online")
            self.provider.signal(signal.SIGCONT)
            self.assertEqual(receive_exactly(connection, 6), b"during")
            self.provider.wait_for("signed in as", after=lines)
            self.check_stream_eventually()
            connection.sendall(b"after")
            self.assertEqual(receive_exactly(connection, 5), b"after")
        eventually(
            lambda: not any(self.streams(name) for name in ("server", "provider", "visitor")),
            lambda: "a stream is left behind",
        )

    def lonely_stream(self) -> None:
        """A stream that finds no partner is refused, and the session it was to be of lives on."""
        self.run_tunnel()
        daemons = {"server": self.server, "provider": self.provider, "visitor": self.visitor}
        level = self.settled_level(**daemons)
        self.provider.signal(signal.SIGSTOP)
        with contextlib.ExitStack() as connections:
            # The spare legs that are there take the first ones: those have a partner.
            programs = [
                connections.enter_context(dialled(self.port))
                for _ in range(level["server"]["openLegs"] + 1)
            ]
            with self.assertRaises(ConnectionError):
                programs[-1].recv(1)
            self.visitor.wait_for("no stream to provider/source: lonely")
            self.provider.signal(signal.SIGCONT)
            self.check_stream()
        self.assertEqual(len(self.status("server")["sessions"]), 1)

    def stopped_server(self) -> None:
        """A program does not wait for ever on a server that hangs, and the next one is served."""
        self.run_tunnel()
        self.server.signal(signal.SIGSTOP)
        with dialled(self.port) as connection, self.assertRaises(ConnectionError):
            connection.recv(1)
        self.visitor.wait_for("no stream to provider/source")
        self.server.signal(signal.SIGCONT)
        self.check_stream_eventually()


class ControlLost(KillTestCase):
    """Only the control connections break."""

    def test_streams_go_on(self) -> None:
        """Streams outlive their control connections, and after the next login there are more."""
        self.server = self.run_server()
        proxy = Proxy(self.ports[0])
        self.addCleanup(proxy.close)
        clients = {
            "provider": self.start_through(
                proxy,
                "provider",
                "[service:source]\nprotocol = tcp\nmode = raw\nlocal_host = 127.0.0.1\n"
                f"local_port = {self.service}\n",
            ),
            "visitor": self.start_through(
                proxy,
                "visitor",
                "[connect:it]\ntarget = provider\nservice = source\nlocal_port = 0\n",
            ),
        }
        visitor = clients["visitor"]
        self.port = int(visitor.wait_for(r"127\.0\.0\.1:(\d+) leads to")[1])
        self.check_stream()
        level = self.settled_level(server=self.server, **clients)
        with dialled(self.port) as connection:
            ask_source(connection, 64 * SHORT)
            self.assertEqual(take(connection, SHORT), SHORT)
            seen = {name: len(client.lines) for name, client in clients.items()}
            proxy.cut()
            for name, client in clients.items():
                client.wait_for("running streams go on", after=seen[name])
                client.wait_for("signed in as", after=seen[name])
            self.check_stream_eventually()
            self.assertEqual(take(connection, LONG), 63 * SHORT)
        self.assert_back_at(level, server=self.server, **clients)

    def start_through(self, proxy: Proxy, client_id: str, sections: str) -> Process:
        """A client that reaches the control port by way of C{proxy}."""
        path = self.config(client_id, sections)
        path.write_text(
            path.read_text().replace(
                f"invite_file = {self.folder}/server/invite",
                f"server = ws://127.0.0.1:{proxy.port}\ntoken_file = {self.folder}/server/token",
            )
        )
        client = self.start(
            client_id, *TWISTD, "-n", "--pidfile=", "relaytun-client", f"--config={path}"
        )
        client.wait_for("signed in as")
        return client


class Proxy:
    """A TCP hop in front of a port, whose connections can be cut."""

    def __init__(self, target: int, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        """@param address: where it listens."""
        self._target = target
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listening = socket.create_server(address)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Break every connection that runs."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for connection in pair:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self.cut()

    def _accept(self) -> None:
        with self._listening, contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self._target), PATIENCE)
                self._pairs.append((near, far))
                threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()

    @staticmethod
    def _pass_on(near: socket.socket, far: socket.socket) -> None:
        with near, far, contextlib.suppress(OSError):
            while True:
                for source in select([near, far], timeout=None)[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    (far if source is near else near).sendall(data)
