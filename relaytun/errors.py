"""
The errors that a user can cause.

Each one's text is a sentence (or a line for each problem) that says what is
wrong and what to do about it; whoever catches it prints it as it stands and
ends with C{exit_code}, never with a traceback.
"""

from __future__ import annotations

from collections.abc import Sequence


class UserError(Exception):
    """Something that the user can put right; the text says how."""

    exit_code = 1


class ConfigError(UserError):
    """
    One or more things wrong in a configuration file or on the command line.

    @ivar problems: one line each, with file, section and key where there are any.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))
