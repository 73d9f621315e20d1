"""The C{relaytun} command, against real daemons; C{doctor} has a file of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess

from .command import CommandTestCase
from .processes import (
    PATIENCE,
    RELAYTUN,
    dialled,
    eventually,
    free_port,
    receive_exactly,
)

SESSION_KEYS = {
    "id",
    "peer",
    "service",
    "role",
    "mode",
    "path",
    "rtt",
    "streams",
    "bytesIn",
    "bytesOut",
    "since",
}
STATUS_KEYS = {
    "role",
    "version",
    "uptime",
    "connected",
    "rtt",
    "clients",
    "services",
    "sessions",
}


class Connect(CommandTestCase):
    """C{relaytun connect}."""

    def test_until_interrupted(self) -> None:
        """It leads to the service until Ctrl-C or SIGTERM: exit 0, and the session is over."""
        self.start_server()
        self.start_provider(self.echo.port)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process = self.connect(name=f"connect {number}")
            port = self.port_of(process)
            with dialled(port) as connection:
                connection.sendall(b"hello")
                self.assertEqual(receive_exactly(connection, 5), b"hello")
                (session,) = self.status("server")["sessions"]
                self.assertEqual(session["peer"], "guest to provider")
                process.signal(number)
                self.assertEqual(process.wait(), 0, process.output)
            self.assertEqual(self.status("server")["sessions"], [])
            self.assertEqual(len(process.lines), 1, process.output)

    def test_invite_alone(self) -> None:
        """An invite is enough; the server makes up a name, and keeps it to itself."""
        self.start_server()
        self.start_provider(self.echo.port)
        process = self.start(
            "connect",
            *RELAYTUN,
            "connect",
            f"--invite={self.invite}",
            *self.connect_options()[1:],
            HOME=str(self.folder),
            XDG_STATE_HOME="",
        )
        self.assert_echo(self.port_of(process))
        (session,) = self.status("server")["sessions"]
        self.assertRegex(session["peer"], r"^guest-[0-9a-f]{8} to provider$")
        self.assertTrue((self.folder / ".local/state/relaytun/identity.pem").is_file())

    def test_absent(self) -> None:
        """A client or service that is not there is one line and exit 1."""
        self.start_server()
        provider = self.start_provider(self.echo.port)
        self.assertIn(
            "there is no client nobody; --wait",
            self.fails("connect", *self.connect_options(target="nobody")),
        )
        self.assertIn(
            "provider offers no service nothing; --wait",
            self.fails("connect", *self.connect_options(service="nothing")),
        )
        provider.stop()
        self.assertIn(
            "provider is not online; --wait", self.fails("connect", *self.connect_options())
        )

    def test_pinned(self) -> None:
        """With a pin, the one identity will do, and no other, and no session that proves none."""
        self.start_server()
        provider = self.start_provider(self.echo.port)
        right = self.status("provider")["fingerprint"]
        self.assert_echo(self.port_of(self.connect(f"--peer-fingerprint={right}")))
        wrong = f"--peer-fingerprint=sha256:{'0' * 64}"
        code, out, err = self.relaytun("connect", *self.connect_options(wrong))
        self.assertEqual((code, out), (1, ""))
        self.assertIn(right, err)
        provider.stop()
        self.start_provider(self.echo.port, mode="raw")
        pinned = self.connect_options(f"--peer-fingerprint={right}")
        self.assertIn("unencrypted", self.fails("connect", *pinned))
        code, out, err = self.relaytun("connect", *self.connect_options())
        self.assertEqual((code, out), (1, ""))
        self.assertIn("raw mode now", err)
        self.assert_echo(self.port_of(self.connect("--mode=raw", name="raw")))

    def test_wait(self) -> None:
        """With --wait it says once what it waits for, and leads there when it comes."""
        self.start_server()
        process = self.connect("--wait")
        process.wait_for("^relaytun: waiting for provider/echo: there is no client provider$")
        self.start_provider(self.echo.port)
        self.assert_echo(self.port_of(process))
        self.assertEqual(len(process.lines), 2, process.output)

    def test_wait_interrupted(self) -> None:
        """Ctrl-C ends the waiting, too."""
        self.start_server()
        process = self.connect("--wait")
        process.wait_for("waiting for")
        process.signal(signal.SIGINT)
        self.assertEqual(process.wait(), 0, process.output)
        self.assertEqual(len(process.lines), 1, process.output)

    def test_wrong_server(self) -> None:
        """A wrong token, a wrong fingerprint or no server at all is one line and exit 1."""
        self.start_server()
        for invite, saying in (
            (self.altered_invite(token="wrong"), "refuses the token"),
            (
                self.altered_invite(fingerprint="sha256:" + "0" * 64),
                "is not the server of the invite",
            ),
            (self.altered_invite(port=str(free_port())), "nothing listens there"),
        ):
            for waiting in ((), ("--wait",)):
                options = self.connect_options(f"--invite={invite}", *waiting)
                self.assertIn(saying, self.fails("connect", *options))

    def test_busy_port(self) -> None:
        """A busy local port is one line and exit 1, and leaves no session."""
        self.start_server()
        self.start_provider(self.echo.port)
        line = self.fails("connect", *self.connect_options(local=str(self.echo.port)))
        self.assertIn(f"cannot listen on 127.0.0.1:{self.echo.port}: Address already in use", line)
        self.assertEqual(self.status("server")["sessions"], [])

    def test_signs_in_again(self) -> None:
        """A server that comes back is found again, and the port leads where it did."""
        ports = {"control": str(free_port()), "relay": str(free_port())}
        server = self.start_server(**ports)
        self.start_provider(self.echo.port)
        process = self.connect()
        port = self.port_of(process)
        server.kill()
        process.wait_for("relaytun: the connection to the server is lost")
        self.start_server(**ports)

        def echoes() -> bool:
            with contextlib.suppress(OSError), dialled(port) as connection:
                connection.sendall(b"hello")
                return receive_exactly(connection, 5) == b"hello"
            return False

        eventually(echoes, lambda: process.output)
        process.signal(signal.SIGINT)
        self.assertEqual(process.wait(), 0, process.output)

    def test_ends_while_the_server_is_away(self) -> None:
        """Ctrl-C ends it in order also while there is no server."""
        server = self.start_server()
        self.start_provider(self.echo.port)
        process = self.connect()
        self.port_of(process)
        server.kill()
        process.wait_for("nothing listens there")
        process.signal(signal.SIGINT)
        self.assertEqual(process.wait(), 0, process.output)

    def test_live_line(self) -> None:
        """On a terminal a line shows what is going on; stdout has only the address."""
        self.start_server()
        self.start_provider(self.echo.port)
        ours, theirs = os.openpty()
        self.addCleanup(os.close, ours)
        process = subprocess.Popen(
            [*RELAYTUN, "connect", *self.connect_options()],
            env={**os.environ, "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
        )
        self.addCleanup(process.wait, PATIENCE)
        self.addCleanup(process.terminate)
        os.close(theirs)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        port = int(process.stdout.readline().split()[0].rpartition(":")[2])
        shown = b""
        with dialled(port) as connection:
            connection.sendall(b"x" * 2048)
            self.assertEqual(receive_exactly(connection, 2048), b"x" * 2048)
            while b"1 stream, 2.0 KB up, 2.0 KB down" not in shown:
                shown += os.read(ours, 4096)
        process.terminate()
        self.assertEqual(process.wait(PATIENCE), 0)
        self.assertEqual(process.stdout.read(), "")


class Clients(CommandTestCase):
    """C{relaytun clients}."""

    def test_list(self) -> None:
        """Who is there is listed as a table or as JSON, and the one who asks is not."""
        self.start_server()
        config = f"--config={self.config('guest', '')}"
        self.assertEqual(self.relaytun("clients", config), (0, "no client is signed in\n", ""))
        self.assertEqual(self.relaytun("clients", config, "--json"), (0, "[]\n", ""))

        self.start_provider(self.echo.port, description="my [b]echo\u202e")
        code, out, err = self.relaytun("clients", config)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(
            [line.split() for line in out.splitlines()],
            [
                ["client", "status", "service", "protocol", "description"],
                ["provider", "online", "echo", "tcp", "my", "[b]echo\\u202e"],
            ],
        )
        code, out, err = self.relaytun("clients", config, "--json")
        self.assertEqual((code, err), (0, ""))
        (client,) = json.loads(out)
        (service,) = client.pop("services")
        self.assertEqual(client, {"id": "provider", "status": "online"})
        service.pop("mode", None)
        self.assertEqual(
            service,
            {
                "id": "echo",
                "protocol": "tcp",
                "localPort": self.echo.port,
                "localHost": "127.0.0.1",
                "description": "my [b]echo\u202e",
            },
        )

    def test_sessions(self) -> None:
        """Beside the daemon it shows which way the sessions with others take, and why."""
        self.start_server()
        self.start_provider(self.echo.port)
        config = f"--config={self.folder}/provider.ini"
        self.assertNotIn("sessions", self.relaytun("clients", config)[1])
        process = self.start("connect", *RELAYTUN, "connect", *self.connect_options())
        self.assert_echo(self.port_of(process))
        code, out, err = self.relaytun("clients", config)
        self.assertEqual((code, err), (0, ""))
        table = out.partition("sessions with this client:\n")[2].splitlines()
        self.assertEqual(table[0].split(), ["session", "peer", "service", "role", "path", "rtt"])
        (session,) = self.status("provider")["sessions"]
        known = [session["id"][:8], session["peer"], "echo", "provider", session["path"]]
        self.assertEqual(table[1].split()[:5], known)

    def test_beside_the_daemon(self) -> None:
        """Neither C{clients} nor C{connect} displaces the daemon that they share all with."""
        self.start_server()
        provider = self.start_provider(self.echo.port)
        config = f"--config={self.folder}/provider.ini"
        before = len(provider.lines)
        self.assertEqual(self.relaytun("clients", config)[0], 0)
        process = self.start("connect", *RELAYTUN, "connect", config, *self.connect_options()[1:])
        self.assert_echo(self.port_of(process))
        process.stop()
        self.assertIs(self.status("provider")["connected"], True)
        self.assertEqual(self.status("server")["clients"], ["provider"])
        for line in provider.lines[before:]:
            self.assertNotIn("signed in", line)
            self.assertNotIn("lost", line)

    def test_unreachable(self) -> None:
        """No server is one line and exit 1."""
        self.start_server().stop()
        config = f"--config={self.config('guest', '')}"
        self.assertIn("nothing listens there", self.fails("clients", config))


class Status(CommandTestCase):
    """C{relaytun status}."""

    def test_json(self) -> None:
        """Both sides answer with the documented keys, also for each session."""
        self.start_server()
        self.start_provider(self.echo.port)
        _, port = self.start_visitor()
        with dialled(port) as connection:
            connection.sendall(b"hello")
            receive_exactly(connection, 5)
            answers = {
                name: json.loads(
                    self.relaytun("status", "--json", f"--state-dir={self.folder}/{name}")[1]
                )
                for name in ("server", "provider", "visitor")
            }
        for name, answer in answers.items():
            self.assertLessEqual(STATUS_KEYS, set(answer), name)
            self.assertEqual(answer["role"], "server" if name == "server" else "client")
            self.assertIs(answer["connected"], True)
            (session,) = answer["sessions"]
            self.assertLessEqual(SESSION_KEYS, set(session), name)
            self.assertIn(session["path"], {"relay", "ws", "lan", "tcp-direct", "quic"})
            self.assertEqual((session["service"], session["streams"]), ("echo", 1))
        self.assertEqual(answers["provider"]["clients"], ["provider"])
        self.assertEqual(answers["provider"]["services"], ["echo"])
        self.assertEqual(answers["server"]["clients"], ["provider", "visitor"])

    def test_people(self) -> None:
        """A daemon is found by its configuration, and people can read what it says."""
        self.start_server(config=f"state_dir = {self.folder}/server")
        self.start_provider(self.echo.port)
        for role, file in (("server", "server.ini"), ("client", "provider.ini")):
            code, out, err = self.relaytun("status", f"--config={self.folder / file}")
            self.assertEqual((code, err), (0, ""))
            lines = [line.split() for line in out.splitlines()]
            self.assertIn(["role", role], lines)
            self.assertIn(["connected", "yes"], lines)
            self.assertIn(["sessions", "0"], lines)

    def test_no_daemon(self) -> None:
        """No daemon is one line and exit 1, also after one that was killed."""
        self.assertIn("no relaytun daemon runs", self.fails("status", "--state-dir=nothing"))
        self.start_server().kill()
        state = f"--state-dir={self.folder}/server"
        self.assertIn("no relaytun daemon runs", self.fails("status", state))

    def test_deaf_daemon(self) -> None:
        """A daemon that does not answer is one line and exit 1, and no endless wait."""
        (self.folder / "deaf").mkdir()
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(str(self.folder / "deaf" / "control.sock"))
            deaf.listen()
            self.assertIn("does not answer", self.fails("status", "--state-dir=deaf"))
