"""Tests of L{relaytun.startup}."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
import time
from types import SimpleNamespace
from typing import Any

from twisted.application.service import Application, Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import ILogObserver
from twisted.trial.unittest import SynchronousTestCase

from relaytun import startup
from relaytun.client import tap as client_tap
from relaytun.errors import ConfigError, UserError
from relaytun.server import tap as server_tap
from relaytun.startup import Daemon, Options, exit_on_user_error, raise_descriptor_limit


class StartupCase(SynchronousTestCase):
    """A test case that sees what is written on the real stderr."""

    def setUp(self) -> None:
        self.stderr = io.StringIO()
        self.patch(sys, "__stderr__", self.stderr)
        self.limits: list[tuple[int, int]] = []
        self.patch(resource, "getrlimit", lambda which: (1024, 4096))
        self.patch(resource, "setrlimit", lambda which, limits: self.limits.append(limits))


class Sample(Options):
    """Options of no program."""

    program = "sample"
    optParameters = [  # noqa: RUF012
        ["config", "c", None, "A file."],
        ["state-dir", None, None, "A directory."],
        ["control", None, None, "A port."],
    ]
    optFlags = [["open", None, "A flag."]]  # noqa: RUF012


class OptionsTests(StartupCase):
    """The command line."""

    def parsed(self, *arguments: str) -> Sample:
        """Read a command line."""
        options = Sample()
        options.parseOptions(list(arguments))
        return options

    def test_given(self) -> None:
        """Only what stands on the command line overrides the file, by configuration key."""
        self.assertEqual(self.parsed().given(), {})
        self.assertEqual(
            self.parsed("--state-dir", "/x", "--open", "--config", "y.ini").given(),
            {"state_dir": "/x", "open": 1},
        )

    def test_zero_and_empty(self) -> None:
        """A port 0 is given; an empty value, as of a variable that is not set, is refused."""
        self.assertEqual(self.parsed("--control", "0").given(), {"control": "0"})
        ended = self.assertRaises(SystemExit, self.parsed, "--state-dir=")
        self.assertIn("--state-dir is empty", str(ended.code))

    def test_wrong(self) -> None:
        """A wrong option ends in one line that names the program and where to look."""
        for arguments, saying in {
            ("--controll", "1"): "controll",
            ("--control",): "control",
            ("extra",): "unexpected argument: extra",
            ("--open=yes",): "open",
        }.items():
            ended = self.assertRaises(SystemExit, self.parsed, *arguments)
            self.assertIsInstance(ended.code, str)
            self.assertNotIn("\n", str(ended.code))
            self.assertTrue(str(ended.code).startswith("sample: "))
            self.assertTrue(str(ended.code).endswith("(see twistd sample --help)"))
            self.assertIn(saying, str(ended.code))


class ExitTests(StartupCase):
    """How a mistake of the user ends."""

    def exits(self, error: Exception) -> object:
        """The exit code of a process in which this is raised."""

        def run() -> None:
            with exit_on_user_error("sample"):
                raise error

        return self.assertRaises(SystemExit, run).code

    def test_user_error(self) -> None:
        """A UserError is a line on stderr and exit code 1."""
        self.assertEqual(self.exits(UserError("the port is busy")), 1)
        self.assertEqual(self.stderr.getvalue(), "sample: the port is busy\n")

    def test_config_error(self) -> None:
        """A ConfigError is a line for each problem and exit code 2."""
        self.assertEqual(self.exits(ConfigError(["a.ini: [x] y: bad", "a.ini: [z]: worse"])), 2)
        self.assertEqual(
            self.stderr.getvalue(), "sample: a.ini: [x] y: bad\nsample: a.ini: [z]: worse\n"
        )

    def test_others(self) -> None:
        """What is no mistake of the user is as loud as ever."""

        def run() -> None:
            with exit_on_user_error("sample"):
                raise ZeroDivisionError

        self.assertRaises(ZeroDivisionError, run)
        self.assertEqual(self.stderr.getvalue(), "")

    def test_nothing(self) -> None:
        """When nothing is wrong nothing happens."""
        with exit_on_user_error("sample"):
            pass
        self.assertEqual(self.stderr.getvalue(), "")

    def test_not_the_log(self) -> None:
        """The line goes to the real stderr, also when twistd has put its log in that place."""
        log = io.StringIO()
        self.patch(sys, "stderr", log)
        self.exits(UserError("x"))
        self.assertEqual((log.getvalue(), self.stderr.getvalue()), ("", "sample: x\n"))


class Fails(Service):
    """A service that cannot start."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def privilegedStartService(self) -> None:
        raise self._error


