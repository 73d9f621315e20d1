"""Tests of L{relaytun.frp.server}."""

from __future__ import annotations

from tests.frp.support import FrpCase

FULL_INI = """\
[common]
bind_addr = 10.0.0.1
bind_port = 7100
token = s3cret
vhost_http_port = 80
vhost_https_port = 443
vhost_http_timeout = 90
subdomain_host = frp.example.com
allow_ports = 2000-3000,3001,4000-5000
max_ports_per_client = 4
dashboard_port = 7500
dashboard_pwd = admin
tls_cert_file = /etc/server.crt
tls_key_file = /etc/server.key
kcp_bind_port = 7100
[plugin.one]
addr = 127.0.0.1:9000
"""
FULL_TOML = """\
bindAddr = "10.0.0.1"
bindPort = 7100
auth.token = "s3cret"
vhostHTTPPort = 80
vhostHTTPSPort = 443
vhostHTTPTimeout = 90
subDomainHost = "frp.example.com"
allowPorts = [{ start = 2000, end = 3000 }, { single = 3001 }, { start = 4000, end = 5000 }]
maxPortsPerClient = 4
webServer.port = 7500
webServer.password = "admin"
transport.tls.certFile = "/etc/server.crt"
transport.tls.keyFile = "/etc/server.key"
kcpBindPort = 7100
[[httpPlugins]]
name = "one"
addr = "127.0.0.1:9000"
"""
SECTIONS = {
    "server": {
        "host": "10.0.0.1",
        "control_port": "7100",
        "relay_port": "7101",
        "token": "s3cret",
        "certificate": "/etc/server.crt",
        "key": "/etc/server.key",
        "max_ports_per_client": "4",
        "metrics_port": "tcp:7500:interface=127.0.0.1",
    },
    "public": {"allow_ports": "2000-3000, 3001, 4000-5000"},
    "http": {
        "vhost_http_port": "80",
        "vhost_https_port": "443",
        "subdomain_host": "frp.example.com",
        "response_timeout": "90s",
    },
}


