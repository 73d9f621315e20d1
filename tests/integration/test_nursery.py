"""Daemons and commands that are forked are processes like those that are started anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

from twisted.trial.unittest import SkipTest

from . import nursery
from .command import CommandTestCase
from .nursery import RELAYTUN, TWISTD, Child

_NO_SECRETS = """
import importlib, pkgutil, secrets
def refuse(*arguments): raise AssertionError("random when imported")
secrets.token_bytes = secrets.token_hex = secrets.token_urlsafe = secrets.randbits = refuse
import relaytun
for module in pkgutil.walk_packages(relaytun.__path__, "relaytun."):
    try:
        importlib.import_module(module.name)
    except ImportError:  # What it needs is not installed everywhere.
        pass
"""
_LAST_WORDS = """
import asyncio, atexit, os, signal, sys
atexit.register(print, "at exit")
print("begun", end=", ")
forgotten = [asyncio.sleep(1)]
forgotten.append(forgotten)
del forgotten
"""


class Nursery(CommandTestCase):
    """What tests see of a child."""

    def setUp(self) -> None:
        super().setUp()
        if nursery._Nursery.of_this_process() is None:
            raise SkipTest("nothing is forked here")

    def test_daemon(self) -> None:
        """It has no more descriptors than one that is started anew, and its folder."""
        forked = self.start_server()
        self.assertIsInstance(forked.popen, Child)
        with mock.patch.object(nursery._Nursery, "suits", return_value=False):
            anew = self.start_server(state="anew")
        self.assertIsInstance(anew.popen, subprocess.Popen)
        self.assertEqual(forked.descriptors(), anew.descriptors())
        self.assertEqual(os.readlink(f"/proc/{forked.pid}/cwd"), str(self.folder))
        self.assertEqual(os.getsid(forked.pid), os.getsid(0))

    def test_ends(self) -> None:
        """How it ends is told: by itself, stopped or killed."""
        self.assertEqual(self.start("usage", *RELAYTUN, "no-such-command").wait(), 2)
        for number in (signal.SIGTERM, signal.SIGKILL):
            server = self.start_server(state=number.name)
            server.signal(number)
            self.assertEqual(server.wait(), -number)
            self.assertFalse(Path(f"/proc/{server.pid}").exists())

    def test_file_or_module(self) -> None:
        """It may be a program of a file, or a module of its folder's."""
        file = self.folder / "program.py"
        file.write_text("import sys; print(__name__, __file__, sys.argv, sys.path[0])")
        for words in ([str(file)], ["-m", "program"]):
            done = nursery.run([sys.executable, *words, "it"], self.folder, os.environ, 30)
            said = f"__main__ {file} {[str(file), 'it']} {self.folder}\n"
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, said, ""))

    def test_last_words(self) -> None:
        """It does and says at its end what an interpreter does that is started anew."""
        for end, code, word in (
            ("", 0, ""),
            ("sys.exit(3)", 3, ""),
            ("sys.exit('why')", 1, "why"),
            ("1 / 0", 1, "Traceback"),
            ("os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT, "KeyboardInterrupt"),
        ):
            command = [sys.executable, "-c", f"{_LAST_WORDS}{end}"]
            done = nursery.run(command, self.folder, os.environ, 30)
            self.assertEqual((done.returncode, done.stdout), (code, "begun, at exit\n"))
            self.assertIn("coroutine 'sleep' was never awaited", done.stderr)
            self.assertIn(word, done.stderr)

    def test_environment(self) -> None:
        """It has that of its start; where an interpreter reads it only once, it is started anew."""
        narrow = nursery.start([*RELAYTUN, "--help"], self.folder, {**os.environ, "COLUMNS": "60"})
        assert isinstance(narrow, Child) and narrow.stdout is not None
        with narrow.stdout:
            self.assertLessEqual(max(map(len, narrow.stdout)), 60)
        self.assertEqual(narrow.wait(), 0)
        path = {**os.environ, "PYTHONPATH": str(self.folder)}
        anew = nursery.start([*TWISTD, "--version"], self.folder, path)
        assert isinstance(anew, subprocess.Popen) and anew.stdout is not None
        with anew.stdout:
            self.assertIn("twistd", anew.stdout.read())
        self.assertEqual(anew.wait(), 0)

    def test_nothing_random_is_imported(self) -> None:
        """No module makes a secret or a name when it is imported: forks would have the same."""
        done = subprocess.run([sys.executable, "-c", _NO_SECRETS], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
