"""
Coming from frp: a file of frp's -> our INI, and what has no counterpart and why.

Pure: text in, text out, apart from the files that our configuration looks at when it
is checked, such as a certificate.  Who reads and writes files is C{relaytun import-frp}.
"""

from __future__ import annotations

from relaytun.frp.convert import Imported, import_text

__all__ = ["Imported", "import_text"]
