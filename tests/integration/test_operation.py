"""Daily operation with real daemons: reload, drain, hooks, metrics, logs."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from relaytun import adminsocket
from relaytun.errors import UserError

from .processes import (
    RELAYTUN,
    TWISTD,
    Echo,
    Process,
    ProcessTestCase,
    dialled,
    eventually,
    receive_exactly,
)

#: Seconds that are much for something that needs not wait.
SOON = 5.0


class Hook:
    """A small HTTP server in this process that remembers what it was told."""

    def __init__(self) -> None:
        told = self.told = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                told.append(json.loads(self.rfile.read(length)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def events(self) -> list[str]:
        return [one["event"] for one in self.told]


class SlowPage:
    """An HTTP service in this process that answers C{/slow} in two parts."""

    def __init__(self) -> None:
        go_on = self.go_on = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", "8")
                self.end_headers()
                self.wfile.write(b"begin")
                if self.path == "/slow":
                    go_on.wait(SOON)
                self.wfile.write(b"end")

            def log_message(self, *args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()


class OperationTestCase(ProcessTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.echo = Echo()
        self.addCleanup(self.echo.close)

    def reload(self, state: str) -> Process:
        """C{relaytun reload}, to its end."""
        process = self.start("reload", *RELAYTUN, "reload", f"--state-dir={self.folder}/{state}")
        process.wait()
        return process

    def service(self, name: str, **more: str) -> str:
        """A section."""
        lines = "".join(f"{key} = {value}\n" for key, value in more.items())
        return (
            f"[service:{name}]\nprotocol = tcp\nlocal_host = 127.0.0.1\n"
            f"local_port = {self.echo.port}\n{lines}\n"
        )

    def connect(self, name: str, service: str) -> str:
        """Another one."""
        return f"[connect:{name}]\ntarget = provider\nservice = {service}\nlocal_port = 0\n\n"

    def port(self, visitor: Process, service: str, after: int = 0) -> int:
        """The local port that leads to a service."""
        return int(visitor.wait_for(rf":(\d+) leads to provider/{service}$", after)[1])

    def assert_echoes(self, connection: socket.socket, data: bytes = b"hello") -> None:
        """A stream carries bytes there and back."""
        connection.sendall(data)
        self.assertEqual(receive_exactly(connection, len(data)), data)


class Reload(OperationTestCase):
    def test_client(self) -> None:
        """Services and connects come, change and go; streams through the others run on."""
        self.start_server()
        provider = self.start_client("provider", self.service("one") + self.service("two"))
        visitor = self.start_client("visitor", self.connect("a", "one") + self.connect("b", "two"))
        with (
            dialled(self.port(visitor, "one")) as one,
            dialled(self.port(visitor, "two")) as two,
        ):
            self.assert_echoes(one)
            self.assert_echoes(two)
            self.config("provider", self.service("one") + self.service("three", mode="raw"))
            done = self.reload("provider")
            self.assertEqual(
                sorted(done.lines), ["service three: added", "service two: removed"], done.output
            )
            with self.assertRaises(ConnectionResetError):
                while two.recv(100):
                    pass
            # The provider has told the server of it by then, or does so now.
            eventually(
                lambda: "provider/three" in self.status("server")["services"],
                lambda: str(self.status("server")),
            )
            said = len(visitor.lines)
            self.config("visitor", self.connect("a", "one") + self.connect("c", "three"))
            visitor.signal(signal.SIGHUP)
            visitor.wait_for("reload: connect b: removed")
            with dialled(self.port(visitor, "three", said)) as three:
                self.assert_echoes(three)
            self.assert_echoes(one, b"still here")
        self.assertEqual(self.status("server")["services"], ["provider/one", "provider/three"])
        self.check_broken(provider)

    def check_broken(self, provider: Process) -> None:
        """A broken file is told with its lines, and changes nothing."""
        self.config("provider", "[service:one]\nprotocol = sctp\n", "heartbeat_interval = 3s\n")
        with self.assertRaises(UserError) as raised:
            adminsocket.ask(self.folder / "provider", "reload")
        self.assertRegex(
            str(raised.exception), r"provider\.ini: .service:one. protocol: not a choice"
        )
        provider.signal(signal.SIGHUP)
        provider.wait_for(r"reload: .*protocol: not a choice.*; nothing has changed")
        self.assertEqual(self.status("provider")["services"], ["one", "three"])

    def test_server(self) -> None:
        """A changed limit holds at once; what needs a restart is said and left alone."""
        server = self.start_server(config="max_clients = 1")
        self.start_client("provider", self.service("one"))
        late = self.launch_client("late", "")
        late.wait_for("max_clients = 1")
        late.stop()
        self.server_config("max_clients = 2\nproxy_protocol_from = 192.0.2.1\n")
        server.signal(signal.SIGHUP)
        server.wait_for("reload: max_clients: changed")
        server.wait_for("reload: proxy_protocol_from: needs a restart")
        self.start_client("late", "")
        self.assertEqual(self.status("server")["clients"], ["late", "provider"])
        self.assertNotIn("Traceback", server.output)


class Drain(OperationTestCase):
    def drained(self, daemon: str, mode: str, how: str) -> None:
        """
        SIGTERM of a daemon with a stream under way.

        @param how: C{stream}: the stream ends; C{again}: another SIGTERM comes.
        """
        lines = "drain_timeout = 60s"
        daemons = {"server": self.start_server(config=lines)}
        daemons["provider"] = self.start_client("provider", self.service("one", mode=mode), lines)
        daemons["visitor"] = self.start_client("visitor", self.connect("a", "one"), lines)
        ending = daemons[daemon]
        port = self.port(daemons["visitor"], "one")
        with dialled(port) as stream:
            self.assert_echoes(stream)
            ending.signal(signal.SIGTERM)
            ending.wait_for("1 streams have 60 s to end")
            self.assert_echoes(stream, b"to the end")
            self.assertRaises(OSError, self.new_stream, port)
            begin = time.monotonic()
            if how == "again":
                ending.signal(signal.SIGTERM)
            else:
                stream.shutdown(socket.SHUT_WR)
                self.assertEqual(stream.recv(100), b"")
            ending.wait()
            self.assertLess(time.monotonic() - begin, SOON)
        self.assertNotIn("Traceback", ending.output)

    def new_stream(self, port: int) -> None:
        """@raise OSError: if there are none any more."""
        with dialled(port, SOON) as stream:
            stream.sendall(b"x")
            if not stream.recv(1):
                raise ConnectionResetError

    def test_server(self) -> None:
        """A server lets streams of raw sessions end, and takes no new ones."""
        self.drained("server", "raw", "stream")

    def test_visitor(self) -> None:
        """A visitor lets its streams end; another SIGTERM ends them at once."""
        self.drained("visitor", "link", "again")

    def test_provider(self) -> None:
        """A provider lets the streams of its links end, and takes no new ones."""
        self.drained("provider", "link", "stream")

    def test_public(self) -> None:
        """Connections from the Internet end with client and server: both give them time."""
        for ending in ("provider", "server"):
            with self.subTest(ending):
                daemons = {"server": self.start_server(config="drain_timeout = 60s")}
                provider = self.start_client(
                    "provider", self.service("one", remote_port="0"), "drain_timeout = 60s"
                )
                daemons["provider"] = provider
                port = int(provider.wait_for(r"one is public: tcp://.*:(\d+)")[1])
                with dialled(port) as stream:
                    self.assert_echoes(stream)
                    daemons[ending].signal(signal.SIGTERM)
                    daemons[ending].wait_for("1 streams have 60 s to end")
                    self.assert_echoes(stream, b"to the end")
                    self.assertRaises(OSError, self.new_stream, port)
                    stream.shutdown(socket.SHUT_WR)
                    self.assertEqual(stream.recv(100), b"")
                    daemons.pop(ending).wait()
                for daemon in daemons.values():
                    daemon.stop()

    def test_http(self) -> None:
        """An answer under way is completed; visitors who wait for nothing hold up nobody."""
        page = SlowPage()
        self.addCleanup(page.close)
        server = self.start_server(
            config="drain_timeout = 60s\n[http]\nvhost_http_port = tcp:0:interface=127.0.0.1"
        )
        provider = self.start_client(
            "provider",
            "[service:page]\nprotocol = http\nlocal_host = 127.0.0.1\n"
            f"local_port = {page.port}\ncustom_domains = page.example\n",
        )
        provider.wait_for("page is public")
        port = self.status("server")["listening"]["http"]["port"]
        idle, waiting = (http.client.HTTPConnection("127.0.0.1", port, SOON) for _ in range(2))
        self.addCleanup(idle.close)
        self.addCleanup(waiting.close)
        for connection, path in ((idle, "/quick"), (waiting, "/slow")):
            connection.request("GET", path, headers={"Host": "page.example"})
            answer = connection.getresponse()
            self.assertEqual(answer.status, 200)
            if connection is idle:
                self.assertEqual(answer.read(), b"beginend")
        server.signal(signal.SIGTERM)
        server.wait_for("streams have 60 s to end")
        begin = time.monotonic()
        page.go_on.set()
        self.assertEqual(answer.read(), b"beginend")
        server.wait()
        self.assertLess(time.monotonic() - begin, SOON)

    def test_links_outlive_the_server(self) -> None:
        """A server does not wait for links: their streams go on with the next one."""
        server = self.start_server(config="drain_timeout = 60s")
        self.start_client("provider", self.service("one"))
        visitor = self.start_client("visitor", self.connect("a", "one"))
        with dialled(self.port(visitor, "one")) as stream:
            self.assert_echoes(stream)
            control = self.control_port
            begin = time.monotonic()
            server.stop()
            self.assertLess(time.monotonic() - begin, SOON)
            self.start_server(control=str(control))
            self.assert_echoes(stream, b"goes on")


class Watch(OperationTestCase):
    def ask(self, port: int, path: str, **headers: str) -> tuple[int, str]:
        """The answer of the administrator's port."""
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=SOON) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def test_watched(self) -> None:
        """Hooks hear, metrics count, health is told and each line of the log is JSON."""
        hook = Hook()
        self.addCleanup(hook.close)
        server = self.start_server(
            config="log_format = json\nmetrics_port = tcp:0:interface=127.0.0.1\n"
            "[hooks]\n"
            f"client_online = {hook.url}\nsession_opened = {hook.url}\n"
            f"session_closed = {hook.url}\nclient_offline = {hook.url}\n"
        )
        port = self.status("server")["listening"]["metrics"]["port"]
        self.start_client(
            "provider", self.service("one", mode="raw") + f"[hooks]\nconnected = {hook.url}\n"
        )
        visitor = self.start_client("visitor", self.connect("a", "one"), "log_format = json")
        with dialled(self.port_of_json(visitor)) as stream:
            self.assert_echoes(stream)
            status, text = self.ask(port, "/metrics")
            self.assertEqual(status, 200)
            self.assertIn("relaytun_clients 2.0\n", text)
            self.assertIn('relaytun_sessions{mode="raw"} 1.0\n', text)
            self.assertIn('relaytun_bytes_total{direction="in"} 5.0\n', text)
        self.assertEqual(self.ask(port, "/healthz"), (200, "ok\n"))
        self.assertEqual(self.ask(port, "/metrics", Host="evil.example")[0], 403)
        visitor.stop()
        eventually(lambda: "client_offline" in hook.events(), lambda: str(hook.told))
        for event in ("client_online", "connected", "session_opened", "session_closed"):
            self.assertIn(event, hook.events())
        (closed,) = [one for one in hook.told if one["event"] == "session_closed"]
        self.assertEqual((closed["bytesIn"], closed["bytesOut"]), (5, 5))
        self.assertNotIn(self.invite.partition("@")[0], json.dumps(hook.told))
        server.stop()
        for daemon in (server, visitor):
            self.assertGreater(len(daemon.lines), 5)
            for line in daemon.lines:
                self.assertLessEqual({"time", "level", "message"}, json.loads(line).keys(), line)

    def port_of_json(self, visitor: Process) -> int:
        """The local port that it says it opened."""
        visitor.wait_for("leads to provider/one")
        (line,) = [line for line in visitor.lines if "leads to provider/one" in line]
        said = json.loads(line)
        return int(said["port"])

    def test_log_file(self) -> None:
        """A daemon in the background writes JSON to the file that twistd was told."""
        path = self.server_config("log_format = json")
        log, pid = self.folder / "server.log", self.folder / "twistd.pid"
        starter = self.start(
            "server",
            *TWISTD,
            f"--pidfile={pid}",
            f"--logfile={log}",
            "relaytun-server",
            f"--config={path}",
            "--control=0",
            "--relay=0",
            "--host=127.0.0.1",
            f"--state-dir={self.folder}/server",
        )
        self.assertEqual(starter.wait(), 0, starter.output)
        eventually(lambda: "invite: " in log.read_text(), lambda: log.read_text())
        self.assertEqual(adminsocket.ask(self.folder / "server", "reload"), [])
        number = int(pid.read_text())
        os.kill(number, signal.SIGTERM)
        eventually(lambda: not pid.exists(), lambda: log.read_text())
        for line in log.read_text().splitlines():
            json.loads(line)
