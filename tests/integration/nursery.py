"""
A process that has imported everything, and forks a child for each daemon or command of a test.

Most of what a short-lived C{relaytun} or C{twistd} does is importing: the better part of a second,
hundreds of times.  A child of the nursery gets the arguments, folder, environment and limits of its
own, runs what C{python} is given to the same end, with the same exit code, and is a child of the
test process: the kernel hands it over when the process between it and the nursery ends.  Where
C{ip netns exec} comes before it, the child is in that namespace of the network; where
L{with_descriptors} does, it has so many.

What a child does not do is to take everything down in the end that was imported: that writes to all
memory which the children share, and takes longer than many a command.

What an interpreter reads when it starts cannot be changed afterwards: a command that comes with
such an environment is started anew, as is each one that another program is to start, and everything
with C{RELAYTUN_TESTS_FORK=no} or where the system cannot do this.  Coverage, once begun, goes on,
whatever the environment says.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import pkgutil
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
RELAYTUN = [sys.executable, "-c", "from relaytun.cli.main import main; main()"]
#: Beginnings of the variables that an interpreter or its libraries read once.
_READ_ONCE = ("PYTHON", "LD_", "LANG", "LC_", "PATH", "TZ")
_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWNET = 0x40000000
#: A shell's word: as many descriptors as the number that follows, for the command behind that.
_LIMITED = ("sh", "-c", 'ulimit -n "$0"; exec "$@"')
#: Where ip(8) keeps the namespaces that have a name.
_NAMESPACES = Path("/run/netns")
_LONGEST = 1 << 17
#: What else the programs import when they run.
_WANTED_LATER = (
    "cryptography.hazmat.backends.openssl.backend",
    "encodings.utf_8_sig",
    "twisted.cred.strcred",
    "twisted.internet.epollreactor",
    "twisted.scripts.twistd",
    "twisted.trial.unittest",
)


class Child:
    """A process that the nursery bore, in the words of L{subprocess.Popen}."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.stdout: IO[str] | None = None
        self.returncode: int | None = None
        self._waiting = threading.Lock()
        self._alive = os.pidfd_open(pid)
        self._forget = weakref.finalize(self, os.close, self._alive)
        self._forget.atexit = False  # Processes are waited for until then.

    def poll(self) -> int | None:
        with self._waiting:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
                    self._forget()
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.poll() is None:
            over = select.poll()
            over.register(self._alive, select.POLLIN)
            over.poll(None if timeout is None else timeout * 1000)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Child | subprocess.Popen[str]:
    """A program whose output and errors come through one pipe, C{stdout}."""
    reading, writing = os.pipe()
    try:
        child = _bear(arguments, folder, environment, writing, writing)
        if child is not None:
            child.stdout = os.fdopen(reading, errors="replace")
            return child
    finally:
        os.close(writing)
    os.close(reading)
    return subprocess.Popen(
        arguments,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def run(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """A program to its end; it may not take longer than C{timeout} seconds."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = _bear(arguments, folder, environment, out.fileno(), err.fileno())
        if child is None:
            return subprocess.run(
                arguments,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        try:
            code = child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(arguments, code, out.read(), err.read())


def with_descriptors(count: int, *arguments: str) -> tuple[str, ...]:
    """A command line that runs another one, which may have so many descriptors."""
    return (*_LIMITED, str(count), *arguments)


def _bear(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], out: int, err: int
) -> Child | None:
    """The program as a child of the nursery, or C{None}: it has to be started anew."""
    network = ""
    if tuple(arguments[1:3]) == ("netns", "exec") and Path(arguments[0]).name == "ip":
        network, arguments = str(_NAMESPACES / arguments[3]), arguments[4:]
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if tuple(arguments[:3]) == _LIMITED:
        files, arguments = (int(arguments[3]),) * 2, arguments[4:]
    if arguments[0] != sys.executable:
        return None
    if arguments[1].startswith("-") and arguments[1] not in ("-c", "-m"):
        return None  # An option of the interpreter's.
    nursery = _Nursery.of_this_process()
    if nursery is None or not nursery.suits(environment):
        return None
    request = {
        "arguments": arguments[1:],
        "folder": str(folder),
        "network": network,
        "environment": dict(environment),
        "files": files,
    }
    return nursery.bear(json.dumps(request).encode(), [out, err])


class _Nursery:
    """The nursery as the test process sees it."""

    _only: _Nursery | None = None
    _tried = False
    _starting = threading.Lock()

    @classmethod
    def of_this_process(cls) -> _Nursery | None:
        """There is one, from when it is needed until the end; C{None} where it cannot be."""
        with cls._starting:
            if not cls._tried:
                cls._tried = True
                wanted = os.environ.get("RELAYTUN_TESTS_FORK", "yes") != "no"
                if wanted and sys.platform == "linux" and hasattr(os, "pidfd_open"):
                    with contextlib.suppress(OSError):
                        os.close(os.pidfd_open(os.getpid()))  # The kernel has it, too.
                        cls._only = cls()
            return cls._only

    def __init__(self) -> None:
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._asking = threading.Lock()
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl
        self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(its.fileno())],
                # It looks for plugins and modules below the folder that it is in.
                cwd="/",
                env=self._environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
            )
        atexit.register(self._close)

    def suits(self, environment: Mapping[str, str]) -> bool:
        """Whether a child can have this environment although its interpreter has started."""
        here = self._environment
        return not any(
            name.startswith(_READ_ONCE) and name != "PYTHONUNBUFFERED"
            for name in environment.keys() | here.keys()
            if environment.get(name) != here.get(name)
        )

    def bear(self, request: bytes, descriptors: list[int]) -> Child | None:
        """A child, which is one of the test process."""
        with self._asking, self._adopting(), contextlib.suppress(OSError):
            socket.send_fds(self._socket, [request], descriptors)
            pid = self._socket.recv(64)
            handed_over = self._socket.recv(64)
            if pid and handed_over:
                return Child(int(pid))
        return None

    @contextlib.contextmanager
    def _adopting(self) -> Iterator[None]:
        """Descendants whose parents end are children of this process, meanwhile."""
        self._prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            yield
        finally:
            self._prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def _close(self) -> None:
        self._socket.close()
        self._process.wait()


def _nurse(asked: socket.socket) -> Callable[[], Any] | None:
    """
    Bear children until nobody asks any more.

    @return: in a child, what it has to do; C{None} in the nursery itself, at the end.
    """
    _load()
    _save_coverage()
    gc.collect()
    gc.freeze()  # What is here now is not to be written to, in order that it remains shared.
    while True:
        request, descriptors, _, _ = socket.recv_fds(asked, _LONGEST, 2)
        if not request:
            return None
        between = os.fork()
        if not between:
            child = os.fork()
            if not child:
                asked.close()
                return _settle(json.loads(request), *descriptors)
            asked.send(b"%d" % child)
            os._exit(0)
        os.waitpid(between, 0)
        asked.send(b"yours")
        for descriptor in descriptors:
            os.close(descriptor)


def _load() -> None:
    """Import what any of the programs imports, except what is of one process: the reactor."""
    import relaytun

    for module in pkgutil.walk_packages(relaytun.__path__, "relaytun."):
        # Some of it needs what is not installed everywhere.
        with contextlib.suppress(ImportError):
            importlib.import_module(module.name)
    for name in _WANTED_LATER:
        importlib.import_module(name)
    assert "twisted.internet.reactor" not in sys.modules
    assert threading.active_count() == 1


def _save_coverage() -> None:
    """What importing has covered is saved once, rather than by each child."""
    coverage = sys.modules.get("coverage")
    measured = coverage and coverage.Coverage.current()
    if measured:
        measured.save()


def _settle(request: dict, out: int, err: int) -> Callable[[], Any]:
    """Be a process of its own; returns what it has to do."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, max(out, err) + 1)
    if request["network"]:
        _enter(request["network"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    resource.setrlimit(resource.RLIMIT_NOFILE, tuple(request["files"]))
    tempfile.tempdir = None
    return _program(*request["arguments"])


def _program(first: str, *others: str) -> Callable[[], Any]:
    """What python does with C{-c CODE}, C{-m MODULE} or C{FILE}, and arguments behind that."""
    if first == "-c":
        sys.argv = ["-c", *others[1:]]
        code = compile(others[0], "<string>", "exec")
        return functools.partial(exec, code, {"__name__": "__main__"})
    if first == "-m":
        sys.path[0] = os.getcwd()
        sys.argv = list(others)
        return functools.partial(runpy.run_module, others[0], run_name="__main__", alter_sys=True)
    sys.path[0] = os.path.dirname(os.path.abspath(first))
    sys.argv = [first, *others]
    return functools.partial(runpy.run_path, first, run_name="__main__")


def _enter(network: str) -> None:
    """Go into a namespace of the network; Python has it from 3.12 on."""
    with open(network) as there:
        if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), _CLONE_NEWNET):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), network)


def _finish(todo: Callable[[], Any]) -> int:
    """Do it, and all that an interpreter does afterwards but take itself down; the exit code."""
    code = _code_of(todo)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()  # What nobody waited for any more is told.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    return code


def _code_of(todo: Callable[[], Any]) -> int:
    try:
        todo()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return (end.code or 0) & 0xFF
        print(end.code, file=sys.stderr)
        return 1
    except Exception:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    sys.path[0] = ""  # As with "python -c".
    _todo = _nurse(socket.socket(fileno=int(sys.argv[1])))
    if _todo is not None:
        os._exit(_finish(_todo))
