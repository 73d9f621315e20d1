"""
A tunnel in mode link for tests: its processes, both ends of its streams, and what goes over them.

The service is in the test's own process, so that a test holds both programs of a stream: the
visitor's (near) and the service's (far).
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import operator
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, NamedTuple

from ..polling import select
from .processes import PATIENCE, Process, ProcessTestCase, eventually, free_port
from .shared import Keeper

MIB = 1024 * 1024
#: So that what never comes back is found soon, and what takes a moment is not.
RESUME_TIMEOUT = 2
#: Many kills in a row are not to make the clients slow for the tests that follow.
QUICK = "reconnect_interval = 0.02s\nheartbeat_interval = 1s"
#: Odd lengths, so that a gap or a repetition of any usual buffer size shows; not the same in both
#: directions, so that an echo shows.
_BLOCKS = [random.Random(seed).randbytes(MIB - 3) for seed in (1, 2)]


class Stream(NamedTuple):
    """Both ends of one."""

    near: socket.socket
    far: socket.socket


class Service:
    """A listening socket whose connections the test takes by itself."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._listening = socket.create_server((host, 0), backlog=4096)
        self._listening.settimeout(PATIENCE)
        self.port = int(self._listening.getsockname()[1])

    def accept(self) -> socket.socket:
        """The next stream's far end."""
        connection, _ = self._listening.accept()
        connection.settimeout(PATIENCE)
        return connection

    def waits(self) -> bool:
        """Whether there is one to be accepted."""
        return bool(select([self])[0])

    def drop(self) -> None:
        """Forget those that nobody wants any more."""
        while self.waits():
            self.accept().close()

    def fileno(self) -> int:
        return self._listening.fileno()

    def close(self) -> None:
        self._listening.close()


class Tunnel(Keeper):
    """
    Server, provider and visitor, with a link between the two.

    @ivar ports: of the server, control and relay: it has the same ones after a restart.
    @ivar host: the visitor's, where programs connect.
    @ivar port: the port there.
    """

    host = "127.0.0.1"

    def __init__(
        self, client: str = "", mode: str = "link", server: str = "", port: int | None = None
    ) -> None:
        """
        @param client: further lines for both [client] sections.
        @param server: further lines for the [server] section.
        @param port: of a service that is there already; otherwise it is in this process.
        """
        super().__init__()
        self.service = Service()
        self.kept.callback(self.service.close)
        self.client = client
        self.mode = mode
        self.service_port = port or self.service.port
        self.settings = server
        self.ports = free_port(), free_port()
        self.server = self.run_server()
        self.provider, self.visitor = self.launch_provider(), self.launch_visitor()
        self.port = port_of(self.visitor)
        if port is None:
            self.await_link()
        else:
            self.provider.wait_for("visitor visits it")

    def run_server(self) -> Process:
        """Start it, a second time with the same ports and state."""
        control, relay = map(str, self.ports)
        return self.start_server(control=control, relay=relay, config=self.settings)

    def restart_server(self) -> None:
        """SIGKILL, and another one in its place."""
        self.server.kill()
        self.server.close()
        self.server = self.run_server()

    def launch_provider(self) -> Process:
        """Client C{provider}, which offers C{it}."""
        return self.launch_client(
            "provider",
            f"[service:it]\nprotocol = tcp\nlocal_host = 127.0.0.1\nmode = {self.mode}\n"
            f"local_port = {self.service_port}\n",
            self.client,
        )

    def launch_visitor(self) -> Process:
        """Client C{visitor}, which visits it."""
        return self.launch_client(
            "visitor",
            "[connect:it]\ntarget = provider\nservice = it\nlocal_port = 0\nmode = auto\n",
            self.client,
        )

    def await_link(self) -> None:
        """A stream goes from end to end, now or as soon as the clients have found each other."""
        failures: list[Exception] = []

        def works() -> bool:
            try:
                with self.dial() as near:
                    if self.service not in select([near, self.service], timeout=PATIENCE)[0]:
                        return False
                    with self.service.accept() as far:
                        exchange(near, far)
            except (OSError, AssertionError) as error:  # Or one that an earlier try has left.
                failures.append(error)
                return False
            return True

        eventually(works, lambda: f"no stream works: {failures[-1:]}")

    def dial(self) -> socket.socket:
        """A program's connection to the visitor."""
        return socket.create_connection((self.host, self.port), PATIENCE)

    @contextlib.contextmanager
    def stream(self, patience: float = PATIENCE) -> Iterator[Stream]:
        """A new one; its ends wait C{patience} seconds for each other's bytes."""
        with self.dial() as near, self.service.accept() as far:
            for end in (near, far):
                end.settimeout(patience)
            yield Stream(near, far)

    @property
    def daemons(self) -> dict[str, Process]:
        """All three, by the names of their state directories."""
        return {"server": self.server, "provider": self.provider, "visitor": self.visitor}


