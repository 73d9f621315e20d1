"""Tests of L{relaytun.adminsocket}: a real socket, in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from relaytun import adminsocket
from relaytun.adminsocket import NAME, AdminService, ask, short_path
from relaytun.errors import UserError


def folder_for(test: SynchronousTestCase) -> Path:
    """A folder whose path is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="admin-"))
    test.addCleanup(shutil.rmtree, path)
    return path


def raw(directory: Path, *parts: bytes) -> bytes:
    """Send whatever bytes, and read until the end."""
    with socket.socket(socket.AF_UNIX) as connection, short_path(directory) as path:
        connection.settimeout(10)
        connection.connect(path)
        for part in parts:
            connection.sendall(part)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer


class AdminServiceTests(TestCase):
    """Questions to a daemon that runs."""

    timeout = 30

    def setUp(self) -> None:
        self.folder = folder_for(self)
        self.answer: Any = {"role": "server", "clients": ["a", "b"]}
        self.start(self.folder)

    def start(self, folder: Path) -> AdminService:
        """A daemon with this state directory."""
        service = AdminService(
            reactor,  # type: ignore[arg-type]
            folder,
            {
                "status": lambda: self.answer,
                "fail": self.fails,
                "stats": lambda: {},
                "traffic": lambda days, by="day": {"days": days, "by": by},
            },
        )
        service.startService()

        self.addCleanup(service.stopService)
        return service

    def fails(self) -> None:
        """A command that cannot be done."""
        raise UserError("there is nothing to reload")

    async def error(self, function: Callable[..., Any], *arguments: object) -> str:
        """The sentence of the UserError that this is in another thread."""
        error = await self.assertFailure(deferToThread(function, *arguments), UserError)
        self.assertNotIn("\n", str(error))
        return str(error)

    async def test_answer(self) -> None:
        """A command's answer comes back as it is, as often as one asks."""
        for answer in ({"role": "server"}, [], None, "\u00fc\x1b", {"big": "x" * 300_000}):
            self.answer = answer
            self.assertEqual(await deferToThread(ask, self.folder, "status"), answer)
        self.assertEqual(await deferToThread(ask, self.folder, "stats"), {})

    async def test_permissions(self) -> None:
        """The socket is its owner's alone, and the umask is as it was."""
        before = os.umask(0o022)
        os.umask(before)
        mode = (self.folder / NAME).stat().st_mode
        self.assertTrue(stat.S_ISSOCK(mode))
        self.assertEqual(stat.S_IMODE(mode), 0o600)
        other = folder_for(self)
        self.start(other)
        after = os.umask(before)
        self.assertEqual(after, before)

    async def test_never_open_to_others(self) -> None:
        """It is closed to others from its first moment, whatever the umask."""
        modes: list[int] = []
        listen = socket.socket.listen

        def watched(sock: socket.socket, *backlog: int) -> None:
            modes.append(stat.S_IMODE(os.stat(folder / NAME).st_mode))
            listen(sock, *backlog)

        folder = folder_for(self)
        self.patch(socket.socket, "listen", watched)
        before = os.umask(0)
        try:
            self.start(folder)
        finally:
            os.umask(before)
        self.assertEqual(set(modes), {0o600})

    async def test_unknown_command(self) -> None:
        """A command that there is not is told, with those that there are."""
        self.assertEqual(
            await self.error(ask, self.folder, "frobnicate"),
            "no such command; there are: fail, ping, stats, status, traffic",
        )

    async def test_refused(self) -> None:
        """What a command cannot do it says in its own sentence."""
        self.assertEqual(await self.error(ask, self.folder, "fail"), "there is nothing to reload")

    async def test_strange_questions(self) -> None:
        """A line that is no question is answered with an error, and one answer is all one gets."""
        for line in (
            b"",
            b"garbage",
            b"\xff\xfe",
            b"null",
            b"[]",
            b'"status"',
            b"{}",
            b'{"command": null}',
            b'{"command": ["status"]}',
            b'{"command": {"status": 1}}',
            b'{"command": "__class__"}',
            b'{"command": "frobnicate"}\n{"command": "status"}',
        ):
            answer = await deferToThread(raw, self.folder, line + b"\n")
            self.assertEqual(answer.count(b"\n"), 1)
            self.assertIn("no such command", json.loads(answer)["error"])

    async def test_arguments(self) -> None:
        """A command gets its arguments by name; those that may be left out may be."""
        for arguments in ({"days": 7}, {"days": None, "by": "client"}):
            answer = await deferToThread(ask, self.folder, "traffic", **arguments)
            self.assertEqual(answer, {"by": "day", **arguments})

    async def test_wrong_arguments(self) -> None:
        """Arguments that a command does not take, or misses, are told with those it takes."""
        for arguments, why in (
            ({}, "missing: days; it takes: days, by"),
            ({"days": 1, "x\n": 2}, "no such argument: x\\n; it takes: days, by"),
            ([1], "arguments are names and values; it takes: days, by"),
            (None, "arguments are names and values; it takes: days, by"),
        ):
            question = json.dumps({"command": "traffic", "arguments": arguments}).encode()
            answer = await deferToThread(raw, self.folder, question + b"\n")
            self.assertEqual(json.loads(answer), {"error": why})
        self.assertEqual(
            await self.error(lambda: ask(self.folder, "status", self=1)),
            "no such argument: self; it takes: none",
        )

    async def test_endless_line(self) -> None:
        """Who sends a line without end is hung up on, and others are answered as before."""

        def endless() -> bytes:
            try:
                return raw(self.folder, *[b"x" * 4096] * 100)
            except OSError:
                return b""

        self.assertEqual(await deferToThread(endless), b"")
        self.assertEqual(await deferToThread(ask, self.folder, "stats"), {})

    async def test_deep_nonsense(self) -> None:
        """JSON that is nested too deeply is as wrong as any other."""
        answer = await deferToThread(raw, self.folder, b"[" * 4000 + b"\n")
        self.assertIn(b"no such command", answer)

    async def test_no_place(self) -> None:
        """Where no socket can be made the start fails with a sentence."""
        folder = folder_for(self)
        (folder / NAME).mkdir()
        service = AdminService(reactor, folder, {})  # type: ignore[arg-type]
        self.patch(service, "_unlink", lambda: None)
        error = self.assertRaises(UserError, service.startService)
        self.assertIn("cannot listen on", str(error))

    async def test_silent_neighbour(self) -> None:
        """Who connects and says nothing keeps nobody from an answer."""
        silent = []
        for _ in range(10):
            connection = socket.socket(socket.AF_UNIX)
            self.addCleanup(connection.close)
            connection.connect(str(self.folder / NAME))
            connection.sendall(b'{"command"')
            silent.append(connection)
        self.assertEqual(await deferToThread(ask, self.folder, "stats"), {})

    async def test_stopped(self) -> None:
        """A daemon that stopped leaves no socket, and who asks is told that none runs."""
        folder = folder_for(self)
        service = self.start(folder)
        service.stopService()
        self.assertFalse((folder / NAME).exists())
        self.assertIn("no relaytun daemon runs", await self.error(ask, folder, "status"))
        service.stopService()

    async def test_again(self) -> None:
        """It can be started again."""
        folder = folder_for(self)
        service = self.start(folder)
        for _ in range(2):
            service.stopService()
            service.startService()
            self.assertEqual(await deferToThread(ask, folder, "stats"), {})

    async def test_stale(self) -> None:
        """The socket of a daemon that was killed is replaced."""
        folder = folder_for(self)
        left = socket.socket(socket.AF_UNIX)
        left.bind(str(folder / NAME))
        left.close()
        self.assertIn("no relaytun daemon runs", await self.error(ask, folder, "stats"))
        self.start(folder)
        self.assertEqual(await deferToThread(ask, folder, "stats"), {})

    def start_deep(self) -> tuple[AdminService, Path]:
        """A daemon whose socket's path is too long for a socket address."""
        if not os.path.isdir("/proc/self/fd"):
            raise SkipTest("paths can be shortened only where /proc is")
        folder = folder_for(self) / ("d" * 120) / ("e" * 120)
        folder.mkdir(parents=True)
        return self.start(folder), folder

    async def test_long_path(self) -> None:
        """A state directory whose path is too long for a socket address is as good as another."""
        _, folder = self.start_deep()
        self.assertEqual(stat.S_IMODE((folder / NAME).stat().st_mode), 0o600)
        self.assertEqual(await deferToThread(ask, folder, "stats"), {})

    async def test_long_path_stopped(self) -> None:
        """There, too, a daemon that stops leaves no socket behind, and no descriptor."""
        descriptors = len(os.listdir("/proc/self/fd"))
        service, folder = self.start_deep()
        service.stopService()
        self.assertFalse((folder / NAME).exists())
        self.assertEqual(len(os.listdir("/proc/self/fd")), descriptors)

    async def test_socket_removed(self) -> None:
        """A daemon whose socket somebody has removed stops as quietly as another."""
        folder = folder_for(self)
        service = self.start(folder)
        (folder / NAME).unlink()
        service.stopService()
        self.assertFalse((folder / NAME).exists())


