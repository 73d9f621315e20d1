"""
The daemon's log in place of twistd's own: as text, or as one JSON object on each line.

Where it goes is what twistd was told: --logfile, or the terminal with -n.  Rotation is as with
twistd: by size, and by SIGUSR1.  A line of JSON has C{time}, C{level}, C{namespace}, C{message}
and the fields of the event; control characters, also those from the network, are escaped by JSON.
"""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from types import FrameType
from typing import Any, TextIO

from twisted.logger import (
    ILogObserver,
    LogEvent,
    formatEvent,
    formatEventAsClassicLogText,
)
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from zope.interface import implementer

#: Names of fields that nobody should ever log; if somebody does, this is what comes out.
_SECRETS = ("token", "password", "secret", "private_key", "channel_key", "group_key")
_HIDDEN = "(hidden)"


@implementer(ILogObserver)
class DaemonLog:
    """
    Writes events to a file.

    @ivar out: where to; C{None}: twistd's own log is used instead.
    """

    def __init__(self, out: TextIO | LogFile | None, format: str) -> None:
        """@param format: C{text} as twistd has it, or C{json}."""
        self.out = out
        self._format = format

    def use_format(self, format: str) -> None:
        """From now on it is this one."""
        self._format = format

    def __call__(self, event: LogEvent) -> None:
        text = json_line(event) if self._format == "json" else formatEventAsClassicLogText(event)
        if text and self.out is not None:
            self.out.write(text)
            self.out.flush()


def json_line(event: LogEvent) -> str:
    """An event as one line, with its end."""
    level = event.get("log_level")
    line: dict[str, Any] = {
        "time": _iso(event["log_time"]),
        "level": level.name if level is not None else "info",
        "namespace": str(event.get("log_namespace", "-")),
        "message": formatEvent(event),
    }
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        line["failure"] = failure.getErrorMessage()
        line["traceback"] = failure.getTraceback()
    for name, value in _fields(event):
        line.setdefault(name, value)
    return json.dumps(line) + "\n"


def twistd_log_file(
    options: Mapping[str, Any], call: Callable[..., Any]
) -> TextIO | LogFile | None:
    """
    Where twistd would write its log.

    @param options: twistd's own.
    @param call: calls a function in the reactor's thread.
    @return: C{None} if it is the syslog, or a logger of the user's own.
    """
    name = options.get("logfile") or ""
    if options.get("syslog") or options.get("logger"):
        return None
    if options.get("nodaemon") and name in ("", "-"):
        return sys.stdout
    if name == "-":
        return None  # twistd refuses that.
    file: LogFile = LogFile.fromFullPath(name or "twistd.log")
    if signal.getsignal(signal.SIGUSR1) in (None, signal.SIG_DFL):

        def rotate(number: int, frame: FrameType | None) -> None:
            call(file.rotate)

        signal.signal(signal.SIGUSR1, rotate)
    return file


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def _fields(event: LogEvent) -> Iterator[tuple[str, Any]]:
    """The event's own fields, as far as JSON can have them."""
    for name, value in event.items():
        if name.startswith("log_") or not name.isidentifier():
            continue
        if any(secret in name.lower() for secret in _SECRETS):
            yield name, _HIDDEN
        elif _is_json(value):
            yield name, value


def _is_json(value: object) -> bool:
    if value is None or isinstance(value, str | int):
        return True
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | tuple):
        return all(_is_json(each) for each in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(each) for key, each in value.items())
    return False
