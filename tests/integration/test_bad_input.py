"""
What a user may get wrong: each mistake is a line on stderr, and the command fails.

The real commands run, with their own stderr; the values themselves are judged in C{tests.config}.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ..foreign_client import PATIENCE, Client, open_websocket
from ..plane.test_datagrams import taken_by_udp
from . import nursery
from .processes import TWISTD, ProcessTestCase, needs, program

PRINT = "sha256:" + "ab" * 32
_TWISTED_VERIFIES = "while verifying certificate\n\tTraceback"
INVITE = f"relaytun://token@127.0.0.1:9?fp={PRINT}"


@dataclass
class Mistake:
    """
    Something that is wrong, and what is said about it.

    @ivar arguments: after the subcommand; C{FILE} is the file with C{text}.
    @ivar says: a part of each line, in order; as many lines as mistakes.
    """

    arguments: Sequence[str] = ()
    says: Sequence[str] = ()
    text: str | bytes | None = None
    environment: dict[str, str] = field(default_factory=dict)


class BadInput(ProcessTestCase):
    def twistd(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return nursery.run(
            [*TWISTD, *arguments],
            self.folder,
            {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home), **environment},
            PATIENCE * 2,
        )

    def assert_told(
        self, done: subprocess.CompletedProcess[str], command: str, says: Sequence[str]
    ) -> None:
        """It failed, with these lines and no others."""
        self.assertNotEqual(done.returncode, 0, done.stderr)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), len(says), done.stderr)
        for line, part in zip(lines, says, strict=True):
            self.assertIn(part, line)
            self.assertTrue(line.startswith(f"{command}: "), line)
        # Twisted itself logs one when a certificate has the wrong name.
        self.assertNotIn("Traceback", done.stdout.replace(_TWISTED_VERIFIES, ""))

    def check(self, command: str, mistakes: Sequence[Mistake]) -> None:
        """Make them all, a few at a time."""

        def make(number: int, mistake: Mistake) -> subprocess.CompletedProcess[str]:
            path = self.folder / f"{number}.ini"
            if isinstance(mistake.text, str):
                path.write_text(mistake.text)
            elif mistake.text is not None:
                path.write_bytes(mistake.text)
            arguments = [each.replace("FILE", str(path)) for each in mistake.arguments]
            if mistake.text is not None and not any(str(path) in each for each in arguments):
                arguments.append(f"--config={path}")
            # Should it start in spite of all: no port of anybody else's is in the way.
            if command == "relaytun-server":
                for port in ("control", "relay"):
                    named = any(each.startswith(f"--{port}=") for each in arguments)
                    if not named and "_port" not in str(mistake.text):
                        arguments.append(f"--{port}=0")
            if not any(each.startswith("--state-dir=") for each in arguments):
                arguments.append(f"--state-dir={self.folder}/state-{number}")
            return self.twistd("-n", "--pidfile=", command, *arguments, **mistake.environment)

        with ThreadPoolExecutor(4) as pool:
            runs = list(pool.map(make, range(len(mistakes)), mistakes))
        for mistake, done in zip(mistakes, runs, strict=True):
            try:
                self.assert_told(done, command, mistake.says)
            except AssertionError as error:
                raise AssertionError(f"{mistake}: {error}\n{done.stdout}{done.stderr}") from None

    def write(self, name: str, text: str = "") -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def key_pair(self, name: str) -> tuple[str, str]:
        """PEM files with a certificate and its key."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        subprocess.run(
            [
                *(program("openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
                *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=localhost"),
                *("-keyout", str(key), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        return str(certificate), str(key)

    def test_server(self) -> None:
        """Every kind of mistake that can be made with the server's options and file."""
        nowhere = str(self.folder / "nowhere")
        empty = self.write("empty", "\n")
        file = self.write("file", "x")
        self.check(
            "relaytun-server",
            [
                Mistake(["--no-such-option"], ["--no-such-option"]),
                Mistake(["argument"], ["argument"]),
                Mistake(["--open=yes"], ["open"]),
                Mistake(["--host=192.0.2.1"], ["cannot listen on"]),
                Mistake(
                    ["--control=ssl:1", "--relay=65536", "--host=a b", "--token=a b"],
                    [
                        "--host: not a host",
                        "--control: relaytun speaks TLS by itself",
                        "--relay: not a port",
                        "--token: not a token",
                    ],
                ),
                Mistake(["--control=tcp:x"], ["cannot listen on tcp:x"]),
                Mistake(["--token="], ["token is empty"]),
                Mistake(["--open", "--token=x"], ["a token is given as well"]),
                Mistake([f"--config={nowhere}"], ["cannot read the file: No such file"]),
                Mistake([f"--state-dir={file}/below"], ["cannot use the state directory"]),
                Mistake(["--state-dir=/proc/none"], ["cannot use the state directory"]),
                Mistake(text="[server]\ntoken =\n", says=["[server] token: token is empty"]),
                Mistake(text=f"[server]\ntoken_file = {empty}\n", says=["token is empty"]),
                Mistake(text=f"[server]\ntoken_file = {nowhere}\n", says=["token_file: cannot"]),
                Mistake(text="[server]\ntoken = ${NO_TOKEN}\n", says=["NO_TOKEN is not set"]),
                Mistake(
                    text="[server]\ntoken = ${NO_TOKEN}\n",
                    says=["token is empty"],
                    environment={"NO_TOKEN": ""},
                ),
                Mistake(
                    text="[server]\ncontrol_prot = 1\nrelai_port = 2\n",
                    says=["did you mean control_port?", "did you mean relay_port?"],
                ),
                Mistake(text="[sever]\nhost = 0\n", says=["did you mean [server]?"]),
                Mistake(text="[client]\nclient_id = a\n", says=["this is a client file"]),
                Mistake(text="[server]\nnonsense\n", says=["not a [section]"]),
                Mistake(text=b"[server]\nhost = \xff\n", says=["is not UTF-8"]),
                Mistake(
                    text="[server]\nsession_timeout = soon\nmax_clients = 0\n"
                    "max_bytes_per_session = much\nplaintext = maybe\n",
                    says=["session_timeout: ", "max_clients: ", "max_bytes", "plaintext: "],
                ),
                Mistake(
                    text="[server]\nheartbeat_interval = 60s\n", says=["heartbeat_timeout: must be"]
                ),
                Mistake(text=f"[server]\ncertificate = {file}\n", says=["key: missing"]),
                Mistake(
                    text=f"[server]\ncertificate = {nowhere}\nkey = {nowhere}\n",
                    says=["certificate: cannot read", "key: cannot read"],
                ),
                Mistake(
                    text="[public]\nallow_ports = 7000-6000\n[http]\nvhost_http_port = 9001\n"
                    "[user:a]\ntoken =\n[hooks]\nconnected = http://localhost\n",
                    says=[
                        "[http] vhost_http_port: is the relay_port already",
                        "[public] allow_ports: a range goes from",
                        "[user:a] token: token is empty",
                        "[hooks] connected: is for the file of a client",
                    ],
                ),
            ],
        )

    def test_certificates(self) -> None:
        """A certificate or key that is none, or not its pair, is named; so is a broken state."""
        needs("openssl")
        one, one_key = self.key_pair("one")
        _, other_key = self.key_pair("other")
        junk = self.write("junk", "-----BEGIN CERTIFICATE-----\njunk\n-----END CERTIFICATE-----\n")
        empty_state = self.folder / "empty-token"
        empty_state.mkdir()
        (empty_state / "token").write_text("\n")
        broken_state = self.folder / "broken"
        broken_state.mkdir()
        (broken_state / "server.pem").write_text("junk")
        no_database = self.folder / "no-database"
        no_database.mkdir()
        (no_database / "owners.db").write_text("junk that is long enough to be looked at " * 50)
        self.check(
            "relaytun-server",
            [
                Mistake(text=f"[server]\ncertificate = {certificate}\nkey = {key}\n", says=[says])
                for certificate, key, says in (
                    (junk, one_key, "junk: no PEM certificate can be read"),
                    (one, junk, "junk: no unencrypted PEM key can be read"),
                    (one, one, "one.crt: no unencrypted PEM key can be read"),
                    (one, other_key, "other.key is not the key of the first certificate"),
                )
            ]
            + [
                Mistake([f"--state-dir={empty_state}"], ["token is empty"]),
                Mistake([f"--state-dir={broken_state}"], ["server.pem cannot be used"]),
                Mistake([f"--state-dir={no_database}"], ["cannot read"]),
            ],
        )

    def test_client(self) -> None:
        """Every kind of mistake that can be made with the client's options and file."""
        nowhere = str(self.folder / "nowhere")
        empty = self.write("empty", "\n")
        file = self.write("file", "x")
        good = f"[client]\ninvite = {INVITE}\n"
        service = "[service:web]\nprotocol = tcp\nlocal_port = 1\n"
        broken_state = self.folder / "broken"
        broken_state.mkdir()
        (broken_state / "identity.pem").write_text("junk")
        self.check(
            "relaytun-client",
            [
                Mistake([], ["--invite: missing"]),
                Mistake(["--no-such-option"], ["--no-such-option"]),
                Mistake(["argument"], ["argument"]),
                Mistake(["--invite=nonsense"], ["--invite: not an invite"]),
                Mistake([f"--invite=relaytun://@h:1?fp={PRINT}"], ["--invite: not an invite"]),
                Mistake(["--invite="], ["--invite: "]),
                Mistake([f"--invite={INVITE}", "--client-id=a b"], ["--client-id: not an id"]),
                Mistake([f"--invite={INVITE}", f"--state-dir={file}"], ["cannot use the state"]),
                Mistake(
                    [f"--invite={INVITE}", f"--state-dir={broken_state}"],
                    ["identity.pem cannot be used"],
                ),
                Mistake([f"--config={nowhere}"], ["cannot read the file"]),
                Mistake(text="[server]\nhost = a\n", says=["this is a server file"]),
                Mistake(text="[client]\nclient_id = a\n", says=["[client] invite: missing"]),
                Mistake(text=f"[client]\ninvite_file = {nowhere}\n", says=["cannot read"]),
                Mistake(text=f"[client]\ninvite_file = {empty}\n", says=["not an invite"]),
                Mistake(
                    text="[client]\nserver = ws://127.0.0.1\ntoken =\n", says=["token is empty"]
                ),
                Mistake(
                    text="[client]\nserver = http://127.0.0.1\n", says=["server: not a server"]
                ),
                Mistake(
                    text="[client]\nserver = wss://127.0.0.1\nfingerprint = sha256:12\n",
                    says=["fingerprint: not a fingerprint"],
                ),
                Mistake(
                    text=good + "[service:web]\nprotocol = sctp\nlocal_port = 0\n",
                    says=["protocol: not a choice", "local_port: not a port"],
                ),
                Mistake(
                    text=good + "[service:web]\n", says=["protocol: missing", "local_port: missing"]
                ),
                Mistake(
                    text=good + service + f"mode = raw\nallow = a@{PRINT}\ncompression = zstd\n",
                    says=["allow: a fingerprint is", "compression: only links"],
                ),
                Mistake(
                    text=good + service + "allow =\nremote_port = 70000\nsubdomain = a.b\n",
                    says=["allow: empty", "remote_port: ", "subdomain: "],
                ),
                Mistake(
                    text=good + service.replace("tcp", "udp") + "mode = raw\n",
                    says=["udp travels over links only"],
                ),
                Mistake(text=good + "autoreconnect = no\n", says=["did you mean auto_reconnect?"]),
                Mistake(
                    text=good + "[connect:a]\ntarget = b\nservice = c\nlocal_prot = 1\n",
                    says=["did you mean local_port?", "local_port: missing"],
                ),
                Mistake(text='{"client": ', says=["JSON"]),
            ],
        )

    def test_unreadable_files(self) -> None:
        """A file that may not be read is named; root may read all, and skips this."""
        if os.geteuid() == 0:
            needs("setpriv")
        secret = Path(self.write("secret.ini", "[server]\n"))
        secret.chmod(0)
        self.folder.chmod(0o755)
        command = [*TWISTD, "-n", "--pidfile=", "relaytun-server", f"--config={secret}"]
        if os.geteuid() == 0:
            # As root without the right to read everything.
            command = [
                program("setpriv"),
                "--bounding-set=-dac_override,-dac_read_search",
                "--inh-caps=-dac_override,-dac_read_search",
                "--reuid=65534",
                "--clear-groups",
                *command,
            ]
        done = subprocess.run(
            command,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            # That user may not write down what was covered, either.
            env={name: value for name, value in os.environ.items() if "COVERAGE" not in name},
        )
        if "ermission denied" in done.stderr and "secret.ini" not in done.stderr:
            self.skipTest("another user cannot run this Python")
        self.assert_told(done, "relaytun-server", ["cannot read the file: Permission denied"])

    def busy(self) -> int:
        """A port that somebody else has."""
        listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listening.close)
        return int(listening.getsockname()[1])

    def test_busy_ports(self) -> None:
        """A busy control, relay or local port ends the command, and names the port."""
        port = self.busy()
        arguments = ["--host=127.0.0.1", "--state-dir=state"]
        for control, relay in ((port, 0), (0, port)):
            done = self.twistd(
                *("-n", "--pidfile=", "relaytun-server", *arguments),
                *(f"--control={control}", f"--relay={relay}"),
            )
            self.assert_told(
                done,
                "relaytun-server",
                [f"cannot listen on tcp:{port}:interface=127.0.0.1: Address already in use"],
            )
        with taken_by_udp() as taken:
            number = taken.getsockname()[1]
            done = self.twistd(
                *("-n", "--pidfile=", "relaytun-server", *arguments),
                *("--control=0", f"--relay={number}"),
            )
        self.assert_told(
            done,
            "relaytun-server",
            [f"cannot listen on udp:{number}, which goes with the relay port: Address already"],
        )
        path = self.write(
            "client.ini",
            f"[client]\ninvite = {INVITE}\nstate_dir = client\n"
            f"[connect:it]\ntarget = a\nservice = b\nlocal_port = {port}\n",
        )
        done = self.twistd("-n", "--pidfile=", "relaytun-client", f"--config={path}")
        self.assert_told(
            done, "relaytun-client", [f"[connect:it] cannot listen on 127.0.0.1:{port}: Address"]
        )

    def test_state_dir_in_use(self) -> None:
        """One process at a time has a state directory; the message names the other."""
        server = self.start_server()
        done = self.twistd(
            *("-n", "--pidfile=", "relaytun-server", "--control=0", "--relay=0"),
            f"--state-dir={self.folder}/server",
        )
        self.assert_told(done, "relaytun-server", [f"another relaytun process (pid {server.pid})"])
        client = self.start_client("one", "")
        done = self.twistd(
            *("-n", "--pidfile=", "relaytun-client", f"--config={self.folder}/one.ini")
        )
        self.assert_told(done, "relaytun-client", [f"another relaytun process (pid {client.pid})"])

    def test_open_server(self) -> None:
        """C{--open} is one; C{--token} and C{--open} together are a mistake, seen above."""
        self.start_server("--open")
        client = Client(open_websocket(self.control_port))
        self.addCleanup(client.abort)
        self.assertIs(client.register("anybody")["success"], True)
        self.assertNotIn("@", self.invite)

    def test_wrong_fingerprint(self) -> None:
        """A server with another certificate than the invite's is refused, in one line."""
        self.start_server()
        invite = self.invite.partition("?")[0] + f"?fp={PRINT}"
        path = self.write(
            "client.ini", f"[client]\ninvite = {invite}\nstate_dir = c\nauto_reconnect = no\n"
        )
        done = self.twistd("-n", "--pidfile=", "relaytun-client", f"--config={path}")
        self.assert_told(done, "relaytun-client", ["is not the server of the invite"])
        self.assertNotIn(self.invite.partition("@")[0], done.stdout + done.stderr)
        wrong = self.invite.replace("relaytun://", "relaytun://x")
        path = self.write(
            "client.ini", f"[client]\ninvite = {wrong}\nstate_dir = c\nauto_reconnect = no\n"
        )
        done = self.twistd("-n", "--pidfile=", "relaytun-client", f"--config={path}")
        self.assert_told(done, "relaytun-client", ["refuses the token"])

    def test_nobody_vouches(self) -> None:
        """Without a fingerprint a self-signed server is refused: there is no fallback."""
        self.start_server()
        path = self.write(
            "client.ini",
            f"[client]\nserver = wss://127.0.0.1:{self.control_port}\ntoken = x\n"
            "state_dir = c\nauto_reconnect = no\n",
        )
        done = self.twistd("-n", "--pidfile=", "relaytun-client", f"--config={path}")
        self.assert_told(done, "relaytun-client", ["cannot be trusted"])

    def test_daemon_mode(self) -> None:
        """In the background as well, a busy port is told on the terminal and is a failure."""
        port = self.busy()
        background = ["--pidfile=twistd.pid", "--logfile=twistd.log"]
        done = self.twistd(
            *background,
            *("relaytun-server", f"--control={port}", "--relay=0", "--host=127.0.0.1"),
            "--state-dir=state",
        )
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(f"cannot listen on tcp:{port}", done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stdout + done.stderr)
        self.assertFalse((self.folder / "twistd.pid").exists())
