"""Tests of L{relaytun.config.vhosts}, and of the keys of a server that are about the public."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

from relaytun.config.vhosts import LETS_ENCRYPT
from tests.config.support import ConfigCase


class ServerPublicTests(ConfigCase):
    """Ports, host names and networks."""

    def one_problem(self, text: str) -> str:
        (line,) = self.server_problems(text)
        return line

    def test_defaults(self) -> None:
        """There are public ports, but no host names and no metrics, unless somebody asks."""
        config = self.server("[server]\n[http]\nvhost_http_port =\n")
        self.assertEqual(config.allow_ports, ((6000, 6999),))
        self.assertEqual((config.vhost_http, config.vhost_https, config.metrics), (None,) * 3)
        self.assertEqual((config.ws_path, config.drain_timeout), ("/relaytun", 30.0))
        self.assertEqual((config.log_format, config.response_timeout), ("text", 60.0))
        self.assertEqual(self.server("[public]\nallow_ports =\n").allow_ports, ())

    def test_all_keys(self) -> None:
        """Each key has its field."""
        ca = self.write("ca.pem", "x")
        config = self.server(
            f"""[server]
            ws_path = /tunnel
            drain_timeout = 0
            metrics_port = tcp:9100:interface=127.0.0.1
            log_format = json
            proxy_protocol_from = 10.0.0.7
            allow_networks = 192.0.2.0/24, 2001:db8::/32
            deny_networks = 192.0.2.1
            max_connections_per_address = 3
            max_ports_per_client = 4
            [public]
            allow_ports = 6000-6999, 7001
            [http]
            vhost_http_port = 80
            vhost_https_port = 9000
            subdomain_host = Relay.example.com
            certificates = {self.folder}
            acme = yes
            acme_email = a@b
            acme_ca = {ca}
            response_timeout = 5s
            """
        )
        self.assertEqual((config.ws_path, config.drain_timeout), ("/tunnel", 0.0))
        self.assertEqual(config.metrics, "tcp:9100:interface=127.0.0.1")
        self.assertEqual(config.log_format, "json")
        self.assertEqual(config.proxy_protocol_from, (ip_network("10.0.0.7"),))
        self.assertEqual(len(config.allow_networks), 2)
        self.assertEqual(config.deny_networks, (ip_network("192.0.2.1"),))
        self.assertEqual((config.max_connections_per_address, config.max_ports_per_client), (3, 4))
        self.assertEqual(config.allow_ports, ((6000, 6999), (7001, 7001)))
        self.assertEqual((config.vhost_http, config.vhost_https), ("80", "9000"))
        self.assertEqual(config.subdomain_host, "relay.example.com")
        self.assertEqual((config.certificates, config.acme_ca), (self.folder, Path(ca)))
        self.assertEqual((config.acme, config.acme_email), (LETS_ENCRYPT, "a@b"))
        self.assertEqual(config.response_timeout, 5.0)

    def test_acme(self) -> None:
        """Certificates are obtained from whom one names, over HTTPS."""
        head = "[http]\nvhost_https_port = 443\nacme = "
        self.assertIsNone(self.server(head + "no\n").acme)
        self.assertEqual(self.server(head + "https://a/dir\n").acme, "https://a/dir")
        for text in ("maybe", "http://a/dir", "https://"):
            self.assertIn("acme: use yes (Let's Encrypt), no, or", self.one_problem(head + text))

    def test_shared_ports(self) -> None:
        """No two ports are the same, but for HTTPS and the control port."""
        for text, saying in {
            "[http]\nvhost_http_port = 9000\n": "vhost_http_port: is the control_port already",
            "[http]\nvhost_http_port = 9001\n": "vhost_http_port: is the relay_port already",
            "[http]\nvhost_https_port = 9001\n": "vhost_https_port: is the relay_port already",
            "[http]\nvhost_http_port = 80\nvhost_https_port = 80\n": "https_port: is the vhost",
            "[server]\nmetrics_port = 9000\n": "metrics_port: is the control_port already",
            "[server]\nrelay_port = 9000\n": "relay_port: is the control_port already",
        }.items():
            self.assertIn(saying, self.one_problem(text))
        self.server("[server]\ncontrol_port = 0\nrelay_port = 0\n[http]\nvhost_http_port = 0\n")

    def test_bad_values(self) -> None:
        """Each value has its rule."""
        for text, saying in {
            "[server]\nws_path = x": "ws_path: not a path: begin it with /",
            "[server]\nmetrics_port = x": "metrics_port: not a port",
            "[server]\nlog_format = xml": "log_format: not a choice: use log_format = text or json",
            "[server]\nallow_networks =": "allow_networks: empty: name at least one, or remove",
            "[server]\nallow_networks = ,": "allow_networks: empty: name at least one",
            "[server]\ndeny_networks = 10.0.0.1/8": "deny_networks: not a network",
            "[server]\nproxy_protocol_from = a": "proxy_protocol_from: not a network",
            "[server]\nmax_ports_per_client = -1": "max_ports_per_client: not a count",
            "[public]\nallow_ports = 70000": "allow_ports: not ports",
            "[http]\nsubdomain_host = *.a": "subdomain_host: not a host name",
            "[http]\ncertificates = /": "certificates: is for HTTPS: write vhost_https_port",
            "[http]\nacme = yes": "acme: is for HTTPS: write vhost_https_port",
            "[http]\nacme_email = a": "acme_email: not an address",
            "[http]\nacme_ca = /none": "acme_ca: cannot read the file",
            "[http]\ncertificates = /none": "certificates: not a folder",
            "[http]\nresponse_timeout = 0": "response_timeout: must be more than 0",
        }.items():
            self.assertIn(saying, self.one_problem(text + "\n"))
