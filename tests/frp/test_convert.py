"""Tests of L{relaytun.frp.convert} and L{relaytun.frp.checked}: whole files, checked as ours."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hypothesis import given, settings, strategies as st

from relaytun.config import check_file, load_client, load_server
from relaytun.errors import UserError
from relaytun.frp import Imported, import_text
from tests.config.support import ConfigCase
from tests.frp import samples

_ODD = st.sampled_from(
    ["", "x", "a ;b", "#", "${HOME}", "a\nb", "*", "远程", "a.example", "*.a.example", "/", "0"]
)
_NUMBER = st.sampled_from([-1, 0, 1, 22, 80, 7000, 65535, 70000, "6000", "x"])
_VALUE = _ODD | _NUMBER | st.booleans() | st.text(max_size=5) | st.lists(_ODD, max_size=3)
_NAME = st.sampled_from(["ssh", "a ;b", "远程", "x" * 80, "${HOME}", "]\n[", "ann.ssh"])
_SWITCHES = ("useencryption", "usecompression", "enabled", "enable", "enableprometheus", "tcpmux")
_KINDS = {
    "type": ["tcp", "udp", "http", "https", "stcp", "sudp", "xtcp", "tcpmux"],
    "transport.proxyProtocolVersion": ["", "v1", "v2"],
    "transport.bandwidthLimit": ["1MB", "0.1KB", "0KB"],
    "healthCheck.type": ["", "tcp", "http"],
    "transport.protocol": ["tcp", "kcp", "quic", "websocket", "wss"],
    "allowPorts": ["", [{"start": 1, "end": 9}], [{"single": 7}], [{"start": 9, "end": 1}]],
    "requestHeaders.set": [{"a": "b"}, {"Host": "x"}, {"a b": "c"}, {"a": "x ; y"}],
    "responseHeaders.set": [{"a": "b"}, {"Upgrade": "x"}],
    "auth.tokenSource.type": ["file", "exec"],
    "metadatas": [{"a": "b"}],
    "serverAddr": ["frp.example.com", "::1", "0.0.0.0"],
    "healthCheck.path": ["/", "status", "/ ;x"],
    "auth.method": ["token", "oidc"],
}


def _value(key: str) -> st.SearchStrategy[object]:
    """Make values that a key may have, most of them good, so that not all files are refused."""
    fair = _fair(key)
    return st.integers(0, 200).flatmap(lambda pick: fair if pick else _VALUE)


def _fair(key: str) -> st.SearchStrategy[object]:
    if key in _KINDS:
        return st.sampled_from(_KINDS[key])
    if key.lower().endswith(("port", "client", "seconds", "failed", "timeout", "interval")):
        return st.sampled_from([-1, 0, 1, 22, 80, 7000, 65535, "6000"])
    if key.rpartition(".")[2].lower() in _SWITCHES:
        return st.booleans()
    if key in ("customDomains", "locations", "allowUsers", "start"):
        return st.lists(_ODD, max_size=3)
    return _ODD | st.text(max_size=5)


def _tables(keys: tuple[str, ...]) -> st.SearchStrategy[dict[str, object]]:
    """Make tables with any of the keys, which may be dotted."""
    flat = st.fixed_dictionaries({}, optional={key: _value(key) for key in keys})
    return flat.map(_nested)


def _nested(flat: dict[str, object]) -> dict[str, object]:
    tree: dict[str, object] = {}
    for path, value in flat.items():
        *tables, last = path.split(".")
        table = tree
        for name in tables:
            inner = table.setdefault(name, {})
            if not isinstance(inner, dict):
                inner = table[name] = {}
            table = inner
        table[last] = value
    return tree


def _with(tree: dict[str, object], **more: object) -> dict[str, object]:
    return {**more, **tree}


PROXIES = st.lists(
    st.builds(
        _with, _tables(samples.PROXY_KEYS), name=_NAME, type=_value("type"), localPort=st.just(80)
    ),
    max_size=3,
)
VISITORS = st.lists(
    st.builds(
        _with,
        _tables(samples.VISITOR_KEYS),
        name=_NAME,
        type=st.sampled_from(["stcp", "sudp", "xtcp"]),
        serverName=_NAME,
        bindPort=_value("bindPort"),
    ),
    max_size=3,
)
CLIENTS = st.builds(_with, _tables(samples.CLIENT_KEYS), proxies=PROXIES, visitors=VISITORS)


class ImportCase(ConfigCase):
    """Imports that are checked as files of ours."""

    def imported(self, text: str, name: str) -> Imported:
        """Import a text; whatever comes out is a file that checks."""
        found = import_text(name, text, {"TOKEN": "t0ken"}, lambda _: ())
        path = self.write("imported.ini", found.text)
        self.assertEqual(check_file(path), found.role)
        return found


class ConvertTests(ImportCase):
    """From text to text."""

    def test_client(self) -> None:
        """A whole client's file, in any form, is the client that its user expects."""
        for name, text in samples.CLIENTS.items():
            found = self.imported(text, name)
            config = load_client(self.write("c.ini", found.text), {})
            self.assertEqual((config.server.host, config.server.port), ("frp.example.com", 7000))
            self.assertEqual((config.server.token, config.client_id), ("t0ken", "ann"))
            services = {service.id: service for service in config.services}
            self.assertEqual(
                list(services), ["ann.ssh", "ann.web", "ann.secret", "ann.t_0", "ann.t_1"]
            )
            ssh, web = services["ann.ssh"].public, services["ann.web"].public
            assert ssh is not None and web is not None
            self.assertEqual((ssh.remote_port, web.custom_domains), (6000, ("app.example.com",)))
            self.assertEqual(services["ann.ssh"].bandwidth_up, 1024 * 1024)
            self.assertEqual(web.request_headers, (("X-From", "frp"),))
            self.assertEqual((web.http_user, web.http_password), ("u", "p"))
            self.assertIsNone(services["ann.secret"].public)
            (connect,) = config.connects
            self.assertEqual((connect.target, connect.service), (None, "ann.far"))
            self.assertNotIn("t0ken", "".join(found.notes))

    def test_server(self) -> None:
        """A whole server's file, in either generation, is the server that its user expects."""
        for name, text in samples.SERVERS.items():
            found = self.imported(text, name)
            config = load_server(self.write("s.ini", found.text), {})
            self.assertEqual((config.control, config.relay), ("7000", "7001"))
            self.assertEqual(config.token, "t0ken")
            self.assertEqual(config.allow_ports, ((6000, 6010), (7001, 7001)))
            self.assertEqual((config.vhost_http, config.vhost_https), ("80", "443"))
            self.assertEqual(config.subdomain_host, "frp.example.com")

    def test_notes_in_the_file(self) -> None:
        """What is told is at the top of the file too, as comments, whatever is in it."""
        found = self.imported('serverPort = 1\nuser = "a\\nb"\n"[x]\\ny" = 1\n', "frpc.toml")
        top = found.text.partition("\n[")[0]
        self.assertTrue(all(line.startswith(";") or not line for line in top.splitlines()))
        words = " ".join(top.replace("\n;", " ").split())
        for note in found.notes:
            self.assertIn(" ".join(note.split()), words)

    def test_roles(self) -> None:
        """A file is whose keys it has, and else whose name it has."""
        for name, text, role in (
            ("x.toml", "bindPort = 1", "server"),
            ("x.toml", "[[proxies]]\nname='a'\ntype='tcp'\nlocalPort=1", "client"),
            ("frps.toml", "", "server"),
            ("a/frpc.yml", "{}", "client"),
            ("x.ini", "[common]\nbind_port = 1", "server"),
            ("x.ini", "[common]\nserver_addr = a", "client"),
            ("x.ini", "[common]\ntoken = a\n[ssh]\nlocal_port = 1", "client"),
            ("frps.ini", "[common]\ntoken = a\n", "server"),
            ("frpc_of_mine.conf", "[common]\ntoken = a\n", "client"),
        ):
            self.assertEqual(self.imported(text, name).role, role)
        error = self.assertRaises(UserError, self.imported, "[common]\ntoken = a", "x.ini")
        self.assertIn("x.ini: a server's or a client's?", str(error))

    def test_files_elsewhere(self) -> None:
        """A certificate that is not on this machine is left out, and said how to put it back."""
        found = self.imported(
            'bindPort = 1\ntransport.tls.certFile = "/no/c"\ntransport.tls.keyFile = "/no/k"',
            "frps.toml",
        )
        self.assertIn("; certificate = /no/c\n; key = /no/k\n[server]", found.text)
        self.assertNotIn("\ncertificate", found.text)

    def test_password(self) -> None:
        """A service whose password cannot be written does not stay without one."""
        for password in ("a ;b", "", "x" * 300):
            found = self.imported(
                '[[proxies]]\nname="a"\ntype="http"\nlocalPort=1\nsubdomain="a"\nhttpUser="u"\n'
                f'httpPassword="{password}"',
                "frpc.toml",
            )
            self.assertNotIn("[service", found.text)
            self.assertIn("whole section is left out", " ".join(found.notes))

    def test_users(self) -> None:
        """Users that are no ids are let in by the ids that their own imports have."""
        found = self.imported(
            '[[proxies]]\nname="a"\ntype="stcp"\nlocalPort=1\nallowUsers=["远程", "b b"]', "f.toml"
        )
        other = self.imported('user = "远程"\nserverPort = 1', "f.toml")
        (config,) = (load_client(self.write("o.ini", other.text), {}),)
        assert config.client_id is not None
        self.assertIn(f"allow = {config.client_id}, b-b", found.text)

    @settings(deadline=None)
    @given(CLIENTS)
    def test_any_client(self, tree: dict[str, object]) -> None:
        """Any keys with any values are an error of the user's or a file that checks."""
        self.any_of(json.dumps(tree), "frpc.json")

    @settings(deadline=None)
    @given(_tables(samples.SERVER_KEYS))
    def test_any_server(self, tree: dict[str, object]) -> None:
        """Any keys with any values are an error of the user's or a file that checks."""
        self.any_of(json.dumps(tree), "frps.json")

    @settings(deadline=None)
    @given(
        st.lists(st.tuples(st.sampled_from(samples.INI_KEYS), _ODD | _NUMBER.map(str)), max_size=12)
    )
    def test_any_ini(self, lines: list[tuple[str, str]]) -> None:
        """Any lines of INI are an error of the user's or a file that checks."""
        text = "\n".join(key if key.startswith("[") else f"{key} = {value}" for key, value in lines)
        self.any_of(f"[common]\n{text}", "frpc.ini")

    def any_of(self, text: str, name: str) -> None:
        try:
            self.imported(text, name)
        except UserError as error:
            self.assertNotIn("Traceback", str(error))


class OwnFilesTests(ImportCase):
    """Files that whoever runs the tests has, such as frp's own samples."""

    def test_folder(self) -> None:
        """Each file of the folder that RELAYTUN_FRP_CONF names is imported and checks."""
        folder = _FOLDER
        if not folder:
            self.skipTest("RELAYTUN_FRP_CONF names no folder with files of frp's")
        files = [each for each in sorted(Path(folder).rglob("frp*")) if each.is_file()]
        self.assertTrue(files)
        for each in files:
            self.imported(each.read_text(), each.name)


_FOLDER = os.environ.get("RELAYTUN_FRP_CONF", "")
