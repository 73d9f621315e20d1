"""
Reading small text files, with one clear sentence for each way in which that can fail.

What is in them is not looked at here.
"""

from __future__ import annotations

from pathlib import Path

LARGEST = 1024 * 1024
"""More than any configuration needs; keeps a C{/dev/zero} from filling the memory."""


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise ValueError(f"cannot read the file: {error.strerror}") from None
    except ValueError:
        raise ValueError("cannot read the file: not a path") from None


def read_text(path: Path) -> str:
    """
    Read a whole file as UTF-8, with or without a byte order mark.

    @raise ValueError: the file cannot be read, is too large or is not UTF-8.
    """
    data = _read(path, LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError("the file is larger than 1 MB: give another one")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8: save the file as UTF-8") from None


def check_readable(path: Path) -> Path:
    """
    Check that a file is there and readable.

    @raise ValueError: it is not.
    """
    _read(path, 1)
    return path