class DaemonTests(StartupCase):
    """The root service."""

    def test_starts(self) -> None:
        """A daemon starts and stops what is in it, with all the descriptors it may have."""
        inner = Service()
        daemon = Daemon("sample", inner)
        daemon.privilegedStartService()
        daemon.startService()
        self.assertTrue(inner.running)
        daemon.stopService()
        self.assertFalse(inner.running)
        self.assertEqual(self.limits, [(4096, 4096)])

    def test_fails_in_the_foreground(self) -> None:
        """A start that fails ends the process with the line on stderr."""
        self.patch(startup, "stderr_is_lost", lambda: False)
        daemon = Daemon("sample", Fails(UserError("the port is busy")))
        ended = self.assertRaises(SystemExit, daemon.privilegedStartService)
        self.assertEqual((ended.code, self.stderr.getvalue()), (1, "sample: the port is busy\n"))

    def test_fails_in_the_background(self) -> None:
        """After daemonizing the sentence is in the exception, which twistd shows the user."""
        self.patch(startup, "stderr_is_lost", lambda: True)
        daemon = Daemon("sample", Fails(UserError("the port is busy")))
        error = self.assertRaises(RuntimeError, daemon.privilegedStartService)
        self.assertEqual(str(error), "sample: the port is busy")
        self.assertEqual(self.stderr.getvalue(), "")

    def test_bug(self) -> None:
        """A bug in a service is no sentence, but as loud as ever."""
        daemon = Daemon("sample", Fails(ZeroDivisionError()))
        self.assertRaises(ZeroDivisionError, daemon.privilegedStartService)


class SignalTests(SynchronousTestCase):
    """What becomes of signals."""

    def setUp(self) -> None:
        self.handlers: dict[int, Any] = {}
        self.patch(signal, "signal", self.handlers.__setitem__)
        self.terminal = False
        self.patch(startup, "in_terminal", lambda: self.terminal)
        self.reactor: Any = MemoryReactorClock()
        self.calls: list[Any] = []
        self.reactor.callFromThread = self.calls.append
        self.reactor.stop = lambda: self.acts.append("stop")
        self.acts: list[str] = []

    def run_reactor(self) -> None:
        """It begins to run."""
        for hook, args, kwargs in self.reactor.whenRunningHooks:
            hook(*args, **kwargs)

    def come(self, number: int) -> None:
        """The signal comes, and the reactor goes round."""
        self.handlers[number](number, None)
        self.calls.pop()()

    def test_early_hangup(self) -> None:
        """A SIGHUP before there is a daemon is remembered until there is one."""
        hangup = startup.Hangup(self.reactor)
        self.handlers[signal.SIGHUP](signal.SIGHUP, None)
        hangup.act = lambda: self.acts.append("reload")
        self.calls.pop()()
        self.assertEqual(self.acts, ["reload"])

    def test_lost_terminal(self) -> None:
        """A SIGHUP reloads, and ends a daemon whose terminal has gone."""
        self.terminal = True
        startup.Hangup(self.reactor).act = lambda: self.acts.append("reload")
        self.run_reactor()
        self.come(signal.SIGHUP)
        self.terminal = False
        self.come(signal.SIGHUP)
        self.assertEqual(self.acts, ["reload", "stop"])

    def test_daemonized(self) -> None:
        """One that has left its terminal by itself reloads."""
        self.terminal = True
        startup.Hangup(self.reactor).act = lambda: self.acts.append("reload")
        self.terminal = False
        self.run_reactor()
        self.come(signal.SIGHUP)
        self.assertEqual(self.acts, ["reload"])

    def test_drain(self) -> None:
        """An end waits for what drains; the next signal ends it at once, and a third is nothing."""
        waiting: Deferred[None] = Deferred(lambda it: it.callback(None))
        inner = Service()
        daemon = Daemon("sample", inner, self.reactor, lambda: waiting)
        daemon.startService()
        stopped = daemon.stopService()
        self.assertTrue(inner.running)
        self.come(signal.SIGTERM)
        self.successResultOf(stopped)
        self.assertFalse(inner.running)
        self.come(signal.SIGINT)

    def test_nothing_to_drain(self) -> None:
        """When there is nothing to wait for, signals are left alone."""
        daemon = Daemon("sample", Service(), self.reactor, lambda: succeed(None))
        daemon.startService()
        self.successResultOf(daemon.stopService())
        self.assertEqual(self.handlers, {})