class LinkTestCase(ProcessTestCase):
    """
    Tests with one tunnel between them; a test that ends a client starts it again.

    @cvar client: lines for both [client] sections.
    """

    client = f"resume_timeout = {RESUME_TIMEOUT}s"
    _running: ClassVar[tuple[type, Tunnel] | None] = None

    def setUp(self) -> None:
        super().setUp()
        running = LinkTestCase._running
        if running is None or running[0] is not type(self):
            if running is not None:
                LinkTestCase._running = None
                running[1].kept.close()
            running = type(self), self.make_tunnel()
            atexit.register(running[1].kept.close)
            LinkTestCase._running = running
        self.tunnel = running[1]
        self.tunnel.service.drop()
        self.addCleanup(self.check_logs)

    def make_tunnel(self) -> Tunnel:
        """The one that the tests of this class share."""
        return Tunnel(f"{self.client}\n{QUICK}")

    def check_logs(self) -> None:
        """Nothing surprised anybody."""
        for daemon in self.tunnel.daemons.values():
            self.assertNotIn("Traceback", daemon.output)
            self.assertNotIn("Unhandled", daemon.output)

    def assert_reset(self, connection: socket.socket) -> None:
        """The program sees an error: an end would look like a whole file."""
        with self.assertRaises(ConnectionError, msg="the stream ended as if it were whole"):
            while connection.recv(MIB):
                pass

    def assert_nothing_left(self) -> None:
        """No stream anywhere, and nobody waits to close what its peer has closed."""
        daemons = self.tunnel.daemons
        clients = "provider", "visitor"
        eventually(
            lambda: not any(self.tunnel.streams(name) for name in clients),
            lambda: f"streams are left: {[self.tunnel.status(name) for name in clients]}",
        )
        eventually(
            lambda: not any(daemon.close_waits() for daemon in daemons.values()),
            lambda: "a socket is left in CLOSE_WAIT",
        )


class OwnTunnelTestCase(LinkTestCase):
    """Tests with a tunnel each, that may go side by side."""

    def setUp(self) -> None:
        ProcessTestCase.setUp(self)
        self.tunnel = self.make_tunnel()
        self.addCleanup(self.tunnel.kept.close)
        self.addCleanup(self.check_logs)


