"""Tests of L{relaytun.config.hooks}."""

from __future__ import annotations

from relaytun.config import check_file
from tests.config.support import INVITE, ConfigCase

HEAD = f"[client]\ninvite = {INVITE}\n"


class HooksTests(ConfigCase):
    """URLs by event, on either side."""

    def test_server(self) -> None:
        """A server has its events; an empty one is absent."""
        config = self.server(
            "[hooks]\nclient_online = http://u:s3cret@localhost:1/x?y\nsession_closed =\n"
        )
        self.assertEqual(config.hooks, {"client_online": "http://u:s3cret@localhost:1/x?y"})
        self.assertNotIn("s3cret", repr(config))

    def test_client(self) -> None:
        """A client has its own, in both forms."""
        ini = self.client(
            HEAD + "[hooks]\nconnected = https://u:s3cret@a\nsession_opened = http://b\n"
        )
        hooks = '{"connected": "https://u:s3cret@a", "sessionOpened": "http://b"}'
        json = self.client(f'{{"invite": "{INVITE}", "hooks": {hooks}}}')
        self.assertEqual(
            ini.hooks, {"connected": "https://u:s3cret@a", "session_opened": "http://b"}
        )
        self.assertEqual(json, ini)
        self.assertNotIn("s3cret", repr(ini))

    def test_other_side(self) -> None:
        """An event of the other side is told as such."""
        (line,) = self.server_problems("[hooks]\nconnected = http://a\n")
        self.assertIn("server.ini: [hooks] connected: is for the file of a client: use", line)
        (line,) = self.client_problems(HEAD + "[hooks]\nclient_online = http://a\n")
        self.assertIn("[hooks] client_online: is for the file of a server", line)
        (line,) = self.client_problems(
            f'{{"invite": "{INVITE}", "hooks": {{"clientOnline": "x"}}}}'
        )
        self.assertIn("hooks.clientOnline: unknown key", line)
        (line,) = self.client_problems(f'{{"invite": "{INVITE}", "hooks": []}}')
        self.assertIn("hooks: must be an object", line)

    def test_bad_urls(self) -> None:
        """Only HTTP is told anything, and a bad URL is not repeated."""
        for url in (
            "s3cret",
            "ftp://s3cret",
            "http://",
            "http://a:s3cret",
            "http://a b",
            "http://[s3",
        ):
            (line,) = self.server_problems(f"[hooks]\nclient_online = {url}\n")
            self.assertIn("client_online: not a URL: write one such as https://", line)
            self.assertNotIn("s3", line)

    def test_role(self) -> None:
        """A file of hooks alone is nobody's."""
        path = self.write("a.ini", "[hooks]\nsession_opened = http://a\n")
        (line,) = self.problems(lambda: check_file(path))
        self.assertEqual(line, "a.ini: has only [hooks]: start with [server] or [client]")
        self.assertEqual(check_file(self.write("b.ini", HEAD + "[hooks]\n")), "client")
        self.assertEqual(check_file(self.write("c.ini", "[server]\n[hooks]\n")), "server")
