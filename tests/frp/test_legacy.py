"""Tests of L{relaytun.frp.legacy}."""

from __future__ import annotations

import contextlib

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.errors import ConfigError
from relaytun.frp.legacy import client_tree, is_legacy, sections, server_tree


class LegacyTests(SynchronousTestCase):
    """INI files."""

    def client(self, text: str) -> dict[str, object]:
        return client_tree("frpc.ini", sections("frpc.ini", text))

    def refused(self, text: str) -> str:
        return str(self.assertRaises(ConfigError, self.client, text))

    def test_detected(self) -> None:
        """A file with C{[common]} is INI, and none without."""
        self.assertTrue(is_legacy("# a\n  [common] \n"))
        self.assertFalse(is_legacy("[[proxies]]\n"))
        self.assertFalse(is_legacy("# [common]\n"))

    def test_tables(self) -> None:
        """Keys are where TOML has them, those with a prefix in the table that it stands for."""
        self.assertEqual(
            self.client(
                "[common]\nserver_addr = a\ntoken: b\nmeta_x = 1\n"
                "[web]\ntype = http\nlocal_port = 80\nheader_X-A = b\nplugin = socks5\n"
                "plugin_user = u\nuse_encryption\n"
                "[v]\nrole = visitor\ntype = stcp\nserver_name = s\n"
            ),
            {
                "serverAddr": "a",
                "auth": {"token": "b"},
                "metadatas": {"x": "1"},
                "proxies": [
                    {
                        "name": "web",
                        "type": "http",
                        "localPort": "80",
                        "requestHeaders": {"set": {"X-A": "b"}},
                        "plugin": {"type": "socks5", "user": "u"},
                        "transport": {"useEncryption": "true"},
                    }
                ],
                "visitors": [{"name": "v", "type": "stcp", "serverName": "s"}],
            },
        )

    def test_traps(self) -> None:
        """Keys are case-sensitive, comments behind values are none, indenting means nothing."""
        tree = self.client('[common]\n  token = a ; b # c\n    Token = "quoted"\nserverPort = 1\n')
        self.assertEqual(tree["auth"], {"token": "a ; b # c"})
        self.assertEqual((tree["?Token"], tree["?serverPort"]), ("quoted", "1"))

    def test_ranges(self) -> None:
        """C{[range:x]} stands for one proxy for each pair of ports, over those of the same name."""
        proxies = self.client(
            "[common]\n[t_1]\ntype = udp\nuse_compression = true\n"
            "[range:t]\nlocal_port = 10-11,20\nremote_port = 30-32\nsk = x\n"
        )["proxies"]
        self.assertEqual(
            [
                (each["name"], each["localPort"], each["remotePort"], each["type"])
                for each in proxies
            ],
            [
                ("t_1", "11", "31", "udp"),
                ("t_0", "10", "30", "tcp"),
                ("t_2", "20", "32", "tcp"),
            ],
        )
        self.assertEqual(proxies[0]["secretKey"], "x")
        told = self.refused("[common]\n[range:t]\nlocal_port = 1-3\nremote_port = 1-2\n")
        self.assertIn("frpc.ini: [range:t]: local_port and remote_port: ", told)

    def test_server(self) -> None:
        """A server's plugins are sections of their own."""
        tree = server_tree(
            sections("frps.ini", "[common]\nprivilege_token = x\n[plugin.one]\naddr = a\n")
        )
        self.assertEqual(tree, {"auth": {"token": "x"}, "httpPlugins": [{"name": "one"}]})

    def test_broken(self) -> None:
        """A line that is none, or a role that frp does not have, is an error with its place."""
        self.assertIn("frpc.ini: line 1: comes before any section", self.refused("a = b\n[common]"))
        self.assertIn("frpc.ini: line 2: not a key", self.refused("[common]\n= b"))
        self.assertIn("frpc.ini: x: role: ", self.refused("[common]\n[x]\nrole = both"))

    @given(st.text(alphabet="[]=:#; \n\tab\"'\\common"))
    def test_any(self, text: str) -> None:
        """Any text is tables or one error of the user's."""
        with contextlib.suppress(ConfigError):
            self.client(text)
