"""Tests of L{relaytun.frp.identifiers}."""

from __future__ import annotations

from hypothesis import given, strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relaytun.config import values
from relaytun.frp.identifiers import Identifiers, identifier


class IdentifierTests(SynchronousTestCase):
    """Frp's names as ids of ours."""

    def test_names(self) -> None:
        """An id stays, and of any other name what can stay does."""
        self.assertEqual(identifier("user.ssh_1", "service"), "user.ssh_1")
        self.assertEqual(identifier("my web (1)", "service"), "my-web-1")
        self.assertEqual(identifier("_x", "service"), "x")
        self.assertRegex(identifier("远程", "service"), r"^service-[0-9a-f]{8}$")
        self.assertNotEqual(identifier("远程", "service"), identifier("桌面", "service"))

    @given(st.lists(st.text(), max_size=5))
    def test_always_ids(self, names: list[str]) -> None:
        """Any names make ids, no two the same, and the same each time."""
        taken = Identifiers("service")
        ids = [taken.take(name) for name in names]
        self.assertEqual([values.identifier(each) for each in ids], ids)
        self.assertEqual(len(set(ids)), len(ids))
        for name in names:
            self.assertEqual(identifier(name, "client"), identifier(name, "client"))

    def test_long(self) -> None:
        """Long names that differ late stay different."""
        long = "x" * 80
        self.assertNotEqual(identifier(long + "a", "service"), identifier(long + "b", "service"))
        taken = Identifiers("service")
        self.assertEqual(len({taken.take("y" * 64) for _ in range(12)}), 12)
