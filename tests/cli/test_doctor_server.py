"""Tests of the pure part of L{relaytun.cli.doctor_server}."""

from __future__ import annotations

import os
import resource

from twisted.trial.unittest import SynchronousTestCase

from relaytun.cli.doctor_server import descriptor_limit


class DescriptorLimitTests(SynchronousTestCase):
    """Another process's limit."""

    def test_own(self) -> None:
        """The limit of the process whose number is in the lock file is found."""
        if not os.path.exists("/proc/self/limits"):
            self.skipTest("this platform has no /proc")
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.assertEqual(descriptor_limit(str(os.getpid()).encode()), limit)

    def test_unknown(self) -> None:
        """No process, or no number, is no limit."""
        self.assertIsNone(descriptor_limit(b""))
        self.assertIsNone(descriptor_limit(b"999999999"))
