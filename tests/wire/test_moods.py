"""Tests of L{relaytun.wire.moods}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relaytun.wire.messages import Code
from relaytun.wire.moods import Mood


class MoodTests(SynchronousTestCase):
    """The words that users meet in C{session_closed}, in logs and in accounting."""

    def test_words(self) -> None:
        """The moods are these words; none may change."""
        self.assertEqual(
            {mood.value for mood in Mood},
            {
                "happy",
                "lonely",
                "errory",
                "forbidden",
                "rejected",
                "client_offline",
                "timeout",
                "byte_limit",
                "shutdown",
            },
        )

    def test_same_word_as_the_code(self) -> None:
        """A mood that says the same as an error code has its word and its name."""
        shared = {mood.name for mood in Mood} & {code.name for code in Code}
        self.assertEqual(
            shared, {"FORBIDDEN", "REJECTED", "CLIENT_OFFLINE", "TIMEOUT", "BYTE_LIMIT"}
        )
        for name in shared:
            self.assertEqual(Mood[name].value, Code[name].value)
