"""relaytun: reach services behind NAT through a relay that cannot read them."""

from __future__ import annotations

__version__ = "0.1.0"
