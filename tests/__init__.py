"""
The tests, which mirror C{relaytun/} file by file.

Hypothesis tries the same examples each time, and does not judge the speed of the machine.
"""

from pathlib import Path

from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

# Not in a folder of each run: what it finds out about relaytun's modules takes a while.
set_hypothesis_home_dir(Path(__file__).parents[1] / ".hypothesis")
settings.register_profile("ci", derandomize=True, deadline=None, database=None)
settings.load_profile("ci")
