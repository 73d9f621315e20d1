"""Tests of L{relaytun.cli.demo_page}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relaytun.cli.demo_page import MARK, page


class PageTests(SynchronousTestCase):
    """The demo's page."""

    def test_content(self) -> None:
        """It says that it came through, what was asked for, and by which way."""
        text = page("/some/path?x=1", ["first", "then"])
        for part in (MARK, "<code>/some/path?x=1</code>", "<li>first</li><li>then</li>"):
            self.assertIn(part, text)

    def test_escaped(self) -> None:
        """What the browser asked for is text."""
        text = page("/<script>{0}</script>", ["<b>"])
        self.assertIn("/&lt;script&gt;{0}&lt;/script&gt;", text)
        self.assertIn("<li>&lt;b&gt;</li>", text)
