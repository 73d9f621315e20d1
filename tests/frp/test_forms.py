"""Tests of L{relaytun.frp.forms}."""

from __future__ import annotations

import contextlib
import sys
from unittest import mock

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.errors import ConfigError, UserError
from relaytun.frp.forms import read_tables

TREE = {"serverAddr": "a", "auth": {"token": "t"}, "proxies": [{"name": "x", "localPort": 1}]}


class FormsTests(SynchronousTestCase):
    """TOML, YAML and JSON."""

    def refused(self, file: str, text: str) -> str:
        return str(self.assertRaises(ConfigError, read_tables, file, text))

    def test_forms(self) -> None:
        """The same file in each form is the same tables, whatever its name ends in."""
        toml = 'serverAddr = "a"\nauth.token = "t"\n[[proxies]]\nname = "x"\nlocalPort = 1\n'
        json = (
            '{"serverAddr": "a", "auth": {"token": "t"}, "user": null,'
            ' "proxies": [{"name": "x", "localPort": 1}]}'
        )
        yaml = (
            "serverAddr: a\nauth: {token: t}\n.keep: &own\n  localPort: 1\n"
            "proxies:\n- name: x\n  <<: *own\n"
        )
        for text, ending in ((toml, "toml"), (json, "json"), (yaml, "yaml")):
            self.assertEqual(read_tables(f"frpc.{ending}", text), TREE)
            self.assertEqual(read_tables("frpc.conf", text), TREE)

    def test_broken(self) -> None:
        """A broken file is one line, with its form and its place, that repeats no value."""
        for file, text, form, place in (
            ("a.toml", "token = s3cret\n", "TOML", "line 1"),
            ("a.json", '{"token": s3cret}', "JSON", "line 1"),
            ("a.yaml", "a:\n- token: 's3cret\n", "YAML", "line"),
        ):
            told = self.refused(file, text)
            self.assertTrue(told.startswith(f"{file}: not {form}: "), told)
            self.assertIn(place, told)
            self.assertNotIn("s3cret", told)

    def test_no_table(self) -> None:
        """A file that is no table is refused."""
        self.assertIn("it has no keys", self.refused("a.yaml", "- a\n- b\n"))
        self.assertIn("it has no keys", self.refused("a.conf", "only a text"))

    def test_aliases(self) -> None:
        """A little YAML that stands for a lot is refused."""
        rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
        self.assertIn("more, or deeper", self.refused("a.yaml", "\n".join(rows)))
        self.assertIn("more, or deeper", self.refused("a.json", '{"a":' * 60 + "1" + "}" * 60))

    def test_without_yaml(self) -> None:
        """Without PyYAML, a user is told what to install, or which form to give."""
        with mock.patch.dict(sys.modules, {"yaml": None}):
            error = self.assertRaises(UserError, read_tables, "a.yaml", "a: 1\n")
        self.assertIn("pip install 'relaytun[frp]'", str(error))
        self.assertEqual(read_tables("a.toml", "a = 1\n"), {"a": 1})

    def test_large(self) -> None:
        """A number that no key of frp's could mean is refused, not worked with."""
        for file, text in (("a.toml", f"a = 0x{'f' * 20}"), ("a.json", f'{{"a": {10**30}}}')):
            self.assertIn("larger", self.refused(file, text))

    @given(st.sampled_from(("a.toml", "a.yaml", "a.json", "a")), st.text())
    def test_any(self, file: str, text: str) -> None:
        """Any text is tables or one error of the user's."""
        with contextlib.suppress(ConfigError):
            self.assertIsInstance(read_tables(file, text), dict)
