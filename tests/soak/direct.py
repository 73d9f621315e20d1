"""The long forms of direct paths: cut and given back again and again, under what runs on them."""

from __future__ import annotations

import getpass
import os
import subprocess
import threading
import time
from pathlib import Path

from relaytun.client.direct import STEADY

from ..integration.links import MIB, Traffic, exchange
from ..integration.processes import eventually, free_port, needs, program
from ..integration.test_ssh import CONFIGURATION
from ..natlab.daemons import Daemons
from ..natlab.lab import Lab
from ..natlab.matrix import DIRECT
from .links import percentile, rest
from .long import Soak

#: Without it QUIC between two namespaces is far slower than the relay, and given up for that.
_RELAY_IS_SLOW = "bandwidth = 4MB"
_SSH_SERVICE = f"""
{_RELAY_IS_SLOW}
[service:ssh]
protocol = tcp
local_host = 127.0.0.1
local_port = {{port}}
{_RELAY_IS_SLOW}
"""
_SSH_VISIT = """
[connect:ssh]
target = provider
service = ssh
local_port = 0
mode = auto
"""


class DirectCut(Soak):
    """A transfer both ways and a shell, by TCP, while what is between the homes is cut."""

    SIZE = 1024 * MIB
    CUTS = 4
    #: Seconds of a cut, at the least.
    AWAY = 3.0
    #: What is promised: seconds without a byte.
    PAUSE = 2.0
    #: Seconds until a path is there again: a try takes five, and so long may be between two.
    RETURN = 60.0
    #: Seconds for what is left after the last cut: QUIC has much to calculate.
    PATIENCE = 300.0
    #: A protocol that never passes.
    WITHOUT = ""

    def setUp(self) -> None:
        super().setUp()
        needs("ssh", "sshd", "ssh-keygen")
        self.lab = Lab("portrest", "portrest")
        self.addCleanup(self.lab.close)
        self.restore()
        sshd = self.start_sshd()
        self.daemons = Daemons(self.lab, service=_SSH_SERVICE.format(port=sshd), visit=_SSH_VISIT)
        self.addCleanup(self.daemons.close)

    def restore(self) -> None:
        """What may pass passes."""
        if self.WITHOUT:
            self.lab.cut_direct(self.WITHOUT)
        else:
            self.lab.restore()

    def start_sshd(self) -> int:
        """At the provider; returns its port."""
        for name in ("host_key", "user_key"):
            key = "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)
            made = self.start("ssh-keygen", program("ssh-keygen"), *key)
            self.assertEqual(made.wait(), 0, made.output)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        port = free_port()
        path = self.folder / "sshd_config"
        path.write_text(CONFIGURATION.format(folder=self.folder, port=port))
        arguments = program("sshd"), "-D", "-e", "-f", str(path)
        sshd = self.lab.start(self, "a", "sshd", *arguments)
        eventually(
            lambda: "listening on" in sshd.output, lambda: f"sshd does not listen: {sshd.output}"
        )
        return port

    def shell(self) -> Shell:
        """A login over the tunnel."""
        port = self.daemons.visitor.wait_for(r"[\d.]+:(\d+) leads to provider/ssh")[1]
        shell = Shell(
            self.lab.command(
                *("b", program("ssh"), "-tt", "-F", "none"),
                *("-o", "BatchMode=yes", "-o", f"IdentityFile={self.folder}/user_key"),
                *("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"),
                *("-o", "LogLevel=ERROR", "-p", port),
                *(f"{getpass.getuser()}@127.0.0.1", "cat"),
            )
        )
        self.addCleanup(shell.close)
        return shell

    def test_cuts(self) -> None:
        """Every byte arrives, the pauses are short, the path comes back, and so do keystrokes."""
        daemons, shell = self.daemons, self.shell()
        begin = time.monotonic()
        falls: list[float] = []
        returns: list[float] = []
        paths: list[str] = []
        with daemons.stream(60) as stream:
            traffic = Traffic(stream, self.SIZE)
            shell.start()
            paths.append(daemons.await_path(DIRECT.__contains__))
            for _ in range(self.CUTS):
                threading.Event().wait(STEADY + 0.5)
                traffic.pause = 0.0
                self.lab.cut_direct()
                daemons.await_path("relay".__eq__)
                rest(traffic)
                falls.append(traffic.pause)
                threading.Event().wait(self.AWAY)
                self.restore()
                again = time.monotonic()
                paths.append(daemons.await_path(DIRECT.__contains__, self.RETURN))
                rest(traffic)
                returns.append(time.monotonic() - again)
            traffic.finish(self.PATIENCE)
        keystrokes = shell.finish()
        self.note("MiB each way, equal by hash", f"{min(traffic.taken) // MIB}")
        self.note("seconds, with the hashes", f"{time.monotonic() - begin:.0f}")
        self.note("paths", ", ".join(paths))
        self.note(
            "seconds without a byte when the path was cut",
            ", ".join(f"{seconds:.2f}" for seconds in falls),
        )
        self.note(
            "seconds from the end of a cut to the direct path",
            ", ".join(f"{seconds:.1f}" for seconds in returns),
        )
        self.note(
            "keystrokes of an SSH session, and seconds for an echo: p50, longest",
            f"{len(keystrokes)}, {percentile(keystrokes, 50):.3f}, {max(keystrokes):.2f}",
        )
        daemons.check_logs()
        self.assertLess(max(falls), self.PAUSE)
        self.assertLess(traffic.pause, self.PAUSE)


