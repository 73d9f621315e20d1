"""Tests of L{relaytun.config.users}."""

from __future__ import annotations

from relaytun.config import UserConfig
from tests.config.support import ConfigCase


class UsersTests(ConfigCase):
    """Who has a token of his own."""

    def one_problem(self, text: str, **overrides: str | bool) -> str:
        (line,) = self.server_problems(text, **overrides)
        return line

    def test_all_keys(self) -> None:
        """Each key has its field, and the token is never shown."""
        path = self.write("token", "s3cret\n")
        config = self.server(
            f"""[user:alice]
            token_file = {path}
            client_ids = alice-*, al
            ports = 6000-6009, 7000
            domains = *.Alice.example, alice.example
            visit = office-*/web, database
            bandwidth = 5MB
            bandwidth_down = 1MB
            quota = 2GB
            [user:bob]
            token = other
            """
        )
        alice, bob = config.users
        self.assertEqual(
            alice,
            UserConfig(
                name="alice",
                token="s3cret",
                client_ids=("alice-*", "al"),
                ports=((6000, 6009), (7000, 7000)),
                domains=("*.alice.example", "alice.example"),
                visit=("office-*/web", "database"),
                bandwidth_up=5 << 20,
                bandwidth_down=1 << 20,
                quota=2 << 30,
            ),
        )
        self.assertEqual(bob, UserConfig(name="bob", token="other"))
        self.assertNotIn("s3cret", repr(alice))

    def test_empty_lists(self) -> None:
        """A list that came out empty allows nothing, and no ids at all is a slip."""
        self.environment({"NONE": ""})
        (user,) = self.server("[user:a]\ntoken = t\nports =\ndomains = ${NONE}\nvisit = ,\n").users
        self.assertEqual((user.ports, user.domains, user.visit), ((), (), ()))
        line = self.one_problem("[user:a]\ntoken = t\nclient_ids =\n")
        self.assertIn("[user:a] client_ids: empty: name at least one id", line)

    def test_tokens(self) -> None:
        """Everybody has a token, and each one's is his own."""
        for text, saying in {
            "[user:a]\n": "[user:a] token: missing: write the secret",
            "[user:a]\ntoken =\n": "[user:a] token: token is empty: write the secret",
            "[user:a]\ntoken = x\n[user:b]\ntoken = x\n": "token: is the token of [user:a]",
            "[server]\ntoken = x\n[user:a]\ntoken = x\n": "token: is the token of the server",
            "[user:a]\ntoken = a b\n": "[user:a] token: not a token",
        }.items():
            self.assertIn(saying, self.one_problem(text))
        self.assertEqual(len(self.server_problems("[user:a]\n[user:b]\n")), 2)

    def test_bad_values(self) -> None:
        """Each value has its rule."""
        for body, saying in {
            "client_ids = a b": "client_ids: not patterns of client ids",
            "client_ids = ,": "client_ids: not patterns of client ids",
            "ports = 0": "ports: not ports",
            "domains = a:80": "domains: not a host name",
            "visit = a/b/c": "visit: not what may be visited",
            "visit = /a": "visit: not what may be visited",
            "quota = much": "quota: not a size",
            "bandwidth = fast": "bandwidth: not a size",
            "tokn = x": "tokn: unknown key: did you mean token?",
        }.items():
            self.assertIn(saying, self.one_problem(f"[user:a]\ntoken = t\n{body}\n"))
        self.assertIn("[user:a b]: not an id", self.one_problem("[user:a b]\ntoken = t\n"))
        self.assertIn(
            "[user]: missing: give the user a name", self.one_problem("[user]\ntoken = t\n")
        )

    def test_open(self) -> None:
        """A server that lets everyone in has no users."""
        line = self.one_problem("[user:a]\ntoken = t\n", open=True)
        self.assertIn("--open: [user:a] is there as well: remove --open, or the users", line)
