"""
Real processes for integration tests: start, wait for what they say, end by pid.

Nothing here sleeps: a test waits for a line of output, a connection or an exit, each with a
deadline, and fails with the whole output when it does not come.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from relaytun import adminsocket

from . import nursery

#: Seconds for anything to happen on a busy machine.
PATIENCE = 30.0
TWISTD = nursery.TWISTD
RELAYTUN = nursery.RELAYTUN
SERVICES = Path(__file__).with_name("services.py")
#: Where the ephemeral ports of most systems begin.
_EPHEMERAL = 32768
_CLOSE_WAIT = "08"


class Process:
    """A program with its output gathered line by line."""

    def __init__(
        self, name: str, arguments: Sequence[str], folder: Path, **environment: str
    ) -> None:
        self.name = name
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._over = False
        self.popen = nursery.start(
            arguments, folder, {**os.environ, "PYTHONUNBUFFERED": "1", **environment}
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, after: int = 0, patience: float = PATIENCE) -> re.Match[str]:
        """
        Wait for a line that matches.

        @param after: how many lines of output to pass over (C{len(process.lines)} taken earlier).
        """
        found: list[re.Match[str]] = []

        def look() -> bool:
            for line in self.lines[after:]:
                match = re.search(pattern, line)
                if match:
                    found.append(match)
                    return True
            return self._over

        with self._changed:
            self._changed.wait_for(look, patience)
        if not found:
            raise AssertionError(f"{self.name} never said {pattern!r}; it said:\n{self.output}")
        return found[0]

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for its end; returns the exit code."""
        try:
            code = self.popen.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not end; it said:\n{self.output}") from None
        self._reader.join(patience)
        return code

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.wait()

    def stop(self) -> int:
        """SIGTERM, and wait until it is gone."""
        if self.popen.poll() is None:
            self.popen.terminate()
        return self.wait()

    def close(self) -> None:
        """For clean-up: in order if possible, but gone in any case."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        self.wait()
        if self.popen.stdout is not None:
            self.popen.stdout.close()

    def descriptors(self) -> int:
        """How many file descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def sockets(self) -> int:
        """How many of its descriptors are sockets: not pipes, which a pool may keep."""
        return len(self._socket_inodes())

    def close_waits(self) -> int:
        """How many of its TCP sockets wait for it to close what its peer has closed."""
        inodes = self._socket_inodes()
        count = 0
        for table in ("tcp", "tcp6"):
            with contextlib.suppress(FileNotFoundError):
                for line in Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                    fields = line.split()
                    count += fields[3] == _CLOSE_WAIT and fields[9] in inodes
        return count

    def memory(self) -> int:
        """Resident bytes."""
        with open(f"/proc/{self.pid}/statm") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        with open(f"/proc/{self.pid}/stat") as stream:
            fields = stream.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _socket_inodes(self) -> set[str]:
        folder = f"/proc/{self.pid}/fd"
        inodes = set()
        for descriptor in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # Closed in the meantime.
                kind, _, inode = os.readlink(f"{folder}/{descriptor}").partition(":")
                if kind == "socket":
                    inodes.add(inode.strip("[]"))
        return inodes

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()


