"""Tests of L{relaytun.frp.proxies}."""

from __future__ import annotations

from relaytun.frp import reasons
from tests.frp.support import FrpCase

LOCAL = {"local_host": "127.0.0.1", "local_port": "80"}


class ProxyTests(FrpCase):
    """One proxy, one service."""

    def test_ports(self) -> None:
        """tcp and udp have a public port, 0 for one that the server picks."""
        for kind in ("tcp", "udp"):
            section, _ = self.service(f'type = "{kind}"\nremotePort = 6000\nlocalIP = "10.0.0.5"')
            self.assertEqual(
                section,
                {**LOCAL, "local_host": "10.0.0.5", "protocol": kind, "remote_port": "6000"},
            )
        section, _ = self.service('type = "tcp"')
        self.assertEqual(section["remote_port"], "0")

    def test_http(self) -> None:
        """http has its names, paths, password and headers."""
        section, found = self.service(
            'type = "http"\ncustomDomains = ["a.example", "*.b.example"]\nsubdomain = "web"\n'
            'locations = ["/", "/pic"]\nhttpUser = "u"\nhttpPassword = "p"\n'
            'hostHeaderRewrite = "c.example"\nrequestHeaders.set.x-from = "frp"\n'
            'requestHeaders.set.X-Two = "2"\nresponseHeaders.set.foo = "bar"\n'
        )
        self.assertEqual(
            section,
            {
                **LOCAL,
                "protocol": "http",
                "custom_domains": "a.example, *.b.example",
                "subdomain": "web",
                "locations": "/, /pic",
                "http_user": "u",
                "http_password": "p",
                "host_header_rewrite": "c.example",
                "request_headers": "x-from: frp\nX-Two: 2",
                "response_headers": "foo: bar",
            },
        )
        self.assertEqual(found.noted("web:"), [])

    def test_https(self) -> None:
        """https passes TLS through: a tcp service with host names."""
        section, _ = self.service('type = "https"\ncustomDomains = ["a.example"]')
        self.assertEqual(section, {**LOCAL, "protocol": "tcp", "custom_domains": "a.example"})

    def test_no_name(self) -> None:
        """http without a name is not public, and says so."""
        _, found = self.service('type = "http"')
        self.assertEqual(len(found.noted("customDomains", "no host name")), 1)

    def test_secret(self) -> None:
        """stcp, sudp and xtcp have no public name; users are let in by id, the secret is gone."""
        for kind, protocol in (("stcp", "tcp"), ("sudp", "udp"), ("xtcp", "tcp")):
            section, found = self.service(
                f'type = "{kind}"\nsecretKey = "s3cret"\nallowUsers = ["ann", "bob b"]'
            )
            self.assertEqual(section, {**LOCAL, "protocol": protocol, "allow": "ann, bob-b"})
            self.assertEqual(len(found.noted("secretKey", "write allow")), 1)
            self.assertEqual(found.noted("s3cret"), [])
        self.assertEqual(len(found.noted("directly from client to client")), 1)

    def test_secret_for_all(self) -> None:
        """Where anyone may visit now, that is said: after C{*}, and after a mere secret."""
        for users, word in (('["*"]', "everyone"), ("[]", "of the same user who have the secret")):
            section, found = self.service(f'type = "stcp"\nallowUsers = {users}')
            self.assertNotIn("allow", section)
            self.assertEqual(len(found.noted("allowUsers", word, "write allow")), 1)

    def test_transport(self) -> None:
        """Compression, bandwidth and PROXY protocol have counterparts; encryption needs none."""
        section, found = self.service(
            'type = "tcp"\ntransport.useEncryption = true\ntransport.useCompression = true\n'
            'transport.bandwidthLimit = "1.5MB"\ntransport.bandwidthLimitMode = "server"\n'
            'transport.proxyProtocolVersion = "v2"\nloadBalancer.group = "g"\n'
            'loadBalancer.groupKey = "k"\n'
        )
        self.assertEqual(
            section,
            {
                **LOCAL,
                "protocol": "tcp",
                "remote_port": "0",
                "compression": "zstd",
                "bandwidth": "1536KB",
                "proxy_protocol": "v2",
                "group": "g",
                "group_key": "k",
            },
        )
        self.assertEqual(len(found.noted("useEncryption", "from end to end")), 1)
        self.assertEqual(len(found.noted("bandwidthLimit", "up and down together")), 1)
        section, found = self.service('type = "udp"\ntransport.useCompression = true')
        self.assertNotIn("compression", section)
        self.assertEqual(len(found.noted("datagrams are not compressed")), 1)

    def test_udp(self) -> None:
        """udp has no group, no PROXY protocol and no health check; each is said."""
        section, found = self.service(
            'type = "udp"\nloadBalancer.group = "g"\ntransport.proxyProtocolVersion = "v2"\n'
            'healthCheck.type = "tcp"\nhealthCheck.maxFailed = 3\n'
        )
        self.assertEqual(section, {**LOCAL, "protocol": "udp", "remote_port": "0"})
        for key in ("group", "proxyProtocolVersion", "healthCheck.type", "healthCheck.maxFailed"):
            self.assertEqual(len(found.noted(key)), 1, found.notes)

    def test_health(self) -> None:
        """Health checks keep frp's defaults, which are not ours."""
        section, _ = self.service('type = "tcp"\nhealthCheck.type = "tcp"')
        section = {key: value for key, value in section.items() if "health" in key}
        self.assertEqual(
            section,
            {
                "health_check": "tcp",
                "health_check_interval": "10s",
                "health_check_timeout": "3s",
                "health_check_failures": "1",
            },
        )
        section, found = self.service(
            'type = "tcp"\nhealthCheck.type = "http"\nhealthCheck.path = "status"\n'
            "healthCheck.intervalSeconds = 5\nhealthCheck.maxFailed = 3\n"
            'healthCheck.httpHeaders = [{ name = "a", value = "b" }]\n'
        )
        self.assertEqual(section["health_check"], "http /status")
        self.assertEqual(section["health_check_failures"], "3")
        self.assertEqual(len(found.noted("httpHeaders")), 1)

    def test_left_out(self) -> None:
        """What has no counterpart at all is left out, with what to do instead."""
        for plugin, instead in reasons.PLUGINS.items():
            section, found = self.service(
                f'type = "tcp"\n[proxies.plugin]\ntype = "{plugin}"\na = 1'
            )
            self.assertEqual(section, {})
            self.assertEqual(len(found.noted("web: plugin.type: left out", instead)), 1)
        section, found = self.service('type = "tcpmux"\ncustomDomains = ["t"]')
        self.assertEqual(section, {})
        self.assertEqual(len(found.noted("web: left out", "HTTP CONNECT")), 1)
        found = self.convert('[[proxies]]\nname = "x"\ntype = "tcp"\n')
        self.assertEqual(len(found.noted("x: localPort: left out")), 1)

    def test_unknown(self) -> None:
        """Unknown keys, and known ones of other types of proxy, are said."""
        _, found = self.service('type = "http"\nsubdomain = "a"\nremotePort = 5\nremote_port = 6')
        self.assertEqual(len(found.noted("remotePort: means nothing for a proxy of type http")), 1)
        self.assertEqual(len(found.noted("remote_port: unknown", "did you mean remotePort?")), 1)
        _, found = self.service('type = "http"\nsubdomain = "a"\nrouteByHTTPUser = "x"')
        self.assertEqual(len(found.noted("routeByHTTPUser", "name of a user")), 1)

    def test_wrong(self) -> None:
        """What is wrong for frp too is an error with its place."""
        for text, told in (
            ('type = "ftp"', "frpc.toml: web: type: frp has"),
            ('type = "tcp"\ntransport.bandwidthLimit = "1GB"', "bandwidthLimit: not a bandwidth"),
            ('type = "tcp"\ntransport.proxyProtocolVersion = "v3"', "frp has v1 and v2"),
            ('type = "tcp"\nhealthCheck.type = "x"', "healthCheck.type: frp has tcp and http"),
            ('type = "tcp"\nhealthCheck.type = "http"', "healthCheck.path: missing"),
        ):
            text = f'[[proxies]]\nname = "web"\nlocalPort = 80\n{text}\n'
            self.assertIn(told, self.refused(text))
