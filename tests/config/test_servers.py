"""Tests of L{relaytun.config.servers}."""

from __future__ import annotations

from relaytun.config import ServerAddress, load_client, parse_invite
from tests.config.support import INVITE, PRINT, ConfigCase

HEAD = f"[client]\ninvite = {INVITE}\n"
OTHER = f"relaytun://0ther@b.example:9001?fp={PRINT}"


class ServersTests(ConfigCase):
    """Which servers a client uses."""

    def one_problem(self, text: str, **overrides: str | bool) -> str:
        (line,) = self.client_problems(text, **overrides)
        return line

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
        self.assertEqual(self.one_problem(HEAD, invite=""), f"--invite: {saying}")

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

    def test_list(self) -> None:
        """Several servers are named by invite or by URL; these share token and fingerprint."""
        config = self.client(
            f"[client]\nservers = {INVITE},\n  wss://b, {OTHER}\n wss://[::1]:1,\n"
            f"token = t0ken\nfingerprint = {PRINT}\n"
        )
        expected = (
            parse_invite(INVITE),
            ServerAddress(host="b", port=9000, token="t0ken", fingerprint=PRINT),
            parse_invite(OTHER),
            ServerAddress(host="::1", port=1, token="t0ken", fingerprint=PRINT),
        )
        self.assertEqual((config.servers, config.server), (expected, expected[0]))

    def test_list_of_invites(self) -> None:
        """Invites have all that is needed, and leave no room for more."""
        text = f"[client]\nservers = {INVITE}, {OTHER}\n"
        self.assertEqual(self.client(text).servers, (parse_invite(INVITE), parse_invite(OTHER)))
        line = self.one_problem(text + "token = s3cret\n")
        self.assertIn("token: each invite has its own: remove this key", line)

    def test_list_of_one(self) -> None:
        """A list may have one server."""
        self.assertEqual(
            self.client(f"[client]\nservers = {INVITE}\n").servers, (parse_invite(INVITE),)
        )

    def test_bad_list(self) -> None:
        """What is wrong with a list is told by number, and no part of it is repeated."""
        for value, saying in {
            ",": "servers: empty: name at least one server",
            f"{INVITE}, {INVITE}": "servers: server 2 of the list is there twice: remove one",
            f"wss://B.example:9001, {OTHER}": "servers: server 2 of the list is there twice",
            "wss://a, ws://A:9000": "servers: server 2 of the list is there twice",
            "wss://a, s3cret": "servers: server 2 of the list: not a server: write wss://HOST:PORT",
            f"wss://a, wss://s3cret@b, {INVITE}": "server 2 of the list: not a server",
            "relaytun://s3cret@a, wss://a": "server 1 of the list: not an invite",
            f"relaytun://s3c,ret@a:1?fp={PRINT}": "server 1 of the list: not an invite",
        }.items():
            self.assertIn(saying, self.one_problem(f"[client]\nservers = {value}\n"))
        line = self.one_problem(f"[client]\nservers = wss://a, ws://b\nfingerprint = {PRINT}\n")
        self.assertIn("fingerprint: needs TLS", line)

    def test_one_way(self) -> None:
        """A list is instead of an invite, an invite's file and a server, not beside them."""
        for key, value in (("invite", INVITE), ("invite_file", "x"), ("server", "wss://a")):
            lines = self.client_problems(f"[client]\n{key} = {value}\nservers = wss://b\n")
            self.assertIn(
                f"client.ini: [client] servers: {key} is given as well: remove one of the two",
                lines,
            )
