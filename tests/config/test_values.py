"""Tests of L{relaytun.config.values}."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import example, given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.config import values

PARSERS: list[Callable[[str], object]] = [
    values.switch,
    values.duration,
    values.positive_duration,
    values.size,
    values.count,
    values.port,
    values.port_or_zero,
    values.listening,
    values.identifier,
    values.pinned_identifiers,
    values.host,
    values.token,
    values.fingerprint,
    values.description,
    values.path,
    values.one_of("mode", "raw", "link"),
    values.count_or_zero,
    values.words,
    lambda text: values.host_and_port(text, default=None),
]


class ValuesTests(SynchronousTestCase):
    """Each parser's good and bad texts."""

    def reads(self, parse: Callable[[str], object], expected: dict[str, object]) -> None:
        for text, value in expected.items():
            self.assertEqual((text, parse(text)), (text, value))

    def refuses(self, parse: Callable[[str], object], *texts: str, saying: str = "") -> None:
        for text in texts:
            error = self.assertRaises(ValueError, parse, text)
            self.assertIn(saying, str(error))

    @given(st.sampled_from(PARSERS), st.text())
    @example(values.size, "9" * 5000)
    @example(values.duration, "9" * 400)
    @example(values.port, "\u0663")
    @example(values.host, "::1%\n")
    def test_only_value_errors(self, parse: Callable[[str], object], text: str) -> None:
        """Whatever the text, a parser returns or raises ValueError, without echoing the text."""
        try:
            parse(text)
        except ValueError as error:
            self.assertNotIn("\n", str(error))

    @given(st.sampled_from(PARSERS), st.text(alphabet="\u2603\u2604", min_size=1))
    def test_no_echo(self, parse: Callable[[str], object], text: str) -> None:
        """No sentence repeats what it is about."""
        try:
            parse(text)
        except ValueError as error:
            self.assertNotIn(text, str(error))

    def test_switch(self) -> None:
        """A switch has four spellings each way, in any case."""
        self.reads(values.switch, dict.fromkeys(("yes", "TRUE", "On", "1"), True))
        self.reads(values.switch, dict.fromkeys(("no", "False", "OFF", "0"), False))
        self.refuses(values.switch, "", "ja", "2", saying="write yes or no")

    def test_duration(self) -> None:
        """A time is in seconds, whatever its unit."""
        expected: dict[str, object] = {
            "30s": 30.0,
            "5m": 300.0,
            "2h": 7200.0,
            "1d": 86400.0,
            "500ms": 0.5,
            "45": 45.0,
            "1.5 s": 1.5,
            "0": 0.0,
        }
        self.reads(values.duration, expected)
        self.refuses(values.duration, "", "-1", "1w", "nan", "inf", "1e3", "s", saying="such as")
        self.refuses(values.duration, "3651d", saying="at most 3650d")
        self.refuses(values.positive_duration, "0", "0ms", saying="more than 0")
        self.reads(values.positive_duration, {"1ms": 0.001})

    def test_size(self) -> None:
        """A size is in bytes, with units of 1024 in any case."""
        expected: dict[str, object] = {
            "10MB": 10 << 20,
            "512KB": 512 << 10,
            "1GB": 1 << 30,
            "1GiB": 1 << 30,
            "2tb": 2 << 40,
            "100": 100,
            "100b": 100,
            "1.5MB": 1572864,
            "0": 0,
        }
        self.reads(values.size, expected)
        self.refuses(values.size, "", "-1", "1PB", "MB", "1,5MB", "ten", saying="such as 10MB")

    @given(st.decimals(min_value=0, max_value=1000, places=9))
    def test_small_sizes_are_not_zero(self, number: object) -> None:
        """Only zero comes out as zero, because zero may mean no limit."""
        self.assertEqual(values.size(f"{number:f}B") == 0, number == 0)

    def test_count(self) -> None:
        """A count is a whole number from one on."""
        self.reads(values.count, {"1": 1, "10000": 10000})
        self.refuses(values.count, "", "0", "-1", "1.5", "1e3", "9999999999", saying="whole")

    def test_port(self) -> None:
        """A port is within 16 bits, and zero only where the kernel may pick."""
        self.reads(values.port, {"1": 1, "65535": 65535})
        self.refuses(values.port, "", "0", "65536", "-1", "http", saying="from 1 to 65535")
        self.reads(values.port_or_zero, {"0": 0, "65535": 65535})
        self.refuses(values.port_or_zero, "", "65536", "x", saying="from 0 to 65535")

    def test_listening(self) -> None:
        """A server's port is a number or the description of a stream endpoint without TLS."""
        self.reads(values.listening, {"9000": "9000", "0": "0", "009": "9"})
        for text in ("tcp:9000", "tcp6:9000", "unix:/run/x", "systemd:domain=INET:index=0"):
            self.assertEqual(values.listening(text), text)
        self.refuses(values.listening, "", "65536", "x", saying="such as tcp:9000")
        self.refuses(values.listening, "ssl:9000", "tls:9000", saying="speaks TLS by itself")
        self.refuses(values.listening, "0.0.0.0:9000", "[::]:9000", saying="starts with systemd")

    def test_identifier(self) -> None:
        """An id is 1 to 64 plain characters that start with a letter or digit."""
        longest = "a" * 64
        self.reads(values.identifier, {"a": "a", "0.b_c-D": "0.b_c-D", longest: longest})
        self.refuses(values.identifier, "", "-a", "a b", "é", "a\n", "a" * 65, saying="1 to 64")

    def test_pinned_identifiers(self) -> None:
        """A list of ids has commas or lines and is never empty; an id may have a fingerprint."""
        one, other = "sha256:" + "0a" * 32, "sha256:" + "0b" * 32
        self.reads(
            values.pinned_identifiers,
            {
                "a": {"a": None},
                "a, b,a": {"a": None, "b": None},
                "a,\nb\n": {"a": None, "b": None},
                f"b@{one.upper()},a": {"b": one, "a": None},
                f"a@{one},a@{one}": {"a": one},
            },
        )
        self.refuses(values.pinned_identifiers, "", ",", saying="at least one")
        self.refuses(values.pinned_identifiers, "a, b c", f"@{one}", saying="not an id")
        self.refuses(
            values.pinned_identifiers, "a@", "a@sha256:00", f"a@{one}@", saying="not a fingerprint"
        )
        for twice in (f"a, a@{one}", f"a@{one}, a", f"a@{one}, a@{other}"):
            self.refuses(values.pinned_identifiers, twice, saying="there twice")

    def test_host(self) -> None:
        """A host is a bare name or address."""
        for text in ("localhost", "10.0.0.1", "::1", "fe80::1%eth0", "a-b.example.com", "xn--e"):
            self.assertEqual(values.host(text), text)
        self.refuses(values.host, "", saying="empty")
        self.refuses(values.host, "a b", "a/b", "a\x07", "a@b", "a?b", "x" * 256, saying="else")
        self.refuses(values.host, "[::1]", saying="brackets")
        self.refuses(values.host, "localhost:80", saying="without a port")

    def test_host_and_port(self) -> None:
        """An address keeps its IPv6 host in brackets and may leave out a default port."""
        self.assertEqual(values.host_and_port("a:1", None), ("a", 1))
        self.assertEqual(values.host_and_port("a", 9000), ("a", 9000))
        self.assertEqual(values.host_and_port("[::1]:2", None), ("::1", 2))
        self.assertEqual(values.host_and_port("[::1]", 9000), ("::1", 9000))

        def parse(text: str) -> object:
            return values.host_and_port(text, None)

        self.refuses(parse, "[::1", "[::1]2", "[a]:1", saying="as [HOST]:PORT")
        self.refuses(parse, "", ":1", "::1:2", saying="host is missing")
        self.refuses(parse, "a", "[::1]", saying="port is missing")
        self.refuses(parse, "a:", "a:0", "a:b", "a:1:2", saying="not a port")

    def test_token(self) -> None:
        """A token is printable ASCII without spaces, within 512 characters."""
        self.reads(values.token, {"a": "a", "~!;#%": "~!;#%", "x" * 512: "x" * 512})
        self.refuses(values.token, "", "a b", "é", "a\n", "x" * 513, saying="1 to 512")

    def test_fingerprint(self) -> None:
        """A fingerprint is 64 hex digits, taken into lower case."""
        low = "sha256:" + "ab" * 32
        self.reads(values.fingerprint, {low: low, low.upper(): low})
        self.refuses(values.fingerprint, "", "ab" * 32, low[:-1], low + "0", saying="64 hex")
        self.refuses(values.fingerprint, "sha256:" + "gg" * 32, saying="64 hex")

    def test_description(self) -> None:
        """A description is any printable text within 256 characters."""
        self.reads(values.description, {"my pagé": "my pagé", "x" * 256: "x" * 256})
        self.refuses(values.description, "a\x1b[0m", "\ud800", "x" * 257, saying="256")

    def test_path(self) -> None:
        """A path may start with a home folder, which must exist."""
        self.reads(values.path, {"a/b": Path("a/b"), "~/x": Path.home() / "x"})
        self.refuses(values.path, "a\0b", saying="zero")
        self.refuses(values.path, "~no-such-user-here/x", saying="home")

    def test_one_of(self) -> None:
        """A choice tells the choices, and which one comes later, if any does."""
        parse = values.one_of("protocol", "tcp", "http", "ws")
        self.reads(parse, {"tcp": "tcp", "ws": "ws"})
        self.refuses(parse, "TCP", "", saying="use protocol = tcp, http or ws")
        self.refuses(values.one_of("mode", "raw", "link"), "udp", saying="use mode = raw or link")
