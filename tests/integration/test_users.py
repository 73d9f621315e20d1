"""Users, bandwidths, quotas and traffic, with real daemons."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from relaytun import adminsocket
from relaytun.config import format_invite, parse_invite

from . import nursery
from .processes import PATIENCE, RELAYTUN, Process, ProcessTestCase, dialled, free_port
from .services import ask_source, take

MB = 1024 * 1024
#: What asks a source for bytes.
QUESTION = 8


class UsersTestCase(ProcessTestCase):
    """A server with users; each client has a token of one of them."""

    def serve(self, users: str, **options: str) -> Process:
        """
        The server.

        @param users: sections.
        """
        server = self.start_server(config=users, **options)
        self.server_invite = parse_invite(self.invite)
        return server

    def config_of(self, user: str, client_id: str, sections: str) -> Path:
        """A client's configuration, with the token C{<user>-token}."""
        fields = {
            name: getattr(self.server_invite, name) for name in self.server_invite.__struct_fields__
        }
        invite = format_invite(type(self.server_invite)(**{**fields, "token": f"{user}-token"}))
        path = self.folder / f"{client_id}.ini"
        path.write_text(
            f"[client]\ninvite = {invite}\nclient_id = {client_id}\ndrain_timeout = 0\n"
            "direct = off\n"
            f"state_dir = {self.folder}/{client_id}\nreconnect_interval = 50ms\n\n{sections}\n"
        )
        return path

    def start_of(self, user: str, client_id: str, sections: str) -> Process:
        """A client of a user's."""
        path = self.config_of(user, client_id, sections)
        return self.start(
            client_id, sys.executable, "-c", "from twisted.scripts.twistd import run; run()",
            "-n", "--pidfile=", "relaytun-client", f"--config={path}",
        )  # fmt: skip

    def provide(self, user: str, **services: str) -> Process:
        """
        Client C{alice-1}, with services that lead to a source.

        @param services: further keys of each.
        """
        _, port = self.start_service("source")
        sections = "".join(
            f"[service:{name}]\nprotocol = tcp\nlocal_host = 127.0.0.1\nlocal_port = {port}\n"
            f"{keys}\n"
            for name, keys in services.items()
        )
        process = self.start_of(user, "alice-1", sections)
        process.wait_for("signed in as")
        return process

    def visit(self, user: str, *services: str) -> tuple[Process, list[int]]:
        """Client C{bob-1}; the process, and the ports that lead to the services."""
        sections = "".join(
            f"[connect:{name}]\ntarget = alice-1\nservice = {name}\nlocal_port = 0\n"
            for name in services
        )
        process = self.start_of(user, "bob-1", sections)
        ports = [
            int(process.wait_for(rf"127\.0\.0\.1:(\d+) leads to alice-1/{name}")[1])
            for name in services
        ]
        return process, ports

    def relaytun(self, *arguments: str) -> tuple[int, str, str]:
        """Run a subcommand to its end."""
        done = nursery.run([*RELAYTUN, *arguments], self.folder, os.environ, PATIENCE)
        self.assertNotIn("Traceback", done.stderr)
        return done.returncode, done.stdout, done.stderr

    def stats(self, *options: str) -> Any:
        """What C{relaytun stats} says."""
        code, out, err = self.relaytun(
            "stats", "--json", f"--state-dir={self.folder}/server", *options
        )
        self.assertEqual((code, err), (0, ""))
        return json.loads(out)


class BandwidthTests(UsersTestCase):
    """What passes in a second, and what is said of it."""

    def test_bandwidth_and_stats(self) -> None:
        """2 MB/s are 2 MB/s, raw and over a link; the traffic is told to the byte."""
        self.serve("[user:alice]\ntoken = alice-token\n[user:bob]\ntoken = bob-token\n")
        limit = "bandwidth_up = 2MB\n"
        self.provide(
            "alice", raw=f"mode = raw\n{limit}", link=f"mode = link\n{limit}", free="mode = raw"
        )
        _, ports = self.visit("bob", "raw", "link", "free")
        with dialled(ports[0]) as raw, dialled(ports[1]) as link, dialled(ports[2]) as free:
            streams = (raw, link)
            began = time.monotonic()
            for stream in streams:
                ask_source(stream, 6 * MB)
            free_began = time.monotonic()
            ask_source(free, 8 * MB)
            self.assertEqual(take(free, 8 * MB), 8 * MB)
            self.assertLess(time.monotonic() - free_began, 3.0)  # 4 s at that rate.
            counts = [0, 0]
            for stream in streams:
                stream.setblocking(False)
            while time.monotonic() - began < 2.7:
                for number, stream in enumerate(streams):
                    try:
                        counts[number] += len(stream.recv(65536))
                    except BlockingIOError:
                        time.sleep(0.002)
            seconds = time.monotonic() - began
            for count in counts:
                # A bucket of a quarter of a second is full at the beginning.
                self.assertGreater(count / MB, 1.8 * seconds)
                self.assertLess(count / MB, 2.0 * (seconds + 0.25) + 0.1)
            for stream in streams:
                stream.settimeout(PATIENCE)
                take(stream, 6 * MB)
        by_service = {row["service"]: row for row in self.stats("--by=service")["rows"]}
        for name, size in (("raw", 6 * MB), ("free", 8 * MB)):
            row = by_service[name]
            self.assertEqual(
                (row["client"], row["bytesIn"], row["bytesOut"]), ("alice-1", QUESTION, size)
            )
        self.assertGreater(by_service["link"]["bytesOut"], 6 * MB)
        self.assertLess(by_service["link"]["bytesOut"], 6.2 * MB)
        answer = self.stats("--by=user")
        self.assertEqual([row["user"] for row in answer["rows"]], ["alice", "bob"])
        for row in answer["rows"]:
            self.assertEqual(row["bytesOut"], answer["bytesOut"])


