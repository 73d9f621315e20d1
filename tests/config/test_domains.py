"""Tests of L{relaytun.config.domains}."""

from __future__ import annotations

import contextlib

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.config import domains


class DomainTests(SynchronousTestCase):
    """Host names, subdomains and paths."""

    def test_domain(self) -> None:
        """A name comes out in lower case and ASCII, without its last dot."""
        for text, name in {
            "App.Example.COM": "app.example.com",
            "a.": "a",
            "bücher.example": "xn--bcher-kva.example",
            "_x.a-b.c": "_x.a-b.c",
            "127.0.0.1": "127.0.0.1",
        }.items():
            self.assertEqual(domains.domain(text), name)

    def test_bad_domain(self) -> None:
        """What no name may have is refused with what to write instead."""
        for text, saying in {
            "": "write one such as",
            "a..b": "write one such as",
            "-a": "write one such as",
            "a b": "write one such as",
            "a" * 64: "write one such as",
            ".".join(["a" * 60] * 5): "write one such as",
            "a:80": "without scheme, port and path",
            "http://a": "without scheme, port and path",
            "a.*": "* stands for the first label only",
            "\u2603\u0000.de": "characters that no name may have",
        }.items():
            error = self.assertRaises(ValueError, domains.domain, text)
            self.assertIn(saying, str(error), text)

    def test_wildcards(self) -> None:
        """The star may be the first label and nothing else."""
        self.assertEqual(
            domains.wildcard_domains("*.A.example, a.example\n*.a.example"),
            ("*.a.example", "a.example"),
        )
        for text in ("*", "*.", "*.*.a", "*a.example", "a.*.example"):
            self.assertRaises(ValueError, domains.wildcard_domains, text)

    def test_patterns(self) -> None:
        """For who may use what, a star alone is any name."""
        self.assertEqual(domains.domain_patterns("*, *.a.example"), ("*", "*.a.example"))

    def test_subdomain(self) -> None:
        """A subdomain is one label."""
        self.assertEqual(domains.subdomain("App"), "app")
        for text in ("a.b", "*", "a."):
            error = self.assertRaises(ValueError, domains.subdomain, text)
            self.assertIn("write one label without dots and *", str(error))

    def test_paths(self) -> None:
        """Paths begin with a slash and hold nothing that would end one."""
        self.assertEqual(domains.url_paths("/, /a%20b\n/"), ("/", "/a%20b"))
        for text in ("a", "", "/a b", "/a?b", "/a#b", "/é", "/a\0", "/" + "a" * 256):
            self.assertRaises(ValueError, domains.url_path, text)

    def test_too_many(self) -> None:
        """There are no more than a message to the server holds."""
        text = ",".join(f"a{number}.example" for number in range(domains.MOST + 1))
        self.assertRaises(ValueError, domains.wildcard_domains, text)

    @given(st.text() | st.text(alphabet="*.-aé:/\u3002\u00df"))
    def test_only_value_errors(self, text: str) -> None:
        """Whatever the text, a name is fit for the wire or there is a ValueError."""
        for parse in (domains.wildcard_domain, domains.subdomain, domains.url_path):
            with contextlib.suppress(ValueError):
                name = parse(text)
                self.assertTrue(name.isascii() and name.isprintable())
