"""Start, watch and stop the processes of one run.

Each process leads a process group of its own and writes to a log in the run's temporary folder.
Whatever happens, leaving the `with` block ends all of them and their descendants by process id.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from . import proc

_START_SECONDS = 20.0
_STOP_SECONDS = 3.0
_SHOWN_LENGTH = 200
_SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin:/usr/sbin:/sbin"])


class RunFailed(Exception):
    """A program did not start, died, or did not answer in time; the message says which."""


def find(program: str) -> str | None:
    """The path of `program` on PATH or where Debian keeps its daemons."""
    return shutil.which(program, path=_SEARCH_PATH)


def require(program: str) -> str:
    """The path of `program`, which was found before."""
    path = find(program)
    if path is None:
        raise RunFailed(f"{program} is not on PATH")
    return path


def neighbour(program: str, other: str) -> str:
    """The path of `other` in the folder where `program` really is."""
    path = Path(require(program)).resolve().with_name(other)
    if not path.exists():
        raise RunFailed(f"there is no {other} beside {program}")
    return str(path)


def free_port(protocol: str = "tcp") -> int:
    """A port of 127.0.0.1, ``tcp`` or ``udp``, that the kernel had free a moment ago."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(type=kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def poll_until(ready: Callable[[], bool], seconds: float, what: str) -> None:
    """Ask `ready` until it says yes; RunFailed naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise RunFailed(f"{what} not within {seconds:.0f} s")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Whether something accepts connections on `port`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def echoes(port: int) -> bool:
    """Whether a byte sent to `port` comes back, all the way from the service."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as stream:
            stream.sendall(b"E")
            return stream.recv(1) == b"E"
    except OSError:
        return False


class Processes:
    """The processes of one subject, by role (`server`, `provider`, `visitor`), and their folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._cleanups: list[Callable[[], object]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A second Ctrl-C must not cut the clean-up short; it is delivered afterwards.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            if isinstance(error, RunFailed):
                self._show_logs()
            self.stop()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def spawn(
        self, role: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        """Start `command` as `role`, in the run's folder."""
        log = self.folder / f"{role}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self._started.append((role, process))

    def write(self, name: str, text: str, mode: int = 0o600) -> str:
        """A file in the run's folder; its path."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def on_stop(self, cleanup: Callable[[], object]) -> None:
        """Call `cleanup` once all processes are gone."""
        self._cleanups.append(cleanup)

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        """Wait for `ready`; fail at once when a process has died."""

        def ready_or_dead() -> bool:
            for role, process in self._started:
                if process.poll() is not None:
                    raise RunFailed(f"{role} ended with status {process.returncode}")
            return ready()

        poll_until(ready_or_dead, _START_SECONDS, what)

    def wait_listening(self, port: int) -> None:
        """Wait until `port` accepts connections."""
        self.wait(lambda: listens(port), f"listening on {port}")

    @property
    def roles(self) -> list[str]:
        """The roles, in the order in which they were started."""
        return [role for role, _ in self._started]

    def pids(self, role: str | None = None) -> list[int]:
        """The process ids started for `role`, or all."""
        return [process.pid for name, process in self._started if role in (None, name)]

    def stop(self) -> None:
        """End every process and its descendants, then remove the folder.

        Descendants are remembered with their start time, so that a reused id is never hit.
        """
        family = proc.tree(self.pids())
        for _, process in reversed(self._started):
            _signal_group(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        for _, process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            if process.returncode is None:
                _signal_group(process.pid, signal.SIGKILL)
                process.wait()
        for pid, known in family.items():
            seen = proc.stat(pid)
            if seen is not None and seen.start == known.start:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for cleanup in self._cleanups:
            with contextlib.suppress(OSError):
                cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _show_logs(self) -> None:
        for log in sorted(self.folder.glob("*.log")):
            lines = filter(str.strip, log.read_text(errors="replace").splitlines())
            for line in [line for line in lines if "://" not in line][-8:]:  # no invites
                shown = "".join(filter(str.isprintable, line[:_SHOWN_LENGTH]))
                print(f"    {log.stem}: {shown}", file=sys.stderr)


class Script:
    """One of our own scripts in a process, spoken to by lines on its stdin and stdout."""

    def __init__(self, name: str, *arguments: str, within: Sequence[str] = ()) -> None:
        """
        @param name: of the file, seen from this folder.
        @param within: a command line that becomes the one that follows it.
        """
        # -I -S: only the standard library, so it starts in a few milliseconds.
        path = Path(__file__).parent / name
        self._process = subprocess.Popen(
            [*within, sys.executable, "-I", "-S", str(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._name = name
        self._unread = b""

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, line: str = "") -> None:
        """Let it go on, with what `line` says."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RunFailed(f"{self._name} gave up") from None

    def hear(self, seconds: float) -> str:
        """Its next line; RunFailed when there is none within `seconds`."""
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([output], [], [], left)[0]:
                raise RunFailed(f"{self._name} said nothing for {seconds:.0f} s")
            data = os.read(output, 65536)
            if not data:
                raise RunFailed(f"{self._name} gave up")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
