"""C{relaytun doctor}, well and with each thing broken."""

from __future__ import annotations

import re
from pathlib import Path

from .command import CommandTestCase
from .processes import free_port

ANY = "[connect:it]\nservice = echo\nlocal_port = 0\n"
CONNECT = "[connect:it]\ntarget = provider\nservice = echo\nlocal_port = 0\n"


class DoctorTestCase(CommandTestCase):
    """Examinations, as a verdict for each check."""

    def examine(self, *options: str) -> tuple[int, dict[str, tuple[str, str]]]:
        """Run the doctor; returns its exit code, and verdict and sentence by check."""
        code, out, err = self.relaytun("doctor", *options)
        self.assertEqual(err, "")
        found = {}
        for line in out.splitlines():
            match = re.fullmatch(r"(ok|FAIL|skipped) +(\S+(?: \S+)*?)(?:  +| (?=\d))(\S.*)", line)
            assert match is not None, line
            found[match[2]] = match[1], match[3]
        self.assertEqual(code, 1 if any(v == "FAIL" for v, _ in found.values()) else 0, out)
        return code, found

    def ill(self, *options: str) -> dict[str, str]:
        """What fails, with its sentence."""
        _, found = self.examine(*options)
        return {name: text for name, (verdict, text) in found.items() if verdict == "FAIL"}

    def assert_all_well(self, *options: str) -> set[str]:
        """Returns what was checked."""
        code, found = self.examine(*options)
        self.assertEqual({verdict for verdict, _ in found.values()}, {"ok"}, found)
        self.assertEqual(code, 0)
        return set(found)

    def config(self, client_id: str, sections: str, client: str = "") -> Path:
        """As users have it: direct paths are looked for."""
        return super().config(client_id, sections, client or "direct = auto")

    def of(self, name: str) -> str:
        return f"--config={self.folder}/{name}.ini"


class Client(DoctorTestCase):
    """What can be wrong with a client."""

    def test_all_well(self) -> None:
        """A client that is well is well end to end: exit 0."""
        self.start_server()
        self.start_provider(self.echo.port)
        self.start_visitor()
        common = {
            "configuration",
            "state directory",
            "identity",
            "daemon",
            "server name",
            "control port",
            "login",
            "relay port",
            "direct path",
        }
        self.assertEqual(self.assert_all_well(self.of("provider")), common | {"service echo"})
        self.assertEqual(self.assert_all_well(self.of("visitor")), common | {"connect it"})

    def test_configuration(self) -> None:
        """A configuration that is wrong is said to be so, and nothing else is tried."""
        (self.folder / "bad.ini").write_text("[client]\nclient_id = a b\n")
        _, found = self.examine(self.of("bad"))
        self.assertEqual(list(found), ["configuration", "all the rest"])
        self.assertEqual(found["configuration"][0], "FAIL")
        self.assertEqual(found["all the rest"][0], "skipped")

    def test_state_directory(self) -> None:
        """A state directory that cannot be used, or an identity that cannot be read."""
        self.start_server()
        self.config("guest", "")
        (self.folder / "guest").write_text("in the way")
        self.assertEqual(set(self.ill(self.of("guest"))), {"state directory"})
        (self.folder / "guest").unlink()
        (self.folder / "guest").mkdir()
        (self.folder / "guest" / "identity.pem").write_text("no key")
        ill = self.ill(self.of("guest"))
        self.assertEqual(set(ill), {"identity"})
        self.assertIn("identity.pem cannot be used", ill["identity"])

    def test_daemon(self) -> None:
        """A daemon that does not run, or is not signed in."""
        server = self.start_server()
        self.config("visitor", CONNECT)
        self.start_provider(self.echo.port)
        ill = self.ill(self.of("visitor"))
        self.assertEqual(set(ill), {"daemon"})
        self.assertIn("start it with twistd relaytun-client --config", ill["daemon"])
        visitor, _ = self.start_visitor()
        server.kill()
        visitor.wait_for("the connection to the server is lost")
        ill = self.ill(self.of("visitor"))
        self.assertEqual(set(ill), {"daemon", "control port"})
        self.assertIn("not signed in", ill["daemon"])

    def test_no_server(self) -> None:
        """A name that does not exist, or a port where nothing listens; the rest is skipped."""
        self.start_server()
        for changes, failing in (
            ({"host": "x" * 64 + ".example"}, "server name"),
            ({"port": str(free_port())}, "control port"),
        ):
            _, found = self.examine(f"--invite={self.altered_invite(**changes)}")
            self.assertEqual(found[failing][0], "FAIL")
            for name in ("login", "relay port"):
                self.assertEqual(found[name][0], "skipped")

    def test_login(self) -> None:
        """A token or a certificate that is wrong."""
        self.start_server()
        for changes, saying in (
            ({"token": "wrong"}, "refuses the token"),
            ({"fingerprint": "sha256:" + "0" * 64}, "is not the server of the invite"),
        ):
            ill = self.ill(f"--invite={self.altered_invite(**changes)}")
            self.assertEqual(set(ill), {"login"})
            self.assertIn(saying, ill["login"])

    def test_relay_port(self) -> None:
        """A relay port that cannot be reached, or is none."""
        self.start_server("--public-host=127.0.0.2")
        # The invite has the public host, too; the control port is to be reached.
        config = self.config("guest", "", "transport = tcp")
        text = config.read_text().replace(
            "invite_file", f"invite = {self.altered_invite(host='127.0.0.1')}\n;"
        )
        config.write_text(text)
        ill = self.ill(self.of("guest"))
        self.assertEqual(set(ill), {"relay port"})
        self.assertIn("set public_host", ill["relay port"])
        for transport, verdict in (("auto", "skipped"), ("ws", "ok")):
            config.write_text(text.replace("transport = tcp", f"transport = {transport}"))
            _, found = self.examine(self.of("guest"))
            self.assertEqual(found["relay port"][0], verdict)
            self.assertIn("legs go over WebSockets to wss://", found["relay port"][1])

    def test_direct_path(self) -> None:
        """What NAT there is is told, unless nobody wants to know, or can."""
        self.start_server(config="reflector_port =")
        self.config("guest", "")
        _, found = self.examine(self.of("guest"))
        self.assertEqual(found["direct path"][0], "skipped")
        self.assertIn("it has no reflector", found["direct path"][1])
        self.config("guest", "", "direct = off")
        _, found = self.examine(self.of("guest"))
        self.assertEqual(found["direct path"], ("skipped", "direct = off: all goes by the relay"))

    def test_service(self) -> None:
        """A service of one's own that does not answer."""
        self.start_server()
        self.start_provider(free_port())
        ill = self.ill(self.of("provider"))
        self.assertEqual(set(ill), {"service echo"})
        self.assertIn("start the service", ill["service echo"])

    def test_connect(self) -> None:
        """A target that is not there, or does not offer the service."""
        self.start_server()
        self.start_client("visitor", CONNECT)
        self.assertIn("is not signed in", self.ill(self.of("visitor"))["connect it"])
        self.start_provider(self.echo.port, service="other")
        ill = self.ill(self.of("visitor"))
        self.assertEqual(set(ill), {"connect it"})
        self.assertIn("does not offer echo, but other", ill["connect it"])
        self.config("visitor", ANY)
        ill = self.ill(self.of("visitor"))
        self.assertIn("no client that is signed in offers echo", ill["connect it"])
        self.config("visitor", ANY.replace("echo", "other"))
        _, found = self.examine(self.of("visitor"))
        self.assertEqual(found["connect it"], ("ok", "other is offered by provider"))

    def test_leaves_no_trace(self) -> None:
        """Before the first start nothing is made, and no name is claimed."""
        self.start_server()
        self.config("visitor", "")
        _, found = self.examine(self.of("visitor"))
        self.assertEqual(found["daemon"][0], "skipped")
        self.assertIn("guest-", found["login"][1])
        self.assertFalse((self.folder / "visitor").exists())
        self.start_client("visitor", "")


