"""Tests of L{relaytun.config.client}."""

from __future__ import annotations

import json
from pathlib import Path

from relaytun.config import (
    ClientConfig,
    ConnectConfig,
    ServerAddress,
    ServiceConfig,
    load_client,
    parse_invite,
)
from tests.config.support import INVITE, PRINT, ConfigCase

SAMPLE = f"""\
; client.ini
[client]
invite = {INVITE}
; or, instead of the invite: server = wss://relay.example.com:9000, token =, fingerprint =
client_id = client-a
state_dir = ~/.local/state/relaytun
auto_reconnect = yes
reconnect_interval = 1s
heartbeat_interval = 15s
; auto | tcp | ws
transport = auto

[service:web-server]
protocol = http
local_host = localhost
local_port = 8080
description = my web page
; who may visit; default: anyone the server lets in
allow = client-b, client-c
mode = raw

[connect:web]
target = client-a
service = web-server
local_host = 127.0.0.1
local_port = 3000
"""
SAME_IN_JSON = json.dumps(
    {
        "invite": INVITE,
        "clientId": "client-a",
        "stateDir": "~/.local/state/relaytun",
        "autoReconnect": True,
        "reconnectInterval": 1000,
        "heartbeatInterval": "15s",
        "transport": "auto",
        "services": [
            {
                "id": "web-server",
                "protocol": "http",
                "localPort": 8080,
                "description": "my web page",
                "allow": ["client-b", "client-c"],
                "mode": "raw",
            }
        ],
        "connect": [
            {
                "name": "web",
                "target": "client-a",
                "service": "web-server",
                "localHost": "127.0.0.1",
                "localPort": 3000,
            }
        ],
    }
)
HEAD = f"[client]\ninvite = {INVITE}\n"


def service(**keys: str) -> str:
    """Write a client.ini with one good service, but for some keys."""
    body = {"protocol": "tcp", "local_port": "80", **keys}
    return HEAD + "[service:web]\n" + "".join(f"{key} = {body[key]}\n" for key in body)


def connect(name: str = "db", **keys: str) -> str:
    """Write a section with one good connect, but for some keys."""
    body = {"target": "a", "service": "db", "local_port": "0", **keys}
    return f"[connect:{name}]\n" + "".join(f"{key} = {body[key]}\n" for key in body)