class Traffic:
    """
    Bytes each way at the same time, each direction with content of its own.

    @ivar taken: bytes that arrived so far, at the near end and at the far one.
    @ivar pause: the longest time without any, at either end; it may be set to zero.
    """

    def __init__(self, stream: Stream, count: int) -> None:
        """@param count: bytes each way, at least; more are written until L{finish}."""
        self.taken = [0, 0]
        self.pause = 0.0
        self._count = count
        self._enough = threading.Event()
        self._written = [hashlib.sha256(), hashlib.sha256()]
        self._read_hashes = [hashlib.sha256(), hashlib.sha256()]
        self._errors: list[Exception] = []
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._guard, args=(work, end, number), daemon=True)
            for number, end in enumerate(stream)
            for work in (self._write, self._read)
        ]
        for thread in self._threads:
            thread.start()

    def moves(self, than: Sequence[int], patience: float) -> bool:
        """Wait until both ends have more than that; returns whether it came to it."""
        with self._changed:
            return self._changed.wait_for(
                lambda: all(map(operator.gt, self.taken, than)) or bool(self._errors), patience
            )

    def wait_for(self, count: int, patience: float = PATIENCE) -> None:
        """Until C{count} bytes have arrived at both ends."""
        if not self.moves([count - 1] * 2, patience):
            raise AssertionError(f"after {patience} s {self.taken} of {count} are there")
        self._raise()

    def finish(self, patience: float = PATIENCE) -> None:
        """Until all is there, and it is what was sent, and both directions ended in order."""
        self.wait_for(self._count, patience)
        self._enough.set()
        for thread in self._threads:
            thread.join(patience)
            assert not thread.is_alive(), "the stream does not end"
        self._raise()
        for one, other in ((0, 1), (1, 0)):
            assert self.taken[one] >= self._count, f"{self.taken} of {self._count}"
            same = self._read_hashes[one].digest() == self._written[other].digest()
            assert same, "other bytes arrived"

    def _raise(self) -> None:
        if self._errors:
            raise AssertionError(f"a stream broke: {self._errors}, {self.taken} are there")

    def _guard(
        self, work: Callable[[socket.socket, int], None], end: socket.socket, number: int
    ) -> None:
        try:
            work(end, number)
        except Exception as error:
            with self._changed:
                self._errors.append(error)
                self._changed.notify_all()

    def _write(self, end: socket.socket, number: int) -> None:
        block = _BLOCKS[number]
        written = 0
        while written < self._count or not self._enough.is_set():
            end.sendall(block)
            self._written[number].update(block)
            written += len(block)
        end.shutdown(socket.SHUT_WR)

    def _read(self, end: socket.socket, number: int) -> None:
        room = memoryview(bytearray(MIB))
        last = time.monotonic()
        while size := end.recv_into(room):
            now = time.monotonic()
            self._read_hashes[number].update(room[:size])
            with self._changed:
                self.pause, last = max(self.pause, now - last), now
                self.taken[number] += size
                self._changed.notify_all()


class Kills:
    """
    A server, or what leads there, that is killed a moment after each time that a transfer moves.

    @ivar rests: of each kill: seconds from it until bytes move, and from the server's readiness.
    """

    #: Seconds for which the transfer may move.
    RUN = 0.3

    def __init__(self, restart: Callable[[], None], traffic: Traffic) -> None:
        """@param restart: kills it, and starts it again."""
        self.rests: list[tuple[float, float]] = []
        self._restart = restart
        self._traffic = traffic

    def go_on(self, enough: Callable[[], bool]) -> None:
        """Until it is C{enough}."""
        pause = threading.Event()
        while not enough():
            pause.wait(self.RUN)
            killed = time.monotonic()
            self._restart()
            ready = time.monotonic()
            # What was on its way behind the link has arrived by now.
            before = list(self._traffic.taken)
            if not self._traffic.moves(before, PATIENCE):
                raise AssertionError(f"nothing moves {PATIENCE} s after a kill: {before}")
            now = time.monotonic()
            self.rests.append((now - killed, now - ready))


def exchange(near: socket.socket, far: socket.socket, data: bytes = b"a few bytes") -> None:
    """Bytes still go both ways."""
    for one, other in ((near, far), (far, near)):
        one.sendall(data)
        received = b""
        while len(received) < len(data):
            part = other.recv(len(data) - len(received))
            if not part:
                break
            received += part
        if received != data:
            raise AssertionError(f"sent {data!r}, got {received!r}")


def port_of(visitor: Process) -> int:
    """The local port of a visitor's only C{[connect:...]}."""
    return int(visitor.wait_for(r"[\d.]+:(\d+) leads to")[1])
