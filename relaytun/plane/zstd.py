"""
The zstd library, if there is one: C{compression.zstd} of Python 3.14, or C{backports.zstd}.

What it costs is decided here.  At level 1 with a window of 256 KiB a compressor holds some 0.5 MiB
and a decompressor 0.4 MiB (measured, zstd 1.5.7).  Level 3 with a window of 1 MiB holds four times
as much, for output that is a tenth smaller.
"""

from __future__ import annotations

import sys

try:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
except ImportError:
    #: Whether there is a library; without it nothing else here may be called.
    AVAILABLE = False
    #: What decompressors raise: for data that is broken, and for data behind the end.
    ERRORS: tuple[type[Exception], ...] = ()
else:
    AVAILABLE = True
    ERRORS = (zstd.ZstdError, EOFError)
    Compressor = zstd.ZstdCompressor
    Decompressor = zstd.ZstdDecompressor

#: What a user can do if there is none.
INSTALL = "pip install relaytun[zstd]"
#: The window, 2 to this power, in bytes; one who asks a decompressor for more is refused.
WINDOW_LOG = 18
_LEVEL = 1


def compressor() -> Compressor:
    """For one direction of a stream."""
    keys = zstd.CompressionParameter
    return Compressor(options={keys.compression_level: _LEVEL, keys.window_log: WINDOW_LOG})


def decompressor() -> Decompressor:
    """For one direction of a stream."""
    return Decompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG})