class ProcessTestCase(SynchronousTestCase):
    """
    A test with a folder of its own and processes that end with it.

    @ivar folder: short enough for UNIX sockets.
    """

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rt-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def start(self, name: str, *arguments: str, **environment: str) -> Process:
        """Any program."""
        process = Process(name, arguments, self.folder, **environment)
        self.addCleanup(process.close)
        return process

    def start_server(
        self,
        *options: str,
        control: str = "0",
        relay: str = "0",
        config: str = "",
        state: str = "server",
    ) -> Process:
        """
        A relaytun server on loopback; returns when it listens.

        @param config: further lines for the [server] section, and further sections.
        """
        path = self.server_config(config, state)
        process = self.start(
            "server",
            *TWISTD,
            "-n",
            "--pidfile=",
            "relaytun-server",
            f"--config={path}",
            f"--control={control}",
            f"--relay={relay}",
            "--host=127.0.0.1",
            f"--state-dir={self.folder / state}",
            *options,
        )
        process.wait_for(r"invite: relaytun://")
        return process

    def server_config(self, config: str, state: str = "server") -> Path:
        """The server's configuration file; without a word about it, it ends at once."""
        path = self.folder / f"{state}.ini"
        path.write_text(f"[server]\n{_at_once(config)}{config}\n")
        return path

    @property
    def invite(self) -> str:
        """The invite of the server that was started."""
        return (self.folder / "server" / "invite").read_text().strip()

    @property
    def control_port(self) -> int:
        """Its control port."""
        match = re.search(r":(\d+)\?", self.invite)
        assert match is not None
        return int(match[1])

    def config(self, client_id: str, sections: str, client: str = "") -> Path:
        """
        A client's configuration file; without a word about it, it ends at once, and goes through
        the relay.

        @param client: further lines for the [client] section.
        """
        path = self.folder / f"{client_id}.ini"
        path.write_text(
            f"[client]\ninvite_file = {self.folder}/server/invite\nclient_id = {client_id}\n"
            f"state_dir = {self.folder}/{client_id}\n{_at_once(client)}{_relayed(client)}"
            f"{client}\n\n{sections}\n"
        )
        return path

    def launch_client(self, client_id: str, sections: str, client: str = "") -> Process:
        """A relaytun client; does not wait for it."""
        return self.start(
            client_id,
            *TWISTD,
            "-n",
            "--pidfile=",
            "relaytun-client",
            f"--config={self.config(client_id, sections, client)}",
        )

    def start_client(self, client_id: str, sections: str, client: str = "") -> Process:
        """A relaytun client; returns when it is signed in."""
        process = self.launch_client(client_id, sections, client)
        process.wait_for("signed in as")
        return process

    def start_provider(self, port: int, service: str = "echo", **keys: str) -> Process:
        """Client C{provider}, which offers C{service} at a local port."""
        lines = "".join(f"{key} = {value}\n" for key, value in keys.items())
        return self.start_client(
            "provider",
            f"[service:{service}]\nprotocol = tcp\nlocal_host = 127.0.0.1\n"
            f"local_port = {port}\n{lines}",
        )

    def start_visitor(self, service: str = "echo", target: str = "provider") -> tuple[Process, int]:
        """Client C{visitor}; returns it and the local port that leads to the service."""
        process = self.start_client(
            "visitor",
            f"[connect:it]\ntarget = {target}\nservice = {service}\nlocal_port = 0\n",
        )
        return process, int(process.wait_for(r"127\.0\.0\.1:(\d+) leads to")[1])

    def start_service(self, kind: str) -> tuple[Process, int]:
        """
        A service of its own process.

        @param kind: C{echo}, C{source} or C{sink}, see C{services.py}.
        @return: the process and its port.
        """
        process = self.start(kind, sys.executable, str(SERVICES), kind)
        return process, int(process.wait_for(r"listening on (\d+)")[1])

    def status(self, name: str) -> dict[str, Any]:
        """What the daemon with the state directory C{name} says of itself."""
        answer: dict[str, Any] = adminsocket.ask(self.folder / name, "status")
        return answer

    def streams(self, name: str) -> int:
        """How many streams run there."""
        return sum(session["streams"] for session in self.status(name)["sessions"])

    def level(self, **processes: Process) -> dict[str, Any]:
        """
        What each daemon holds: sockets, sessions, streams, and the server's open legs.

        @param processes: by the name of their state directory.
        """
        # Counted first: each question is a socket of its own for a moment.
        held = {
            name: {"sockets": process.sockets(), "closeWaits": process.close_waits()}
            for name, process in processes.items()
        }
        for name, counts in held.items():
            status = self.status(name)
            counts["sessions"] = len(status["sessions"])
            counts["streams"] = sum(session["streams"] for session in status["sessions"])
            counts["openLegs"] = status.get("openLegs", 0)
        return held

    def settled_level(self, **processes: Process) -> dict[str, Any]:
        """
        The L{level}, as soon as no stream runs and it is the same five times in a row.

        The server counts channels, and a link keeps its own: they only have to be the same.
        """
        seen: list[dict[str, Any]] = []

        def settled() -> bool:
            level = self.level(**processes)
            if seen and level != seen[-1]:
                seen.clear()
            seen.append(level)
            running = sum(each["streams"] for name, each in level.items() if name != "server")
            return len(seen) >= 5 and not running

        eventually(settled, lambda: f"it does not settle: {self.level(**processes)}")
        return seen[-1]

    def assert_back_at(self, level: dict[str, Any], **processes: Process) -> None:
        """Wait until every daemon holds what it held when C{level} was taken."""
        eventually(
            lambda: self.level(**processes) == level,
            lambda: f"at the start {level}, now {self.level(**processes)}",
        )


def side_by_side(*cases: SynchronousTestCase) -> None:
    """
    Tests that wait long and do little, at the same time: in a thread each, from C{setUp} to the
    last clean-up.

    @raise Exception: what one of them raised, when all are over; rather no L{SkipTest}.
    """

    def run(case: SynchronousTestCase) -> None:
        with contextlib.ExitStack() as closing:
            case.addCleanup = closing.callback
            case.setUp()
            getattr(case, case.id().rpartition(".")[2])()

    with ThreadPoolExecutor(len(cases)) as pool:
        running = [pool.submit(run, case) for case in cases]
    errors = [error for each in running if (error := each.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, SkipTest)):
        raise error


def _at_once(lines: str) -> str:
    """Daemons of tests are not to wait for the streams that a test leaves behind."""
    return "" if "drain_timeout" in lines else "drain_timeout = 0\n"


def _relayed(lines: str) -> str:
    """Two clients on one machine would find each other, and nothing would be seen of the relay."""
    return "" if "direct =" in lines else "direct = off\n"


class Echo:
    """A TCP service in this process: sends back what comes, until the end of it."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(65536):
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def dialled(port: int, patience: float = PATIENCE) -> Iterator[socket.socket]:
    """A connection to a local port."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        yield connection


def eventually(
    holds: Callable[[], bool], otherwise: Callable[[], str], patience: float = PATIENCE
) -> None:
    """
    Look again and again until C{holds()}: for what no process announces.

    @param otherwise: what to say when it never does.
    """
    deadline = time.monotonic() + patience
    pause = threading.Event()
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise())
        pause.wait(0.02)


def free_port() -> int:
    """
    A port that nobody listens on, for a process that is to have the same one again.

    It is below the ephemeral ports: those the kernel may give to any connection in between, and
    a client that tries to reach a dead one may even connect to itself.
    """
    while True:
        port = random.randrange(12000, _EPHEMERAL)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def receive_exactly(connection: socket.socket, count: int) -> bytes:
    """C{count} bytes, or fewer if the stream ends before."""
    parts = []
    while count:
        data = connection.recv(min(count, 1 << 20))
        if not data:
            break
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def needs(*programs: str) -> None:
    """@raise SkipTest: if one of them is not installed; says which package has it."""
    folders = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [program for program in programs if shutil.which(program, path=folders) is None]
    if missing:
        raise SkipTest(f"not installed: {', '.join(missing)}")


def program(name: str) -> str:
    """The path of an installed program."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert found is not None
    return found


SIGINT = signal.SIGINT
