"""Tests of L{relaytun.config.server}."""

from __future__ import annotations

import os
from pathlib import Path

from relaytun.config import ServerConfig, load_server
from tests.config.support import ConfigCase

SAMPLE = """\
; server.ini
[server]
host = 0.0.0.0
control_port = 9000
relay_port = 9001
public_host =
state_dir = /var/lib/relaytun
session_timeout = 5m
heartbeat_interval = 15s
heartbeat_timeout = 45s
max_clients = 10000
max_sessions = 10000
max_bytes_per_session = 0
plaintext = loopback
certificate =
key =
[public]
allow_ports =
[http]
vhost_http_port =
vhost_https_port =
subdomain_host =
"""
EMPTY_TOKEN = "token is empty: remove the key to have a token made at the first start, or give one"


class ServerTests(ConfigCase):
    """What a server's configuration means."""

    def one_problem(self, text: str, **overrides: str | bool) -> str:
        (line,) = self.server_problems(text, **overrides)
        return line

    def test_sample(self) -> None:
        """The sample of the documentation says what the defaults are."""
        expected = ServerConfig(state_dir=Path("/var/lib/relaytun"), allow_ports=())
        self.assertEqual(self.server(SAMPLE), expected)

    def test_all_keys(self) -> None:
        """Each key has its field."""
        certificate, key = self.write("c.pem", "c"), self.write("k.pem", "k")
        config = self.server(
            f"""[server]
            host = ::
            control_port = tcp:9000:interface=127.0.0.1
            relay_port = 0
            public_host = relay.example.com
            state_dir = ~/state
            token = s3cret
            session_timeout = 0
            heartbeat_interval = 1s
            heartbeat_timeout = 2s
            max_clients = 1
            max_sessions = 2
            max_bytes_per_session = 10MB
            plaintext = yes
            certificate = {certificate}
            key = {key}
            """
        )
        expected = ServerConfig(
            host="::",
            control="tcp:9000:interface=127.0.0.1",
            relay="0",
            public_host="relay.example.com",
            state_dir=Path("/home/ann/state"),
            token="s3cret",
            session_timeout=0.0,
            heartbeat_interval=1.0,
            heartbeat_timeout=2.0,
            max_clients=1,
            max_sessions=2,
            max_bytes_per_session=10 << 20,
            plaintext=True,
            certificate=Path(certificate),
            key=Path(key),
        )
        self.assertEqual(config, expected)
        self.assertNotIn("s3cret", repr(config))

    def test_reflector(self) -> None:
        """It is beside the relay unless a number is given; empty is none."""
        for body, reflector in {
            "": "auto",
            "reflector_port =": None,
            "reflector_port = 0": "0",
            "reflector_port = 09003": "9003",
        }.items():
            self.assertEqual(self.server(f"[server]\n{body}\n").reflector, reflector)
        config = self.server("[server]\nreflector_address = 2001:DB8::1\n")
        self.assertEqual(config.reflector_address, "2001:db8::1")

    def test_bad_reflector(self) -> None:
        """It has a port of its own, and an address that clients can ask."""
        for body, problem in {
            "reflector_port = 9001": "reflector_port: is the relay_port already: take another port",
            "reflector_port = tcp:1": "reflector_port: not a port",
            "reflector_address = example.com": "reflector_address: not an address: write an IPv4",
            "reflector_address = 0.0.0.0": "reflector_address: not one address",
            "reflector_address = ff02::1": "reflector_address: not one address",
        }.items():
            line = self.one_problem(f"[server]\n{body}\n")
            self.assertIn(f"server.ini: [server] {problem}", line)

    def test_no_file(self) -> None:
        """Without a file all is from the command line and the defaults."""
        config = load_server(None, {"control": "1", "relay": "2", "open": True, "state_dir": "x"})
        expected = ServerConfig(control="1", relay="2", open=True, state_dir=Path("x"))
        self.assertEqual(config, expected)

    def test_default_state_dir(self) -> None:
        """State is in the system's folder for root, else in the user's."""
        self.patch(os, "geteuid", lambda: 0)
        self.assertEqual(load_server(None, {}).state_dir, Path("/var/lib/relaytun"))
        self.patch(os, "geteuid", lambda: 1000)
        home = Path("/home/ann/.local/state/relaytun-server")
        self.assertEqual(load_server(None, {}).state_dir, home)
        self.environment({"XDG_STATE_HOME": "relative"})
        self.assertEqual(load_server(None, {}).state_dir, home)
        self.environment({"XDG_STATE_HOME": "/xdg"})
        self.assertEqual(load_server(None, {}).state_dir, Path("/xdg/relaytun-server"))

    def test_overrides_win(self) -> None:
        """An option wins over the file, even over a value that is wrong or a token in a file."""
        config = self.server(
            "[server]\nhost = ${NOT_SET}\ncontrol_port = x\ntoken_file = /none\n",
            host="::1",
            control="5",
            public_host="a",
            token="t",
            open=False,
        )
        self.assertEqual((config.host, config.control), ("::1", "5"))
        self.assertEqual((config.public_host, config.token, config.open), ("a", "t", False))

    def test_override_problems(self) -> None:
        """A problem with an option is told with the option."""
        lines = self.server_problems("[server]\n", control="x", public_host="a b", token=" ")
        self.assertEqual(
            [line.split(":")[0] for line in lines], ["--control", "--token", "--public-host"]
        )
        self.assertIn("--control: not a port: write a number from 0 to 65535", lines[0])
        self.assertEqual(lines[1], f"--token: {EMPTY_TOKEN}")

    def test_all_problems(self) -> None:
        """All that is wrong is told at once, each with file, section and key."""
        lines = self.server_problems(
            """[server]
            host = a b
            control_port = 0.0.0.0:9000
            relay_port = 70000
            session_timeout = 5 minutes
            heartbeat_interval = 0
            max_clients = 0
            max_sessions = many
            max_bytes_per_session = -1
            plaintext = no
            """
        )
        keys = [line.removeprefix("server.ini: [server] ").split(":")[0] for line in lines]
        self.assertEqual(
            sorted(keys),
            [
                "control_port",
                "heartbeat_interval",
                "host",
                "max_bytes_per_session",
                "max_clients",
                "max_sessions",
                "plaintext",
                "relay_port",
                "session_timeout",
            ],
        )

    def test_empty_token(self) -> None:
        """A token that is there but empty is refused, however it came to be empty."""
        self.environment({"EMPTY": " "})
        path = self.write("token", " \n")
        for body, key in {
            "token =": "token",
            "token = ${EMPTY}": "token",
            "token = ; none": "token",
            "token_file =": "token_file",
            f"token_file = {path}": "token_file",
        }.items():
            line = self.one_problem(f"[server]\n{body}\n")
            self.assertEqual(line, f"server.ini: [server] {key}: {EMPTY_TOKEN}")

    def test_token_file(self) -> None:
        """A token may come from a file, whose last line end is not part of it."""
        path = self.write("token", "t0ken\n")
        self.assertEqual(self.server(f"[server]\ntoken_file = {path}\n").token, "t0ken")
        path = self.write("token", "s3cret two\n")
        self.assertIn("not a token", self.one_problem(f"[server]\ntoken_file = {path}\n"))
        line = self.one_problem(f"[server]\ntoken_file = {self.folder}/none\n")
        self.assertIn("token_file: cannot read the file: No such file", line)

    def test_two_tokens(self) -> None:
        """There is one token."""
        line = self.one_problem("[server]\ntoken = s3cret\ntoken_file = /none\n")
        self.assertEqual(
            line,
            "server.ini: [server] token_file: token is given as well: remove one of the two",
        )

    def test_unset_token(self) -> None:
        """A token from a variable that is not set is one problem and not an empty token."""
        line = self.one_problem("[server]\ntoken = ${NOT_SET}\n")
        self.assertIn("[server] token: the environment variable NOT_SET is not set", line)

    def test_open_with_token(self) -> None:
        """A server that is open has no token, and the error tells both places."""
        for body in ("token = s3cret", "token =", "token_file = /none"):
            line = self.one_problem(f"[server]\n{body}\n", open=True)
            key = body.split(" ")[0]
            self.assertEqual(
                line,
                f"--open: a token is given as well: remove --open, or server.ini: [server] {key}",
            )
        self.assertIn("or --token", self.one_problem("", open="yes", token="s3cret"))

    def test_heartbeat(self) -> None:
        """A connection that misses one heartbeat is not yet dead."""
        line = self.one_problem("[server]\nheartbeat_interval = 45s\n")
        self.assertIn("heartbeat_timeout: must be more than heartbeat_interval", line)

    def test_plaintext(self) -> None:
        """The file says who may do without TLS; nobody is not a choice."""
        line = self.one_problem("[server]\nplaintext = no\n")
        self.assertIn("plaintext: use loopback", line)
        self.assertIn("or yes", line)

    def test_certificate(self) -> None:
        """A certificate and its key come together and are readable."""
        path = self.write("c.pem", "c")
        for one, other in (("certificate", "key"), ("key", "certificate")):
            line = self.one_problem(f"[server]\n{one} = {path}\n")
            self.assertIn(f"[server] {other}: missing: {one} is given", line)
        body = f"certificate = {self.folder}/none\nkey = {self.folder}\n"
        lines = self.server_problems(f"[server]\n{body}")
        self.assertIn("certificate: cannot read the file: No such file", lines[0])
        self.assertIn("key: cannot read the file: Is a directory", lines[1])

    def test_open_is_no_key(self) -> None:
        """A file cannot open a server; only the command line can."""
        self.assertIn("[server] open: unknown key", self.one_problem("[server]\nopen = yes\n"))

    def test_client_sections(self) -> None:
        """A section of a client in a server's file is told, once."""
        line = self.one_problem("[server]\n[service:web]\nlocal_port = 80\n")
        self.assertEqual(line, "server.ini: [service:web]: belongs in a client file")

    def test_client_file(self) -> None:
        """A client's file is told in one line, in either form."""
        for text in ("[client]\nfoo = 1\ntransport = ws\n", '{"x": 1}'):
            self.assertEqual(
                self.one_problem(text),
                "server.ini: this is a client file: give it to relaytun-client",
            )
