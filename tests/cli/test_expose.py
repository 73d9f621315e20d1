"""Tests for L{relaytun.cli.expose}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relaytun.cli.expose import with_options


class OptionsTests(SynchronousTestCase):
    def test_named(self) -> None:
        """What the server says of keys is said of options; names and the server's keys stay."""
        for said, told in (
            ("use remote_port", "use --remote-port"),
            (
                "the server has no subdomain_host: use custom_domains",
                "the server has no subdomain_host: use --domain",
            ),
            (
                "a.test is under subdomain_host test: ask for it with subdomain",
                "a.test is under subdomain_host test: ask for it with --subdomain",
            ),
            ("subdomain.test is taken", "subdomain.test is taken"),
            ("*.subdomain is no host name", "*.subdomain is no host name"),
        ):
            self.assertEqual(with_options(said), told)
