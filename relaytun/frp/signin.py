"""
How one signs in, which both of frp's sides say with the same keys.
"""

from __future__ import annotations

from relaytun.frp.notes import Notes
from relaytun.frp.parts import Part
from relaytun.frp.table import Table


def put_token(part: Part, table: Table, notes: Notes) -> bool:
    """
    Write the token, or the file that has it.

    @return: whether there is one.
    """
    method = table.text("auth.method").lower()
    if method not in ("", "token"):
        notes.add(
            "",
            table.spelled("auth.method"),
            "there is no OpenID Connect: sign in by token, several with [user:NAME]",
        )
    token = table.text("auth.token")
    source = table.text("auth.tokenSource.type")
    path = table.text("auth.tokenSource.file.path")
    table.value("auth.tokenSource.exec")
    if token:
        part.put("token", token)
    elif source == "file" and path:
        part.put("token_file", path)
    elif source:
        notes.add(
            "",
            "auth.tokenSource",
            "no program is asked for the token: write it to a file for token_file, or to the "
            "environment for token = ${NAME}",
        )
    return bool(token or source)
