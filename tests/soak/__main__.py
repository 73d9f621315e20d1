"""
C{python -m tests.soak}: the long forms, and their results in C{docs/soak.rst}.

With names as arguments (C{Bulk}, C{HerdComesBack}...) only those run, and the page is
left as it is.
"""

from __future__ import annotations

import datetime
import os
import platform
import sys
import unittest
from pathlib import Path

import twisted

from .datagrams import UdpFirewall, UdpFuzz, UdpIdleNat, UdpSources
from .direct import DirectCut, DirectCutQuic, DirectIdleNat, DirectOtherAddress
from .links import FairBesideBulk, LinkSurvivesKills, Network, ServerAway, SilentServer
from .long import Bulk, Churn, FrameFuzz, HerdComesBack, Soak, StrictSlowReader
from .public import BrowserUpload, HttpSteady, PublicPortCut, SilentVisitors
from .punching import PunchingMatrix

FORMS: list[type[Soak]] = [
    *(Bulk, Churn, StrictSlowReader, FrameFuzz, HerdComesBack),
    *(LinkSurvivesKills, ServerAway, SilentServer, Network, FairBesideBulk),
    *(UdpSources, UdpFuzz, UdpFirewall, UdpIdleNat),
    *(PublicPortCut, BrowserUpload, HttpSteady, SilentVisitors, PunchingMatrix),
    *(DirectCut, DirectCutQuic, DirectIdleNat, DirectOtherAddress),
]
PAGE = Path(__file__).parents[2] / "docs" / "soak.rst"
HEAD = """\
Soak results
============

What ``python -m tests.soak`` measured; it writes this page. Server, provider, visitor, service
and the measuring program ran on one machine, over loopback.

:Date: {date}
:Machine: {cores} cores, {system}, Python {python}, Twisted {twisted}
:Outcome: {outcome}

.. list-table::
   :header-rows: 1

   * - Form
     - Figure
     - Value
"""


def page(successful: bool) -> str:
    """The results as reStructuredText."""
    head = HEAD.format(
        date=datetime.datetime.now(datetime.timezone.utc).date(),
        cores=os.cpu_count(),
        system=platform.system(),
        python=platform.python_version(),
        twisted=twisted.__version__,
        outcome="all forms passed" if successful else "a form failed",
    )
    rows = (
        f"   * - {form}\n     - {figure}\n     - {value}\n" for form, figure, value in Soak.results
    )
    return head + "".join(rows)


def main(names: list[str]) -> int:
    """Run the forms; returns the exit code."""
    unknown = set(names) - {form.__name__ for form in FORMS}
    if unknown:
        print("no such form:", ", ".join(sorted(unknown)), file=sys.stderr)
        return 2
    suite = unittest.TestSuite(
        unittest.defaultTestLoader.loadTestsFromTestCase(form)
        for form in FORMS
        if not names or form.__name__ in names
    )
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    if not names:
        PAGE.write_text(page(result.wasSuccessful()), encoding="utf-8")
        print("written to docs/soak.rst")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