class ClientTests(ConfigCase):
    """What a client's configuration means."""

    def one_problem(self, text: str, **overrides: str | bool) -> str:
        (line,) = self.client_problems(text, **overrides)
        return line

    def test_sample(self) -> None:
        """The sample of the documentation means the same in both forms."""
        expected = ClientConfig(
            server=parse_invite(INVITE),
            client_id="client-a",
            state_dir=Path("/home/ann/.local/state/relaytun"),
            services=(
                ServiceConfig(
                    id="web-server",
                    protocol="http",
                    local_port=8080,
                    description="my web page",
                    allow=("client-b", "client-c"),
                ),
            ),
            connects=(
                ConnectConfig(name="web", target="client-a", service="web-server", local_port=3000),
            ),
        )
        self.assertEqual(self.client(SAMPLE), expected)
        self.assertEqual(self.client(SAME_IN_JSON), expected)
        self.assertNotIn("s3cret", repr(expected))

    def test_only_an_invite(self) -> None:
        """A client needs nothing but the invite."""
        config = load_client(None, {"invite": INVITE})
        state = Path("/home/ann/.local/state/relaytun")
        self.assertEqual(config, ClientConfig(server=parse_invite(INVITE), state_dir=state))
        self.environment({"XDG_STATE_HOME": "/xdg"})
        self.assertEqual(load_client(None, {"invite": INVITE}).state_dir, Path("/xdg/relaytun"))

    def test_invite_file(self) -> None:
        """An invite may be in a file of its own."""
        path = self.write("invite", f"{INVITE}\n")
        self.assertEqual(
            self.client(f"[client]\ninvite_file = {path}\n").server, parse_invite(INVITE)
        )
        path = self.write("invite", "s3cret\n")
        line = self.one_problem(f"[client]\ninvite_file = {path}\n")
        self.assertIn("[client] invite_file: not an invite", line)

    def test_server_url(self) -> None:
        """A server may be named by URL, with token and fingerprint or without."""
        config = self.client(
            f"[client]\nserver = wss://a:1\ntoken = t0ken\nfingerprint = {PRINT.upper()}\n"
        )
        expected = ServerAddress(host="a", port=1, token="t0ken", fingerprint=PRINT)
        self.assertEqual(config.server, expected)
        path = self.write("token", "t0ken\n")
        config = self.client(f'{{"serverUrl": "ws://[::1]", "tokenFile": "{path}"}}')
        expected = ServerAddress(host="::1", port=9000, secure=False, token="t0ken")
        self.assertEqual(config.server, expected)

    def test_no_server(self) -> None:
        """Without a server the error says where the invite is found."""
        saying = "missing: copy the line from <state-dir>/invite on the server"
        for text in ("", "[client]\n", "[client]\ninvite =\n"):
            self.assertEqual(self.one_problem(text), f"client.ini: [client] invite: {saying}")
        self.assertEqual(self.one_problem("{}"), f"client.json: invite: {saying}")
        self.assertEqual(self.problems(lambda: load_client(None, {})), [f"--invite: {saying}"])
        self.assertEqual(self.one_problem(SAMPLE, invite=""), f"--invite: {saying}")

    def test_two_servers(self) -> None:
        """The server is named in one way."""
        line = self.one_problem(HEAD + "server = wss://a\n")
        self.assertEqual(
            line, "client.ini: [client] server: invite is given as well: remove one of the two"
        )
        line = self.one_problem(HEAD + "invite_file = \n" + f"fingerprint = {PRINT}\n")
        self.assertIn("fingerprint: the invite has its own", line)
        line = self.one_problem(HEAD + "token = s3cret\n")
        self.assertIn("token: the invite has its own", line)

    def test_override_invite(self) -> None:
        """An invite on the command line replaces all that the file says of the server."""
        text = "[client]\nserver = ?\nservers = a\ntoken = ${NOT_SET}\nfingerprint = x\n"
        config = self.client(text, invite=INVITE, client_id="b", state_dir="s")
        self.assertEqual(config.server, parse_invite(INVITE))
        self.assertEqual((config.client_id, config.state_dir), ("b", Path("s")))

    def test_override_problems(self) -> None:
        """A problem with an option is told with the option, and a bad invite is not repeated."""
        lines = self.client_problems("", invite="relaytun://s3cret@a", client_id="-")
        self.assertEqual([line.split(":")[0] for line in lines], ["--invite", "--client-id"])

    def test_bad_server(self) -> None:
        """A bad URL, token or fingerprint is told where it stands."""
        for body, saying in {
            "server = wss://a/s3cret": "server: not a server: remove what comes after",
            "server = wss://a\ntoken = s3cret two": "token: not a token",
            "server = wss://a\ntoken =": "token: token is empty: remove the key if the server",
            "server = wss://a\nfingerprint = s3cret": "fingerprint: not a fingerprint",
            f"server = ws://a\nfingerprint = {PRINT}": "fingerprint: needs TLS",
        }.items():
            self.assertIn(saying, self.one_problem(f"[client]\n{body}\n"))

    def test_bad_values(self) -> None:
        """Each value of the client's section has its rule."""
        for body, saying in {
            "client_id = a b": "client_id: not an id",
            "state_dir = ~no-such-user-here": "state_dir: there is no such home folder",
            "auto_reconnect = maybe": "auto_reconnect: not a yes or no",
            "reconnect_interval = 0": "reconnect_interval: must be more than 0",
            "heartbeat_interval = x": "heartbeat_interval: not a time",
            "transport = udp": "transport: not a choice: use transport = auto or tcp",
        }.items():
            self.assertIn(saying, self.one_problem(f"{HEAD}{body}\n"))

    def test_later(self) -> None:
        """What this version cannot do is refused with what to do instead."""
        later = "is not yet available in this version;"
        for text, saying in {
            HEAD + "transport = ws\n": f"[client] transport: ws {later} use transport = auto or",
            HEAD + "servers = a\n": f"[client] servers: this key {later} remove it",
            service(mode="link"): f"client.ini: [service:web] mode: link {later} use mode = raw",
            service(protocol="udp"): f"protocol: udp {later} use protocol = tcp, http or ws",
            service(remote_port="6000"): f"remote_port: this key {later} remove it",
            service(custom_domains="a.example"): f"custom_domains: this key {later}",
            service(subdomain="a"): f"subdomain: this key {later}",
            service(allow=f"b@{PRINT}"): f"allow: a fingerprint after an id {later}",
            HEAD + connect(peer_fingerprint=PRINT): f"peer_fingerprint: this key {later}",
            HEAD + connect(target=""): f"[connect:db] target: missing: leaving it out {later}",
        }.items():
            self.assertIn(saying, self.one_problem(text))

    def test_bad_service(self) -> None:
        """Each value of a service has its rule."""
        for text, saying in {
            HEAD + "[service]\nprotocol = tcp\nlocal_port = 1\n": "[service]: missing: give the",
            HEAD + "[service:a b]\nprotocol = tcp\nlocal_port = 1\n": "[service:a b]: not an id",
            service(protocol=""): "[service:web] protocol: missing: write tcp, http or ws",
            service(local_port=""): "[service:web] local_port: missing: write the port",
            service(local_port="0"): "local_port: not a port",
            service(local_host="a:80"): "local_host: not a host: write it without a port",
            service(description="x" * 257): "description: not a description",
            service(mode="cooked"): "mode: not a choice: use mode = raw",
            service(allow="a b"): "allow: not an id",
        }.items():
            self.assertIn(saying, self.one_problem(text))

    def test_empty_allow(self) -> None:
        """A list of visitors that came out empty does not let everyone in."""
        self.assertIn("[service:web] allow: empty: name", self.one_problem(service(allow="")))
        self.assertIn("[service:web] allow: empty: name", self.one_problem(service(allow=",")))
        text = '{"invite": "%s", "services": [{"id": "a", "protocol": "tcp", "localPort": 1, %s}]}'
        line = self.one_problem(text % (INVITE, '"allow": []'))
        self.assertIn("client.json: services[0].allow: empty: name", line)

    def test_allow_over_lines(self) -> None:
        """A long list of visitors may go on to indented lines."""
        config = self.client(service(allow="a,\n  b"))
        self.assertEqual(config.services[0].allow, ("a", "b"))

    def test_swallowed_key(self) -> None:
        """A key that starts with a blank is not lost in the value before it."""
        line = self.one_problem(service(description="x\n  allow = b"))
        self.assertIn("description: goes over several lines", line)

    def test_bad_connect(self) -> None:
        """Each value of a connect has its rule."""
        for text, saying in {
            connect(name="a b"): "[connect:a b]: not an id",
            connect(target="a b"): "target: not an id",
            connect(service=""): "service: missing: write the id of the service",
            connect(local_port=""): "local_port: missing: write the port to open here",
            connect(local_port="65536"): "local_port: not a port",
            connect(local_host="a b"): "local_host: not a host",
        }.items():
            self.assertIn(saying, self.one_problem(HEAD + text))

    def test_shared_port(self) -> None:
        """Two connects do not listen on one address, unless the kernel picks their ports."""
        line = self.one_problem(HEAD + connect("a", local_port="1") + connect("b", local_port="1"))
        self.assertEqual(
            line,
            "client.ini: [connect:b] local_port: "
            "another connect listens there: take another port, or 0",
        )
        config = self.client(HEAD + connect("a") + connect("b"))
        self.assertEqual([each.local_port for each in config.connects], [0, 0])
        one, two = connect("a", local_port="1"), connect("b", local_port="1", local_host="::1")
        self.assertEqual(len(self.client(HEAD + one + two).connects), 2)

    def test_twins(self) -> None:
        """Services have different ids and connects different names, also in JSON."""
        one_service = {"id": "web", "protocol": "tcp", "localPort": 80}
        one_connect = {"name": "db", "target": "a", "service": "b", "localPort": 0}
        nameless = {"protocol": "tcp", "localPort": 80}
        document = {
            "invite": INVITE,
            "services": [one_service, one_service, nameless],
            "connect": [one_connect, one_connect],
        }
        self.assertEqual(
            sorted(self.client_problems(json.dumps(document))),
            [
                "client.json: connect[1].name: another connect has the same name: change one",
                "client.json: services[1].id: another service has the same id: change one",
                "client.json: services[2].id: missing: give the service an id",
            ],
        )

    def test_all_problems(self) -> None:
        """All that is wrong is told at once."""
        text = "[client]\nfoo = 1\n[service:web]\nmode = link\n[conect:x]\n"
        self.assertEqual(len(self.client_problems(text)), 6)

    def test_json_places(self) -> None:
        """A problem in JSON is told with the key as JSON spells it."""
        line = self.one_problem(f'{{"invite": "{INVITE}", "heartbeatInterval": 0}}')
        self.assertIn("client.json: heartbeatInterval: must be more than 0", line)
        line = self.one_problem('{"serverUrl": "s3cret"}')
        self.assertIn("client.json: serverUrl: not a server", line)

    def test_server_file(self) -> None:
        """A server's file is told in one line."""
        self.assertEqual(
            self.one_problem("[server]\nfoo = 1\n[client]\n"),
            "client.ini: this is a server file: give it to relaytun-server",
        )