class DirectCutQuic(DirectCut):
    """The same by QUIC."""

    WITHOUT = "tcp"


class DirectIdleNat(Soak):
    """A stream that is silent, behind NATs that forget soon."""

    FORGETS = 5
    IDLE = 30.0

    def test_idle(self) -> None:
        """The path stays, and what is said after the silence passes at once."""
        with Lab("portrest", "portrest", udp_timeout=self.FORGETS) as lab:
            lab.cut_direct("tcp")
            daemons = Daemons(lab)
            self.addCleanup(daemons.close)
            with daemons.stream() as stream:
                exchange(*stream)
                daemons.await_path("quic".__eq__)
                threading.Event().wait(self.IDLE)
                path = daemons.path()
                begin = time.monotonic()
                exchange(*stream)
                took = time.monotonic() - begin
        self.note("seconds after which the NATs forget, and idle", f"{self.FORGETS}, {self.IDLE:g}")
        self.note("path then, and seconds there and back", f"{path}, {took:.3f}")
        daemons.check_logs()
        self.assertEqual(path, "quic")


class DirectOtherAddress(Soak):
    """A client that gets another address in its home."""

    PATIENCE = 60.0

    def test_moves(self) -> None:
        """The relay takes over, and the two find each other again when the server knows."""
        with Lab("portrest", "portrest") as lab:
            daemons = Daemons(lab)
            self.addCleanup(daemons.close)
            with daemons.stream() as stream:
                traffic = Traffic(stream, MIB)
                daemons.await_path(DIRECT.__contains__)
                traffic.pause = 0.0
                begin = time.monotonic()
                lab.renumber("b")
                daemons.await_path("relay".__eq__)
                rest(traffic)
                pause = traffic.pause
                daemons.await_path(DIRECT.__contains__, self.PATIENCE)
                took = time.monotonic() - begin
                traffic.finish()
        self.note("seconds without a byte", f"{pause:.2f}")
        self.note("seconds to the next direct path", f"{took:.1f}")
        daemons.check_logs()


class Shell(threading.Thread):
    """An SSH session in which a key is pressed a moment after the last one's echo came."""

    def __init__(self, command: list[str]) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self._seconds: list[float] = []
        self._ssh = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._press()

    def run(self) -> None:
        while not self._over.wait(0.1):
            self._press()

    def finish(self) -> list[float]:
        """@return: the seconds from each key to its echo."""
        self._over.set()
        self.join(60)
        assert not self.is_alive(), "a keystroke has no echo"
        assert self._ssh.poll() is None, "the session is over"
        return self._seconds[1:]

    def close(self) -> None:
        """End the session."""
        self._ssh.kill()
        self._ssh.communicate()

    def _press(self) -> None:
        assert self._ssh.stdin is not None and self._ssh.stdout is not None
        begin = time.monotonic()
        self._ssh.stdin.write(b"k")
        if self._ssh.stdout.read(1) != b"k":
            raise AssertionError("the session has ended")
        self._seconds.append(time.monotonic() - begin)