class ServerTests(FrpCase):
    """frps files."""

    def test_both_generations(self) -> None:
        """The same server in INI and in TOML is the same server here."""
        for text, name, port in (
            (FULL_INI, "frps.ini", "bind_port"),
            (FULL_TOML, "frps.toml", "bindPort"),
        ):
            found = self.convert(text, name)
            self.assertEqual((found.role, found.sections), ("server", SECTIONS))
            self.assertEqual(len(found.noted(f"{port}: frp has one port", "open port 7101")), 1)
            self.assertEqual(len(found.noted("no KCP")), 1)
            self.assertEqual(len(found.noted("server plugins")), 1)
            self.assertEqual(found.noted("s3cret"), [])
            self.assertEqual(found.noted("unknown"), [])

    def test_defaults(self) -> None:
        """An empty file is frp's defaults: port 7000, every port allowed, and no token."""
        found = self.convert("", "frps.toml")
        self.assertEqual(
            found.sections,
            {
                "server": {"control_port": "7000", "relay_port": "7001"},
                "public": {"allow_ports": "1-65535"},
            },
        )
        self.assertEqual(len(found.noted("auth.token", "a token is made here")), 1)
        self.assertEqual(len(found.noted("allowPorts", "narrow it")), 1)

    def test_relay_port(self) -> None:
        """The second port is one that nothing else of the server has."""
        for text, relay in (
            ("bindPort = 79\nvhostHTTPPort = 80", "81"),
            ("bindPort = 79\nvhostHTTPPort = 80\nvhostHTTPSPort = 81\nwebServer.port = 82", "83"),
            ("bindPort = 65535", "65534"),
        ):
            found = self.convert(text, "frps.toml")
            self.assertEqual(found.sections["server"]["relay_port"], relay)

    def test_token_source(self) -> None:
        """A token in a file stays there; a program is not asked."""
        source = 'bindPort = 1\nauth.tokenSource.type = "{}"\n'
        found = self.convert(
            source.format("file") + 'auth.tokenSource.file.path = "/t"', "frps.toml"
        )
        self.assertEqual(found.sections["server"]["token_file"], "/t")
        found = self.convert(
            source.format("exec") + 'auth.tokenSource.exec.command = "/x"', "frps.toml"
        )
        self.assertEqual(len(found.noted("auth.tokenSource", "no program is asked")), 1)
        self.assertEqual(found.noted("unknown"), [])

    def test_heartbeat(self) -> None:
        """A timeout brings an interval that fits it; heartbeats are never off."""
        for timeout, written in (
            (90, {"heartbeat_timeout": "90s"}),
            (9, {"heartbeat_timeout": "9s", "heartbeat_interval": "3s"}),
            (-1, {}),
        ):
            found = self.convert(
                f"bindPort = 1\ntransport.heartbeatTimeout = {timeout}", "frps.toml"
            )
            server = found.sections["server"]
            self.assertEqual({k: v for k, v in server.items() if "heartbeat" in k}, written)
            self.assertEqual(bool(found.noted("heartbeatTimeout")), timeout < 0)

    def test_proxy_bind_addr(self) -> None:
        """Host names can listen elsewhere, public ports cannot."""
        found = self.convert('proxyBindAddr = "10.0.0.2"\nvhostHTTPPort = 80', "frps.toml")
        self.assertEqual(found.sections["http"]["vhost_http_port"], "tcp:80:interface=10.0.0.2")
        self.assertEqual(len(found.noted("proxyBindAddr", "public ports listen")), 1)
        same = self.convert('proxyBindAddr = "0.0.0.0"\nvhostHTTPPort = 80', "frps.toml")
        self.assertEqual(same.sections["http"]["vhost_http_port"], "80")
        self.assertEqual(same.noted("proxyBindAddr"), [])

    def test_certificate_alone(self) -> None:
        """A certificate without its key is left out, and said so."""
        found = self.convert('bindPort = 1\ntransport.tls.certFile = "/c"', "frps.toml")
        self.assertNotIn("certificate", found.sections["server"])
        self.assertEqual(len(found.noted("certFile", "left out")), 1)

    def test_no_counterpart(self) -> None:
        """Each key that has none is there with its reason; at its default it is not."""
        found = self.convert(
            'bindPort = 1\ntcpmuxHTTPConnectPort = 5\ncustom404Page = "/x"\n'
            'quicBindPort = 7\nsshTunnelGateway.bindPort = 2200\nauth.method = "oidc"\n'
            'auth.oidc.issuer = "x"\ntransport.tls.trustedCaFile = "/ca"\nuserConnTimeout = 5\n',
            "frps.toml",
        )
        for key in (
            "tcpmuxHTTPConnectPort",
            "custom404Page",
            "quicBindPort",
            "sshTunnelGateway",
            "auth.method",
            "trustedCaFile",
            "userConnTimeout",
        ):
            self.assertEqual(len(found.noted(key)), 1, key)
        silent = self.convert(
            'bindPort = 1\ntransport.tcpMux = true\nudpPacketSize = 1500\nlog.to = "console"\n'
            'log.level = "info"\ndetailedErrorsToClient = true\ntransport.maxPoolCount = 5\n'
            'auth.method = "token"\nauth.oidc.issuer = ""\nkcpBindPort = 0\n',
            "frps.toml",
        )
        self.assertEqual(
            [note.partition(":")[0] for note in silent.notes],
            ["bindPort", "auth.token", "allowPorts"],
        )

    def test_wrong(self) -> None:
        """What is wrong for frp too is an error."""
        told = self.refused("[common]\nbind_port = 1\nallow_ports = 5-1\n", "frps.ini")
        self.assertIn("frps.ini: allow_ports: a range ends before it starts", told)
        self.assertIn("bindPort: not a port", self.refused("bindPort = 70000", "frps.toml"))
        self.assertIn("bindPort: not a whole number", self.refused('bindPort = "x"', "frps.toml"))
