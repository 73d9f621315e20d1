"""Tests of L{relaytun.config.files}."""

from __future__ import annotations

from pathlib import Path

from relaytun.config import files
from tests.config.support import ConfigCase


class FilesTests(ConfigCase):
    """Each way in which a file cannot be read has its sentence."""

    def refuses(self, path: Path, saying: str) -> None:
        error = self.assertRaises(ValueError, files.read_text, path)
        self.assertIn(saying, str(error))

    def test_read(self) -> None:
        """A file is UTF-8, and a byte order mark is not part of it."""
        self.assertEqual(files.read_text(Path(self.write("a", b"\xef\xbb\xbfpag\xc3\xa9"))), "pagé")

    def test_unreadable(self) -> None:
        """A missing file and a folder are told apart, and what no path can have is no crash."""
        self.refuses(self.folder / "none", "No such file")
        self.refuses(self.folder, "Is a directory")
        self.refuses(Path("a\0b"), "not a path")

    def test_forbidden(self) -> None:
        """A file that may not be read says so."""

        def deny(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        self.patch(Path, "open", deny)
        self.refuses(self.folder / "a", "cannot read the file: Permission denied")

    def test_too_large(self) -> None:
        """No more of a file is read than a configuration can need."""
        self.refuses(Path("/dev/zero"), "larger than 1 MB")

    def test_encoding(self) -> None:
        """A file in another encoding is told with the line."""
        self.refuses(Path(self.write("a", b"one\ntw\xf6\n")), "line 2 is not UTF-8")

    def test_check_readable(self) -> None:
        """A file that is only checked may hold anything."""
        path = Path(self.write("a", b"\xff"))
        self.assertEqual(files.check_readable(path), path)
        self.assertRaises(ValueError, files.check_readable, self.folder)
