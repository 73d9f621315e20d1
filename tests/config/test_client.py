"""Tests of L{relaytun.config.client}."""

from __future__ import annotations

import json
from pathlib import Path

from relaytun.config import (
    AllowedVisitor,
    ClientConfig,
    ConnectConfig,
    ServiceConfig,
    load_client,
    parse_invite,
)
from relaytun.config.services import DEFAULT_MODE
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
            servers=(parse_invite(INVITE),),
            client_id="client-a",
            state_dir=Path("/home/ann/.local/state/relaytun"),
            services=(
                ServiceConfig(
                    id="web-server",
                    protocol="http",
                    local_port=8080,
                    description="my web page",
                    allow=(AllowedVisitor("client-b"), AllowedVisitor("client-c")),
                    mode="raw",
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
        self.assertEqual(config, ClientConfig(servers=(parse_invite(INVITE),), state_dir=state))
        self.environment({"XDG_STATE_HOME": "/xdg"})
        self.assertEqual(load_client(None, {"invite": INVITE}).state_dir, Path("/xdg/relaytun"))

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

    def test_bad_values(self) -> None:
        """Each value of the client's section has its rule."""
        for body, saying in {
            "client_id = a b": "client_id: not an id",
            "state_dir = ~no-such-user-here": "state_dir: there is no such home folder",
            "auto_reconnect = maybe": "auto_reconnect: not a yes or no",
            "reconnect_interval = 0": "reconnect_interval: must be more than 0",
            "heartbeat_interval = x": "heartbeat_interval: not a time",
            "resume_timeout = 0": "resume_timeout: must be more than 0",
            "transport = udp": "transport: not a choice: use transport = auto, tcp or ws",
            "direct = yes": "direct: not a choice: use direct = auto, lan or off",
            "hard_nat = yes": "hard_nat: not a choice: use hard_nat = no, predict or birthday",
        }.items():
            self.assertIn(saying, self.one_problem(f"{HEAD}{body}\n"))

    def test_direct(self) -> None:
        """Which direct paths are looked for, and what is done to hard routers, may be told."""
        config = self.client(HEAD)
        self.assertEqual((config.direct, config.hard_nat), ("auto", "predict"))
        config = self.client(HEAD + "direct = lan\nhard_nat = birthday\n")
        self.assertEqual((config.direct, config.hard_nat), ("lan", "birthday"))
        same = f'{{"invite": "{INVITE}", "direct": "lan", "hardNat": "birthday"}}'
        self.assertEqual(self.client(same), config)

    def test_ways_out(self) -> None:
        """How the client gets to its server may be told, and a proxy's password is not shown."""
        body = "transport = ws\nws_path = /t\nproxy = http://u:pass@p:3128\n"
        config = self.client(HEAD + body + "drain_timeout = 1500ms\nlog_format = json\n")
        self.assertEqual((config.transport, config.ws_path), ("ws", "/t"))
        self.assertEqual((config.proxy, config.log_format), ("http://u:pass@p:3128", "json"))
        self.assertEqual(config.drain_timeout, 1.5)
        self.assertNotIn("pass", repr(config))
        again = self.client(
            f'{{"invite": "{INVITE}", "transport": "ws", "wsPath": "/t", "drainTimeout": 1500,'
            '"proxy": "http://u:pass@p:3128", "logFormat": "json"}'
        )
        self.assertEqual(again, config)
        for text in (
            "p:3128",
            "https://p:1",
            "http://p",
            "http://p:1/x",
            "socks5://p:1",
            "http://",
        ):
            line = self.one_problem(f"{HEAD}proxy = {text}\n")
            self.assertIn("[client] proxy: not a proxy: write http://HOST:PORT", line)

    def test_any_target(self) -> None:
        """Without a target, any client that offers the service will do."""
        (any_client, named) = self.client(HEAD + connect("a", target="") + connect("b")).connects
        self.assertEqual((any_client.target, any_client.provider), (None, "any client"))
        self.assertEqual((named.target, named.provider), ("a", "a"))

    def test_bad_service(self) -> None:
        """Each value of a service has its rule."""
        for text, saying in {
            HEAD + "[service]\nprotocol = tcp\nlocal_port = 1\n": "[service]: missing: give the",
            HEAD + "[service:a b]\nprotocol = tcp\nlocal_port = 1\n": "[service:a b]: not an id",
            service(protocol=""): "[service:web] protocol: missing: write tcp, udp, http",
            service(local_port=""): "[service:web] local_port: missing: write the port",
            service(local_port="0"): "local_port: not a port",
            service(local_host="a:80"): "local_host: not a host: write it without a port",
            service(description="x" * 257): "description: not a description",
            service(mode="cooked"): "mode: not a choice: use mode = link or raw",
            service(compression="gzip"): "compression: not a choice: use compression = zstd or off",
            service(allow="a b"): "allow: not an id",
            service(allow="a@"): "allow: not a fingerprint: write sha256: and 64 hex digits",
            service(allow="a@b"): "allow: not a fingerprint",
            service(allow=f"@{PRINT}"): "allow: not an id",
            service(allow=f"a, a@{PRINT}", mode="link"): "allow: one client is there twice",
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
        self.assertEqual(config.services[0].allow, (AllowedVisitor("a"), AllowedVisitor("b")))

    def test_allow(self) -> None:
        """A visitor may be named with the identity that it has to have."""
        config = self.client(service(mode="link", allow=f"a@{PRINT.upper()}, b, b"))
        (offered,) = config.services
        self.assertEqual(offered.allow, (AllowedVisitor("a", PRINT), AllowedVisitor("b")))
        self.assertEqual(offered.admit("a"), AllowedVisitor("a", PRINT))
        self.assertEqual(offered.admit("b"), AllowedVisitor("b", None))
        self.assertIsNone(offered.admit("c"))
        (everybody,) = self.client(service()).services
        self.assertEqual(everybody.admit("c"), AllowedVisitor("c", None))

    def test_modes(self) -> None:
        """A service is in the mode that it names; udp always travels over links."""
        for keys, expected in (
            ({}, DEFAULT_MODE),
            ({"mode": "raw"}, "raw"),
            ({"mode": "link"}, "link"),
            ({"protocol": "udp"}, "link"),
            ({"protocol": "udp", "mode": "link"}, "link"),
        ):
            self.assertEqual(self.client(service(**keys)).services[0].mode, expected)
        line = self.one_problem(service(protocol="udp", mode="raw"))
        self.assertIn("[service:web] mode: udp travels over links only: write mode = link", line)

    def test_compression(self) -> None:
        """Links may be compressed, if somebody asks for it; nothing else is."""
        for keys, expected in (
            ({}, None),
            ({"compression": "off", "mode": "raw"}, None),
            ({"compression": "zstd", "mode": "link"}, "zstd"),
        ):
            self.assertEqual(self.client(service(**keys)).services[0].compression, expected)
        line = self.one_problem(service(compression="zstd", mode="raw"))
        self.assertIn("compression: only links are compressed: write mode = link, or", line)
        line = self.one_problem(service(compression="zstd", protocol="udp"))
        self.assertIn("compression: datagrams are not compressed: remove this key", line)

    def test_pin(self) -> None:
        """A pinned target has to be at the end of a link, where it proves itself."""
        config = self.client(HEAD + connect("a", peer_fingerprint=PRINT) + connect("b"))
        pinned, free = config.connects
        self.assertEqual((pinned.peer_fingerprint, pinned.mode), (PRINT, "link"))
        self.assertEqual((free.peer_fingerprint, free.mode), (None, "auto"))
        for mode in ("auto", "link", "raw"):
            (given,) = self.client(HEAD + connect(mode=mode)).connects
            self.assertEqual(given.mode, mode)

    def test_pin_without_link(self) -> None:
        """A fingerprint that nobody would prove is refused, on either side."""
        saying = "proven over a link only: write mode = link, or remove"
        for text in (
            service(mode="raw", allow=f"a@{PRINT}"),
            HEAD + connect(mode="raw", peer_fingerprint=PRINT),
        ):
            self.assertIn(saying, self.one_problem(text))

    def test_link_in_json(self) -> None:
        """The keys about links mean the same in JSON."""
        offered = {"id": "web", "protocol": "tcp", "localPort": 80}
        offered |= {"mode": "link", "compression": "zstd", "allow": [f"b@{PRINT}", "c"]}
        visited = {"name": "db", "target": "a", "service": "b", "localPort": 0}
        document = {
            "servers": [INVITE, "wss://b"],
            "resumeTimeout": 1500,
            "services": [offered],
            "connect": [visited | {"peerFingerprint": PRINT}],
        }
        written = (
            f"[client]\nservers = {INVITE}, wss://b\nresume_timeout = 1500ms\n"
            "[service:web]\nprotocol = tcp\nlocal_port = 80\nmode = link\n"
            f"compression = zstd\nallow = b@{PRINT}, c\n"
            + connect(service="b", peer_fingerprint=PRINT)
        )
        config = self.client(json.dumps(document))
        self.assertEqual(config, self.client(written))
        self.assertEqual(config.resume_timeout, 1.5)
        line = self.one_problem(json.dumps(document | {"resumeTimeout": "90"}))
        self.assertIn("resumeTimeout: must be a number of milliseconds", line)

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
            connect(peer_fingerprint="sha256:00"): "peer_fingerprint: not a fingerprint",
            connect(mode="udp"): "mode: not a choice: use mode = auto, link or raw",
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
        text = "[client]\nfoo = 1\n[service:web]\nmode = cooked\n[conect:x]\n"
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
