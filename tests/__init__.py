"""
The tests, which mirror C{relaytun/} file by file.

Hypothesis tries the same examples each time, and does not judge the speed of the machine.
"""

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, database=None)
settings.load_profile("ci")
