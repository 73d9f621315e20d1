"""
The server's small databases: SQLite, one file each, for this user only.

Whoever writes is the reactor, so nobody waits long for a lock that somebody else holds.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ..errors import UserError

#: Seconds to wait for a lock.
PATIENCE = 0.2


def opened(path: Path | str, schema: str, patience: float = PATIENCE) -> sqlite3.Connection:
    """
    Open a database, and make it if there is none.

    @param path: of the file, or C{":memory:"}.
    @param schema: a statement that makes its table, if there is none.
    @param patience: seconds to wait for a lock.
    @raise UserError: if the file cannot be used.
    """
    try:
        if isinstance(path, Path):
            path.touch(mode=0o600)
        database = sqlite3.connect(path, timeout=patience)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute(schema)
        database.commit()
    except (sqlite3.Error, OSError) as error:
        raise unusable(path, error) from None
    return database


def unusable(path: Path | str, error: Exception) -> UserError:
    """@return: what there is to say of a file that cannot be read."""
    return UserError(f"cannot read {path}: {error}; move it away to start afresh")
