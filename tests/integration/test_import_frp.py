"""Files of frp's, imported and run: a public port and a host name lead where they did."""

from __future__ import annotations

import http.server
import threading
import urllib.error
import urllib.request
from pathlib import Path

from click.testing import CliRunner

from relaytun.cli.main import relaytun

from .processes import (
    PATIENCE,
    TWISTD,
    Echo,
    Process,
    ProcessTestCase,
    dialled,
    eventually,
    free_port,
    receive_exactly,
)

FRPS = """\
bindPort = 7000
auth.token = "an-old-token"
vhostHTTPPort = {vhost}
subDomainHost = "frp.test"
allowPorts = [{{ single = {public} }}]
"""
FRPC = """\
serverAddr = "127.0.0.1"
serverPort = 7000
auth.token = "{{{{ .Envs.OLD_TOKEN }}}}"
user = "ann"

[[proxies]]
name = "echo"
type = "tcp"
localPort = {echo}
remotePort = {public}

[[proxies]]
name = "web"
type = "http"
localPort = {web}
customDomains = ["app.example.test"]
subdomain = "app"
httpUser = "u"
httpPassword = "p"
requestHeaders.set.X-From = "frp"

[[proxies]]
name = "secret"
type = "stcp"
localPort = {echo}
secretKey = "x"
allowUsers = ["bob"]
"""
BOB = """\
serverAddr = "127.0.0.1"
auth.token = "an-old-token"
user = "bob"

[[visitors]]
name = "secret"
type = "stcp"
serverUser = "ann"
serverName = "secret"
secretKey = "x"
bindPort = {visited}
"""


class ImportFrp(ProcessTestCase):
    """C{relaytun import-frp}, and what it writes with real daemons."""

    def setUp(self) -> None:
        super().setUp()
        self.echo = Echo()
        self.addCleanup(self.echo.close)
        self.web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page)
        threading.Thread(target=self.web.serve_forever, daemon=True).start()
        self.addCleanup(self.web.server_close)
        self.addCleanup(self.web.shutdown)

    def test_run(self) -> None:
        """Clients and a server of frp's, moved here: port, names and visitor work as before."""
        public, vhost = free_port(), free_port()
        server = self.imported("frps.toml", FRPS.format(vhost=vhost, public=public))
        client = self.imported(
            "frpc.toml",
            FRPC.format(echo=self.echo.port, web=self.web.server_port, public=public),
        )
        daemon = self.start(
            "server",
            *TWISTD,
            "-n",
            "--pidfile=",
            "relaytun-server",
            f"--config={server}",
            # Other ports than frp's for the two that a test may choose.
            "--control=0",
            "--relay=0",
            "--host=127.0.0.1",
            f"--state-dir={self.folder / 'server'}",
        )
        daemon.wait_for(r"invite: relaytun://an-old-token@")
        provider = self.client("ann", client)
        eventually(lambda: _listens(public), lambda: daemon.output + provider.output)
        self.assert_echo(public)
        for host in ("app.example.test", "app.frp.test"):
            self.assertEqual(self.page(vhost, host, "dTpw"), (200, b"frp"))
        self.assertEqual(self.page(vhost, "app.frp.test", "bm86bm8=")[0], 401)
        self.assertEqual(self.page(vhost, "no.frp.test", "dTpw")[0], 404)
        visited = free_port()
        visitor = self.client("bob", self.imported("bob.toml", BOB.format(visited=visited)))
        visitor.wait_for("leads to ann/ann.secret")
        self.assert_echo(visited)

    def client(self, name: str, config: Path) -> Process:
        """A client that has the invite in place of server and token, as the import says."""
        process = self.start(
            name,
            *TWISTD,
            "-n",
            "--pidfile=",
            "relaytun-client",
            f"--config={config}",
            f"--invite={self.invite}",
            f"--state-dir={self.folder / name}",
        )
        process.wait_for(f"signed in as {name}")
        return process

    def assert_echo(self, port: int) -> None:
        with dialled(port) as connection:
            connection.sendall(b"hello")
            self.assertEqual(receive_exactly(connection, 5), b"hello")

    def imported(self, name: str, text: str) -> Path:
        """What a file of frp's becomes, checked by the command as well."""
        (self.folder / name).write_text(text)
        path = self.folder / f"{name}.ini"
        for arguments in (
            ["import-frp", str(self.folder / name), "--output", str(path)],
            ["check", "--config", str(path)],
        ):
            # Not in processes of their own, which take most of the time of such a test.
            result = CliRunner(env={"OLD_TOKEN": "an-old-token"}).invoke(relaytun, arguments)
            self.assertEqual(result.exit_code, 0, result.stderr)
        return path

    def page(self, port: int, host: str, password: str) -> tuple[int, bytes]:
        """GET a host name's page."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/",
            headers={"Host": host, "Authorization": f"Basic {password}"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


def _listens(port: int) -> bool:
    try:
        with dialled(port):
            return True
    except ConnectionRefusedError:
        return False


class _Page(http.server.BaseHTTPRequestHandler):
    """Answers with what the server was to add to the request."""

    def do_GET(self) -> None:
        body = (self.headers["X-From"] or "").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
