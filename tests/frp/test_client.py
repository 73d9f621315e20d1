"""Tests of L{relaytun.frp.client}."""

from __future__ import annotations

from tests.frp.support import FrpCase


class ClientTests(FrpCase):
    """What a frpc file says of the client itself."""

    def client(self, text: str, name: str = "frpc.toml") -> dict[str, str]:
        return self.convert(text, name).sections["client"]

    def test_both_generations(self) -> None:
        """The same client in INI and in TOML is the same client here."""
        ini = (
            "[common]\nserver_addr = frp.example.com\nserver_port = 7100\ntoken = t\nuser = ann\n"
            "protocol = websocket\nhttp_proxy = http://p:3128\nheartbeat_interval = 20\n"
        )
        toml = (
            'serverAddr = "frp.example.com"\nserverPort = 7100\nauth.token = "t"\nuser = "ann"\n'
            'transport.protocol = "websocket"\ntransport.proxyURL = "http://p:3128"\n'
            "transport.heartbeatInterval = 20\n"
        )
        for text, name in ((ini, "frpc.ini"), (toml, "frpc.toml")):
            self.assertEqual(
                self.client(text, name),
                {
                    "server": "wss://frp.example.com:7100",
                    "token": "t",
                    "client_id": "ann",
                    "transport": "ws",
                    "proxy": "http://p:3128",
                    "heartbeat_interval": "20s",
                },
            )

    def test_server(self) -> None:
        """The address is a URL with TLS, and the user is told where the fingerprint comes from."""
        for text, url in (
            ('serverAddr = "::1"', "wss://[::1]:7000"),
            ('serverAddr = "[2001:db8::1]"', "wss://[2001:db8::1]:7000"),
            ("serverPort = 1", "wss://127.0.0.1:1"),
        ):
            found = self.convert(text)
            self.assertEqual(found.sections["client"]["server"], url)
            self.assertEqual(len(found.noted("serverAddr", "invite")), 1)
        self.assertIn("serverAddr: not a host", self.refused('serverAddr = "a b"'))
        self.assertIn("serverAddr: not a port", self.refused("serverPort = 70000"))

    def test_identity(self) -> None:
        """The client id is frp's own, else the user; a bad one is made good, and said so."""
        self.assertEqual(
            self.client('serverPort = 1\nuser = "a"\nclientID = "b"')["client_id"], "b"
        )
        found = self.convert('serverPort = 1\nuser = "ann b"')
        self.assertEqual(found.sections["client"]["client_id"], "ann-b")
        self.assertEqual(len(found.noted("user", "is no id here")), 1)
        found = self.convert("serverPort = 1")
        self.assertNotIn("client_id", found.sections["client"])
        self.assertEqual(len(found.noted("write a client_id")), 1)

    def test_transport(self) -> None:
        """What cannot be carried as frp did is said; what frp does not know is an error."""
        for text, word in (
            ('transport.protocol = "kcp"', "KCP"),
            ('transport.protocol = "quic"', "QUIC"),
            ('transport.protocol = "wss"', "/~!frp"),
            ('transport.proxyURL = "socks5://p:1"', "only an HTTP proxy"),
            ("transport.heartbeatInterval = -1", "never off"),
            ("transport.tls.enable = false", "always has TLS"),
            ('transport.tls.certFile = "/c"', "identity"),
            ("transport.poolCount = 5", "spare legs"),
            ("transport.dialServerTimeout = 20", "nothing to set"),
            ('dnsServer = "1.1.1.1"', "looked up"),
            ('virtualNet.address = "100.86.0.1/24"', "virtual network"),
        ):
            found = self.convert(f"serverPort = 1\n{text}")
            self.assertEqual(len(found.noted(word)), 1, found.notes)
        self.assertIn(
            "protocol: frp has tcp, kcp", self.refused('transport.protocol = "x"\nuser="a"')
        )

    def test_start(self) -> None:
        """What frp would not start is left out: by start, and by enabled."""
        found = self.convert(
            'start = ["a", "c"]\n'
            + "".join(f'[[proxies]]\nname = "{n}"\ntype = "tcp"\nlocalPort = 1\n' for n in "ab")
            + '[[visitors]]\nname = "c"\ntype = "stcp"\nserverName = "x"\nbindPort = 5\n'
            + "enabled = false\n"
        )
        self.assertEqual(list(found.sections), ["client", "service:a"])
        self.assertEqual(len(found.noted("b: left out: start does not name it")), 1)
        self.assertEqual(len(found.noted("c: left out: it is not enabled")), 1)

    def test_includes(self) -> None:
        """Included files bring their proxies and visitors and nothing else."""
        extra = '[[proxies]]\nname = "b"\ntype = "tcp"\nlocalPort = {{ .Envs.PORT }}\n'
        found = self.convert(
            'includes = ["./confd/*.toml"]\nuser = "u"\n',
            environment={"PORT": "22"},
            included={"./confd/*.toml": [("x.toml", extra), ("y.toml", 'serverAddr = "z"')]},
        )
        self.assertEqual(list(found.sections), ["client", "service:u.b"])
        self.assertEqual(len(found.noted("PORT", "${PORT}")), 1)
        ini = self.convert(
            "[common]\nincludes = a.ini, b.ini\nserver_addr = x\n",
            "frpc.ini",
            included={"a.ini": [("a.ini", "[r]\nlocal_port = 1\n")], "b.ini": []},
        )
        self.assertEqual(list(ini.sections), ["client", "service:r"])

    def test_included_twice(self) -> None:
        """An INI file that includes itself, or a section of its own, has each section once."""
        text = "[common]\nincludes = ./*.ini\nserver_addr = x\n[ssh]\nlocal_port = 1\n"
        more = "[common]\nserver_addr = z\n[ssh]\nlocal_port = 2\nremote_port = 3\n"
        found = self.convert(
            text, "frpc.ini", included={"./*.ini": [("frpc.ini", text), ("b.ini", more)]}
        )
        self.assertEqual(list(found.sections), ["client", "service:ssh"])
        self.assertEqual(found.sections["service:ssh"]["local_port"], "2")
        self.assertEqual(found.sections["client"]["server"], "wss://x:7000")

    def test_names(self) -> None:
        """A name that is no id is another one, and two of one name are two services."""
        proxy = '[[proxies]]\nname = "my web"\ntype = "tcp"\nlocalPort = 1\n'
        found = self.convert(f'user = "ann"\n{proxy}{proxy}')
        self.assertEqual(
            list(found.sections), ["client", "service:ann.my-web", "service:ann.my-web-2"]
        )
        self.assertEqual(len(found.noted("my web: name: is no id here: it is ann.my-web now")), 1)
        self.assertEqual(len(found.noted("another service has this id: it is ann.my-web-2")), 1)

    def test_many(self) -> None:
        """More services than a client may offer are said so."""
        found = self.convert(
            "[common]\nserver_addr = x\n[range:t]\nlocal_port = 1-300\nremote_port = 1-300\n",
            "frpc.ini",
        )
        self.assertEqual(len(found.sections), 301)
        self.assertEqual(len(found.noted("at most 256 services")), 1)

    def test_nameless(self) -> None:
        """A proxy without a name is an error, for frp as well."""
        self.assertIn("proxies: one of them has no name", self.refused("[[proxies]]\ntype = 'tcp'"))
