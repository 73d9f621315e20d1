"""Tests of L{relaytun.config.invite}."""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.config import ServerAddress, format_invite, parse_invite
from relaytun.config.invite import parse_server_url
from tests.config.support import INVITE, PRINT

TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=512)
HOSTS = st.sampled_from(["localhost", "relay.example.com", "10.0.0.1", "::1", "2001:db8::2"])
PORTS = st.integers(min_value=1, max_value=65535)


class InviteTests(SynchronousTestCase):
    """The line that a client needs."""

    def refuses(self, text: str, saying: str) -> None:
        error = self.assertRaises(ValueError, parse_invite, text)
        self.assertIn(saying, str(error))
        self.assertIn("<state-dir>/invite", str(error))
        self.assertNotIn("s3cret", str(error))

    @given(HOSTS, PORTS, st.none() | TOKENS, st.binary(min_size=32, max_size=32))
    def test_round_trip(self, host: str, port: int, token: str | None, digest: bytes) -> None:
        """What is written is what is read, with or without a token."""
        address = ServerAddress(
            host=host, port=port, token=token, fingerprint=f"sha256:{digest.hex()}"
        )
        self.assertEqual(parse_invite(format_invite(address)), address)

    @given(st.text() | st.text().map("relaytun://".__add__))
    def test_only_value_errors(self, text: str) -> None:
        """Whatever the text, the only error is ValueError."""
        for parse in (parse_invite, parse_server_url):
            try:
                parse(text)
            except ValueError as error:
                self.assertNotIn("\n", str(error))

    def test_shape(self) -> None:
        """An invite has its token encoded and its IPv6 host in brackets."""
        address = ServerAddress(host="::1", port=9000, token="a/b@c", fingerprint=PRINT)
        self.assertEqual(format_invite(address), f"relaytun://a%2Fb%40c@[::1]:9000?fp={PRINT}")
        self.assertEqual(address.url(), "wss://[::1]:9000")
        self.assertEqual(ServerAddress(host="a", port=1, secure=False).url(), "ws://a:1")

    def test_lenient(self) -> None:
        """Blanks around it, parameters of later versions and upper-case digits do no harm."""
        text = f" RELAYTUN://s3cret@relay.example.com:9000?v=2&fp={PRINT.upper()}\n"
        self.assertEqual(parse_invite(text), parse_invite(INVITE))

    def test_open_server(self) -> None:
        """An invite without a token is that of an open server."""
        self.assertIs(parse_invite(f"relaytun://a:1?fp={PRINT}").token, None)

    def test_damaged(self) -> None:
        """Each part that is missing or wrong is named, and nothing of the invite is repeated."""
        tail = f"?fp={PRINT}"
        self.refuses("", "starts with relaytun://")
        self.refuses("wss://s3cret@a:1" + tail, "starts with relaytun://")
        self.refuses("relaytun:s3cret@a:1" + tail, "starts with relaytun://")
        self.refuses("relaytun://@a:1" + tail, "token before @ is missing")
        self.refuses("relaytun://s3cret%20x@a:1" + tail, "token is damaged")
        self.refuses("relaytun://s3cret%ff@a:1" + tail, "token is damaged")
        self.refuses("relaytun://s3cret@:1" + tail, "host is missing")
        self.refuses("relaytun://s3cret@::1:1" + tail, "host is missing")
        self.refuses("relaytun://s3cret@a" + tail, "port is missing")
        self.refuses("relaytun://s3cret@a:99999" + tail, "not a port")
        self.refuses("relaytun://s3cret@a:1", "one ?fp=")
        self.refuses("relaytun://s3cret@a:1" + tail + "&fp=" + PRINT, "one ?fp=")
        self.refuses("relaytun://s3cret@a:1" + tail[:-1], "64 hex digits")
        self.refuses("relaytun://s3cret@a:1?fp=sha256:" + "x" * 64, "64 hex digits")

    def test_only_safe_ones_are_written(self) -> None:
        """There is no invite without TLS or without a fingerprint."""
        for address in (
            ServerAddress(host="a", port=1),
            ServerAddress(host="a", port=1, secure=False, fingerprint=PRINT),
        ):
            self.assertRaises(ValueError, format_invite, address)

    def test_secret_is_not_shown(self) -> None:
        """The representation of an address has no token in it."""
        self.assertNotIn("s3cret", repr(parse_invite(INVITE)))
        self.assertIn("relay.example.com", repr(parse_invite(INVITE)))


class ServerUrlTests(SynchronousTestCase):
    """The other way to name a server."""

    def test_read(self) -> None:
        """A server is a ws or wss URL whose port may be left out."""
        self.assertEqual(
            parse_server_url("wss://a.example:1"), ServerAddress(host="a.example", port=1)
        )
        self.assertEqual(
            parse_server_url("WS://[::1]"), ServerAddress(host="::1", port=9000, secure=False)
        )

    def test_refused(self) -> None:
        """Another scheme, a path, a query or a user in it is refused without being repeated."""
        for text, saying in {
            "a:9000": "write wss://",
            "http://s3cret:9000": "write wss://",
            "wss://s3cret@a:1": "token in its own key",
            "wss://a:1/s3cret": "remove what comes after",
            "wss://a:1?t=s3cret": "remove what comes after",
            "wss://a:1#s3cret": "remove what comes after",
            "wss://a:s3cret": "not a port",
        }.items():
            error = self.assertRaises(ValueError, parse_server_url, text)
            self.assertIn(saying, str(error))
            self.assertNotIn("s3cret", str(error))