class Server(DoctorTestCase):
    """What can be wrong with a server."""

    def start_it(self, *options: str, config: str = "") -> None:
        self.server = self.start_server(
            *options, config=f"state_dir = {self.folder}/server\n{config}"
        )

    def test_all_well(self) -> None:
        """A server that is well is well: exit 0."""
        self.start_it()
        self.assertEqual(
            self.assert_all_well(self.of("server")),
            {
                "configuration",
                "state directory",
                "certificate",
                "token",
                "daemon",
                "descriptors",
                "control port",
                "login",
                "relay port",
            },
        )

    def test_open_with_a_public_host(self) -> None:
        """An open server is well, and so is one whose public host others resolve."""
        self.start_it("--open", config="public_host = 127.0.0.9")
        code, found = self.examine(self.of("server"))
        self.assertEqual(code, 0)
        self.assertEqual(found.pop("token")[0], "skipped")
        self.assertEqual({verdict for verdict, _ in found.values()}, {"ok"})
        self.assertIn("public_host", found)

    def test_not_running(self) -> None:
        """A server that has never run, and one that does not run any more."""
        (self.folder / "server.ini").write_text(f"[server]\nstate_dir = {self.folder}/server\n")
        self.assertEqual(set(self.ill(self.of("server"))), {"daemon"})
        self.assertFalse((self.folder / "server").exists())
        self.start_it()
        self.server.stop()
        _, found = self.examine(self.of("server"))
        self.assertIn("twistd relaytun-server", found["daemon"][1])
        self.assertEqual(found["certificate"][0], "ok")
        self.assertEqual(found["login"][0], "skipped")

    def test_damaged(self) -> None:
        """A certificate and a token that a restart would stumble over."""
        self.start_it()
        (self.folder / "server" / "server.pem").write_text("no key")
        (self.folder / "server" / "token").write_text("")
        ill = self.ill(self.of("server"))
        self.assertEqual(set(ill), {"certificate", "token"})

    def test_invite_of_another(self) -> None:
        """An invite that does not fit the server that runs is found by the login."""
        self.start_it()
        invite = self.folder / "server" / "invite"
        invite.write_text(self.altered_invite(token="wrong"))
        self.assertEqual(set(self.ill(self.of("server"))), {"login"})
        invite.write_text("nonsense")
        self.assertIn("not an invite", self.ill(self.of("server"))["login"])


class Nothing(DoctorTestCase):
    """Without a configuration."""

    def test_daemon_alone(self) -> None:
        """A state directory is enough to say whether its daemon runs."""
        self.start_server()
        code, found = self.examine(f"--state-dir={self.folder}/server")
        self.assertEqual(code, 0)
        self.assertIn("a server has been running", found["daemon"][1])
        self.assertEqual(found["all the rest"][0], "skipped")

    def test_nothing_at_all(self) -> None:
        """No option and no daemon is exit 1."""
        self.assertEqual(set(self.ill()), {"daemon"})
