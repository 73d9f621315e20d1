"""Tests of L{relaytun.config.public}, and of what else a service has for the server."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given, strategies as st

from relaytun.config import PublicConfig
from relaytun.config.public import headers, request_headers
from tests.config.support import INVITE, ConfigCase
from tests.config.test_client import service


class PublicTests(ConfigCase):
    """What the server opens for anyone."""

    def public(self, **keys: str) -> PublicConfig | None:
        return self.client(service(**keys)).services[0].public

    def one_problem(self, **keys: str) -> str:
        (line,) = self.client_problems(service(**keys))
        return line

    def test_places(self) -> None:
        """A service is public in one place at least, and empty keys are absent ones."""
        self.assertIsNone(self.public())
        self.assertIsNone(self.public(remote_port="", custom_domains="", subdomain="", group=""))
        self.assertEqual(self.public(remote_port="0"), PublicConfig(remote_port=0))
        self.assertEqual(
            self.public(remote_port="6000", protocol="udp"), PublicConfig(remote_port=6000)
        )
        self.assertEqual(
            self.public(custom_domains="A.example, *.b.example", subdomain="App"),
            PublicConfig(custom_domains=("a.example", "*.b.example"), subdomain="app"),
        )

    def test_all_keys(self) -> None:
        """Each key has its field, no secret is shown, and JSON says the same."""
        path = self.write("password", "s3cret\n")
        keys = {
            "protocol": "http",
            "custom_domains": "a.example",
            "locations": "/a, /b",
            "host_header_rewrite": "localhost:8080",
            "request_headers": "X-A: b: c\n  X-D:",
            "response_headers": "Server: x",
            "http_user": "u",
            "http_password_file": path,
            "proxy_protocol": "v2",
            "group": "g",
            "group_key": "k3y",
            "balance": "least_connections",
        }
        public = self.public(**keys)
        expected = PublicConfig(
            custom_domains=("a.example",),
            locations=("/a", "/b"),
            host_header_rewrite="localhost:8080",
            request_headers=(("X-A", "b: c"), ("X-D", "")),
            response_headers=(("Server", "x"),),
            http_user="u",
            http_password="s3cret",
            proxy_protocol="v2",
            group="g",
            group_key="k3y",
            balance="least_connections",
        )
        self.assertEqual(public, expected)
        for secret in ("s3cret", "k3y"):
            self.assertNotIn(secret, repr(self.client(service(**keys)).services))
        offered = {
            "id": "web",
            "protocol": "http",
            "localPort": 80,
            "customDomains": ["a.example"],
            "locations": ["/a", "/b"],
            "hostHeaderRewrite": "localhost:8080",
            "requestHeaders": {"X-A": "b: c", "X-D": ""},
            "responseHeaders": {"Server": "x"},
            "httpUser": "u",
            "httpPasswordFile": path,
            "proxyProtocol": "v2",
            "group": "g",
            "groupKey": "k3y",
            "balance": "least_connections",
        }
        text = json.dumps({"invite": INVITE, "services": [offered]})
        self.assertEqual(self.client(text).services[0].public, expected)

    def test_json_types(self) -> None:
        """Numbers, lists and objects have their types."""
        for body, saying in {
            '"remotePort": "6000x"': "remotePort: not a port",
            '"remotePort": true': "remotePort: must be a number",
            '"customDomains": "a"': "customDomains: must be a list of texts, one for each name",
            '"requestHeaders": ["a"]': "requestHeaders: must be an object of texts",
            '"requestHeaders": {"A": 1}': "requestHeaders: must be an object of texts",
            '"requestHeaders": {"A": "b\\nC: d"}': "requestHeaders: must be an object of texts",
            '"bandwidth": true': "bandwidth: must be a number of bytes",
        }.items():
            text = (
                f'{{"invite": "{INVITE}", "services": '
                f'[{{"id": "a", "protocol": "http", "localPort": 1, {body}}}]}}'
            )
            self.assertIn(saying, self.client_problems(text)[0])

    def test_protocols(self) -> None:
        """A key that its protocol does not go with is a problem and not ignored."""
        for keys, saying in (
            ({"protocol": "udp", "custom_domains": "a"}, "custom_domains: a udp service has a"),
            ({"protocol": "udp", "proxy_protocol": "v1"}, "proxy_protocol: a udp service has a"),
            ({"protocol": "udp", "group": "g"}, "group: a udp service has a remote_port only"),
            ({"locations": "/"}, "locations: needs protocol = http or ws"),
            ({"response_headers": "A: b"}, "response_headers: needs protocol = http or ws"),
            ({"host_header_rewrite": "a"}, "host_header_rewrite: needs protocol = http or ws"),
            (
                {"protocol": "http", "locations": "/"},
                "locations: needs custom_domains or subdomain",
            ),
        ):
            self.assertIn(saying, self.one_problem(**{"remote_port": "1", **keys}))

    def test_not_public(self) -> None:
        """What only the public would notice needs a place for the public."""
        for key, text in {"group": "g", "proxy_protocol": "v1", "http_user": "u"}.items():
            keys = {"protocol": "http", key: text}
            if key == "http_user":
                keys["http_password"] = "p"
            self.assertIn(f"{key}: is for the public: write remote_port", self.one_problem(**keys))

    def test_pairs(self) -> None:
        """What goes together comes together."""
        web = {"protocol": "http", "subdomain": "a"}
        for keys, saying in (
            ({"http_user": "u"}, "http_password: missing: write the password"),
            ({"http_user": "u", "http_password": ""}, "http_password: missing"),
            ({"http_password": "s3cret"}, "http_user: missing: http_password is given"),
            ({"group_key": "s3cret"}, "group_key: goes with group"),
            ({"balance": "round_robin"}, "balance: goes with group"),
            (
                {"http_user": "u", "http_password": "s3cret", "http_password_file": "/none"},
                "http_password_file: http_password is given as well",
            ),
            (
                {"http_user": "u", "http_password": "s3cret", "remote_port": "1"},
                "remote_port: nobody is asked for http_user there",
            ),
        ):
            line = self.one_problem(**web, **keys)
            self.assertIn(saying, line)
            self.assertNotIn("s3cret", line)

    def test_empty_password(self) -> None:
        """A password from an empty file or variable protects nothing and is refused."""
        path = self.write("password", "\n")
        line = self.one_problem(
            protocol="http", subdomain="a", http_user="u", http_password_file=path
        )
        self.assertIn("http_password_file: http_password is empty: write the password", line)

    def test_bad_values(self) -> None:
        """Each value has its rule."""
        for keys, saying in (
            ({"remote_port": "65536"}, "remote_port: not a port: write a number from 0"),
            ({"custom_domains": "a:80"}, "custom_domains: not a host name"),
            ({"subdomain": "a.b"}, "subdomain: not a subdomain: write one label"),
            ({"locations": "a"}, "locations: not a path: begin it with /"),
            ({"host_header_rewrite": "http://a"}, "host_header_rewrite: "),
            ({"host_header_rewrite": "é"}, "host_header_rewrite: not a Host header"),
            ({"http_user": "a:b", "http_password": "p"}, "http_user: not a user's name"),
            ({"http_user": "a", "http_password": "p" * 257}, "http_password: not a secret"),
            ({"proxy_protocol": "v3"}, "proxy_protocol: not a choice: use proxy_protocol = v1 or"),
            ({"group": "a b"}, "group: not an id"),
            ({"group": "a", "balance": "best"}, "balance: not a choice: use balance = round_robin"),
        ):
            keys = {"protocol": "http", "custom_domains": "x.example", **keys}
            self.assertIn(saying, self.one_problem(**keys))

    def test_bandwidth(self) -> None:
        """One limit is for each direction that has none of its own."""
        for keys, limits in (
            ({}, (0, 0)),
            ({"bandwidth": "5MB"}, (5 << 20, 5 << 20)),
            ({"bandwidth": "5MB", "bandwidth_up": "1MB"}, (1 << 20, 5 << 20)),
            ({"bandwidth_down": "1KB"}, (0, 1024)),
        ):
            (offered,) = self.client(service(**keys)).services
            self.assertEqual((offered.bandwidth_up, offered.bandwidth_down), limits)

    def test_clients(self) -> None:
        """That a service is public opens it to no other client."""
        (offered,) = self.client(service(remote_port="0", allow="b")).services
        self.assertIsNone(offered.admit("c"))


class HeadersTests(ConfigCase):
    """Lines of headers."""

    def test_bad(self) -> None:
        """What would break out of a header, or frame a message, is refused."""
        for text, saying in {
            "X": "write each one in a line of its own",
            "X A: b": "write each one in a line of its own",
            ": b": "write each one in a line of its own",
            "X: a\rY: b": "none of them a control",
            "X: \0": "none of them a control",
            "X: " + "a" * 4097: "at most 4096 characters",
            "content-length: 1": "are set by the server",
            "Transfer-Encoding: x": "are set by the server",
            "X: a\nx: b": "one header is there twice",
            "\n".join(f"X{number}: a" for number in range(65)): "too many",
        }.items():
            error = self.assertRaises(ValueError, headers, text)
            self.assertIn(saying, str(error))
        error = self.assertRaises(ValueError, request_headers, "Host: a")
        self.assertIn("write host_header_rewrite", str(error))

    @given(st.text() | st.text(alphabet="X: \r\n\0\t"))
    def test_no_way_out(self, text: str) -> None:
        """Whatever the text, no header holds what would end it."""
        with contextlib.suppress(ValueError):
            for name, value in headers(text):
                self.assertFalse(set("\r\n\0:") & set(name) or set("\r\n\0") & set(value))