class RightsTests(UsersTestCase):
    """What users may, and what becomes of them."""

    def test_rights_and_revocation(self) -> None:
        """What a user may not have is refused in clear words; one who is no user any more goes."""
        number = free_port()
        public = f"[public]\nallow_ports = {number}-{number + 1}\n"
        alice = f"[user:alice]\ntoken = alice-token\nclient_ids = alice-*\nports = {number}\n"
        bob = "[user:bob]\ntoken = bob-token\nvisit = alice-1/open\n"
        server = self.serve(public + alice + bob)
        provider = self.provide(
            "alice",
            open="mode = raw",
            closed=f"mode = raw\nremote_port = {number}\n",
            other=f"mode = raw\nremote_port = {number + 1}\n",
        )
        provider.wait_for(f"user alice may not have tcp port {number + 1}")
        with dialled(number) as stream:
            ask_source(stream, MB)
            self.assertEqual(take(stream, MB), MB)
        self.server_config(f"deny_networks = 127.0.0.0/8\n{public}{alice}{bob}")
        adminsocket.ask(self.folder / "server", "reload")
        with self.assertRaises(ConnectionResetError), dialled(number) as stream:
            take(stream, 1)
        imposter = self.start_of("alice", "carol", "[service:x]\nprotocol = tcp\nlocal_port = 9\n")
        imposter.wait_for("user alice may register as alice-\\*, not as carol")
        visitor, (port,) = self.visit("bob", "open")
        path = self.config_of("bob", "bob-2", "")
        code, out, err = self.relaytun(
            "connect", f"--config={path}", "--target=alice-1", "--service=closed", "--local=0"
        )
        self.assertEqual((code, out), (1, ""))
        self.assertIn("user bob may not visit alice-1/closed", err)
        with dialled(port) as stream:
            ask_source(stream, 2**40)
            self.assertEqual(take(stream, MB), MB)
            self.server_config(public + bob)
            adminsocket.ask(self.folder / "server", "reload")
            provider.wait_for("the token does not let anybody in any more")
            with self.assertRaises(ConnectionResetError):
                take(stream, 2**40)
        with self.assertRaises(ConnectionRefusedError), dialled(number):
            pass
        self.assertIsNone(visitor.popen.poll())
        self.assertNotIn("Traceback", server.output)


class QuotaTests(UsersTestCase):
    """A month's quota."""

    def test_quota_after_a_restart(self) -> None:
        """What was used before a restart counts after it; then the streams end, and no new ones."""
        users = "[user:alice]\ntoken = alice-token\n[user:bob]\ntoken = bob-token\nquota = 3MB\n"
        server = self.serve(users)
        provider = self.provide("alice", source="mode = raw")
        visitor, (port,) = self.visit("bob", "source")
        with dialled(port) as stream:
            ask_source(stream, 2 * MB)
            self.assertEqual(take(stream, 2 * MB), 2 * MB)
        seen = [(process, len(process.lines)) for process in (provider, visitor)]
        server.stop()
        self.serve(users, control=str(self.server_invite.port))
        for process, count in seen:
            process.wait_for("signed in as", after=count)
        with dialled(port) as stream:
            ask_source(stream, 2 * MB)
            with self.assertRaises(ConnectionResetError):
                take(stream, 2 * MB)
        for process in (provider, visitor):
            process.wait_for("the server ended a session: the quota of a user")
        (row,) = [row for row in self.stats("--by=user")["rows"] if row["user"] == "bob"]
        self.assertEqual((row["usedThisMonth"], row["quota"]), (3 * MB, 3 * MB))
        with contextlib.suppress(ConnectionResetError), dialled(port):
            pass
        visitor.wait_for("user bob has used up the quota of this month")