class LogTests(StartupCase):
    """The daemon's log, and its configuration once more."""

    def log(self, format: str, **twistd: Any) -> Any:
        """The log of a daemon that twistd runs with these options."""
        return startup.daemon_log(
            self.options(**twistd), SimpleNamespace(callFromThread=print), format
        )

    def options(self, **twistd: Any) -> Any:
        options = Sample()
        options.parent = twistd
        return options

    def test_installed(self) -> None:
        """The application has the daemon's log; where that is not to be, it has twistd's."""
        log = self.log("json", nodaemon=True)
        application = Application("sample")
        Daemon("sample", Service(), log=log).setServiceParent(application)
        self.assertIs(application.getComponent(ILogObserver), log)
        for twistd in ({"syslog": True}, {"logger": "x"}):
            log = self.log("text", **twistd)
            application = Application("sample")
            Daemon("sample", Service(), log=log).setServiceParent(application)
            self.assertIsNone(application.getComponent(ILogObserver, None))

    def test_syslog(self) -> None:
        """JSON is not for the syslog: that is one line."""
        self.assertRaises(UserError, self.log, "json", syslog=True)

    def test_again(self) -> None:
        """The file is found again when the daemon has gone elsewhere; options still win."""
        options = Sample()
        options.parseOptions(["--config", "x.ini", "--control", "1"])
        asked: list[Any] = []
        load = startup.again(lambda path, given: asked.append((path, given)), options)
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir("/")
        load()
        self.assertEqual(asked, [(os.path.join(here, "x.ini"), {"control": "1"})])
        options["config"] = None
        startup.again(lambda path, given: asked.append(path), options)()
        self.assertIsNone(asked[-1])


class SystemTests(StartupCase):
    """What is asked of the system."""

    def test_stderr_is_lost(self) -> None:
        """Stderr is lost if it is /dev/null or closed, and not if it is a file."""
        kept = os.dup(2)
        self.addCleanup(os.close, kept)
        self.addCleanup(os.dup2, kept, 2)
        with open(self.mktemp(), "wb") as stream:
            os.dup2(stream.fileno(), 2)
        self.assertFalse(startup.stderr_is_lost())
        with open(os.devnull, "wb") as stream:
            os.dup2(stream.fileno(), 2)
        self.assertTrue(startup.stderr_is_lost())
        os.close(2)
        self.assertTrue(startup.stderr_is_lost())

    def test_no_more_descriptors(self) -> None:
        """A system that gives no more descriptors is no reason not to start."""

        for error in (ValueError("no"), OSError("no")):

            def refuse(which: int, limits: tuple[int, int], error: Exception = error) -> None:
                raise error

            self.patch(resource, "setrlimit", refuse)
            raise_descriptor_limit()


class TimeTests(SynchronousTestCase):
    """The clock of the reactor."""

    def test_monotonic(self) -> None:
        """When somebody sets the wall clock a day ahead no timeout expires, and none is late."""
        reactor = MemoryReactorClock()
        startup.use_monotonic_time(reactor)
        before = reactor.seconds()
        self.patch(time, "time", lambda: 1e12)
        self.assertLess(reactor.seconds() - before, 1000)

    def test_daemons(self) -> None:
        """Both daemons count by that clock."""
        for tap in (client_tap, server_tap):
            reactor = MemoryReactorClock()
            options = tap.Options()
            with contextlib.suppress(SystemExit):
                options["config"] = "/nonexistent"
                tap.makeService(options, reactor)
            self.assertIs(reactor.seconds, time.monotonic)
