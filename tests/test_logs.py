"""Tests of L{relaytun.logs}."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from hypothesis import given, strategies as st
from twisted.logger import Logger, LogLevel, formatEventAsClassicLogText
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relaytun.logs import DaemonLog, json_line, twistd_log_file


def event(**fields: Any) -> dict[str, Any]:
    """An event as twisted.logger has it."""
    return {
        "log_time": 0.5,
        "log_level": LogLevel.warn,
        "log_namespace": "relaytun.x",
        "log_format": "{client} came",
        "client": "a",
        **fields,
    }


class JsonTests(SynchronousTestCase):
    """A line of JSON."""

    def line(self, **fields: Any) -> Any:
        text = json_line(event(**fields))
        self.assertEqual(text.count("\n"), 1)
        self.assertTrue(text.endswith("\n"))
        self.assertTrue(text[:-1].isprintable())
        return json.loads(text)

    def test_fields(self) -> None:
        """It has the time, level, namespace, the message and what JSON can have of the fields."""
        self.assertEqual(
            self.line(count=3, names=["b"], thing=object(), share=float("nan"), to={"c": None}),
            {
                "time": "1970-01-01T00:00:00.500+00:00",
                "level": "warn",
                "namespace": "relaytun.x",
                "message": "a came",
                "client": "a",
                "count": 3,
                "names": ["b"],
                "to": {"c": None},
            },
        )

    @given(st.text())
    def test_controls(self, text: str) -> None:
        """Whatever a field holds, it is one line and cannot pose as another."""
        self.assertEqual(self.line(client=text)["client"], text)
        self.assertEqual(self.line(message=text)["message"], "a came")

    def test_secrets(self) -> None:
        """What is called a secret is not shown, whoever logged it."""
        line = self.line(token="s3cret", http_password="s3cret")
        self.assertNotIn("s3cret", json.dumps(line))

    def test_failures(self) -> None:
        """A failure comes with its traceback."""
        try:
            raise ZeroDivisionError("by\nzero")
        except ZeroDivisionError:
            line = self.line(log_failure=Failure())
        self.assertEqual(line["failure"], "by\nzero")
        self.assertIn("test_failures", line["traceback"])

    def test_legacy(self) -> None:
        """An event of Twisted's old log is a line as well."""
        text = json_line({"log_time": 1.0, "log_format": "{log_text}", "log_text": "old"})
        self.assertEqual(json.loads(text)["message"], "old")


class DaemonLogTests(SynchronousTestCase):
    """The daemon's log."""

    def test_formats(self) -> None:
        """Text is as twistd writes it; the format changes while it runs."""
        out = io.StringIO()
        log = DaemonLog(out, "text")
        logger = Logger("relaytun.x", observer=log)
        logger.info("hello")
        log(event())
        text = out.getvalue()
        self.assertIn("[relaytun.x#info] hello\n", text)
        self.assertTrue(text.endswith(str(formatEventAsClassicLogText(event()))))
        log.use_format("json")
        log(event())
        self.assertEqual(json.loads(out.getvalue().splitlines()[-1])["client"], "a")

    def test_where(self) -> None:
        """It goes where twistd would write, and to nowhere where that is no file."""
        self.assertIs(twistd_log_file({"nodaemon": True}, print), sys.stdout)
        self.assertIs(twistd_log_file({"nodaemon": True, "logfile": "-"}, print), sys.stdout)
        for options in ({"syslog": True}, {"logger": "x"}, {"logfile": "-"}):
            self.assertIsNone(twistd_log_file(options, print))

    def test_file(self) -> None:
        """A file is rotated by SIGUSR1, as twistd does."""
        kept = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        self.addCleanup(signal.signal, signal.SIGUSR1, kept)
        name = os.path.abspath(self.mktemp())
        calls: list[Any] = []
        file = twistd_log_file({"logfile": name}, calls.append)
        assert file is not None
        log = DaemonLog(file, "json")
        log(event())
        os.kill(os.getpid(), signal.SIGUSR1)
        (rotate,) = calls
        rotate()
        log(event(client="b"))
        file.close()
        self.assertIn('"a"', Path(name + ".1").read_text())
        self.assertIn('"b"', Path(name).read_text())
