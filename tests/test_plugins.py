"""The twistd plugins, as Twisted's own plugin system finds them."""

from __future__ import annotations

from pathlib import Path

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.reflect import namedAny
from twisted.python.usage import Options
from twisted.trial.unittest import SynchronousTestCase

import relaytun

TAPS = {
    "relaytun-server": "relaytun.server.tap",
    "relaytun-client": "relaytun.client.tap",
}


class PluginTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.makers = [
            maker for maker in getPlugins(IServiceMaker) if maker.tapname.startswith("relaytun")
        ]

    def test_each_is_found_once(self) -> None:
        """C{twistd --help} lists the server and the client, each once."""
        self.assertEqual(sorted(maker.tapname for maker in self.makers), sorted(TAPS))

    def test_each_has_a_description(self) -> None:
        """Nobody has to guess from the name what a plugin runs."""
        for maker in self.makers:
            self.assertTrue(maker.description.endswith("."), maker.tapname)

    def test_each_names_a_working_tap(self) -> None:
        """The module behind each plugin can be imported and holds what twistd asks of it."""
        for maker in self.makers:
            tap = namedAny(TAPS[maker.tapname])
            self.assertEqual(maker.module, tap.__name__)
            self.assertTrue(issubclass(maker.options, Options))
            self.assertTrue(callable(maker.makeService))

    def test_the_plugin_folders_are_no_packages(self) -> None:
        """An C{__init__.py} in twisted/ or twisted/plugins/ would hide Twisted, or our plugins."""
        folder = Path(relaytun.__file__).parents[1] / "twisted"
        if not (folder / "plugins" / "relaytun_plugins.py").exists():
            self.skipTest("the tests do not run from a checkout")
        self.assertFalse((folder / "__init__.py").exists())
        self.assertFalse((folder / "plugins" / "__init__.py").exists())