class AskTests(SynchronousTestCase):
    """Questions to what is no daemon."""

    def setUp(self) -> None:
        self.folder = folder_for(self)

    def error(self, folder: Path) -> str:
        """The sentence."""
        error = str(self.assertRaises(UserError, ask, folder, "status"))
        self.assertNotIn("\n", error)
        return error

    def daemon(self, answer: bytes | None) -> None:
        """Something that listens there, takes one question, and answers this; None: nothing."""
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(str(self.folder / NAME))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                if answer is None:
                    connection.recv(1)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        self.addCleanup(thread.join)

    def test_no_daemon(self) -> None:
        """Without a socket, without a folder, with a long name: no daemon runs there."""
        for folder in (
            self.folder,
            self.folder / "missing",
            self.folder / ("x" * 200),
        ):
            self.assertEqual(
                self.error(folder), f"no relaytun daemon runs with the state directory {folder}"
            )

    def test_no_socket(self) -> None:
        """A file where the socket belongs is no daemon either."""
        (self.folder / NAME).write_text("x")
        self.assertIn(str(self.folder), self.error(self.folder))

    def test_nothing_said(self) -> None:
        """A daemon that ends before it has answered is told."""
        self.daemon(b"")
        self.assertIn("does not answer", self.error(self.folder))

    def test_half_an_answer(self) -> None:
        """Half an answer is none."""
        self.daemon(b'{"ok": {"role"')
        self.assertIn("does not answer", self.error(self.folder))

    def test_hangs(self) -> None:
        """A daemon that hangs is not waited for for ever."""
        self.patch(adminsocket, "ASK_TIMEOUT", 0.05)
        self.daemon(None)
        self.assertIn("does not answer", self.error(self.folder))
