"""Tests of L{relaytun.cli.show}."""

from __future__ import annotations

import json

import click
from click.testing import CliRunner
from hypothesis import given, strategies
from twisted.trial.unittest import SynchronousTestCase

from relaytun.cli.show import (
    byte_count,
    duration,
    host_and_port,
    milliseconds,
    print_json,
    print_table,
)


class NumberTests(SynchronousTestCase):
    """Numbers for people."""

    def test_byte_count(self) -> None:
        """Bytes come in units of 1024, with a decimal where it says something."""
        for count, text in {
            0: "0 B",
            1023: "1023 B",
            1024: "1.0 KB",
            1536: "1.5 KB",
            150 * 1024: "150 KB",
            5 * 1024**2: "5.0 MB",
            3 * 1024**3: "3.0 GB",
            2 * 1024**5: "2048 TB",
        }.items():
            self.assertEqual(byte_count(count), text)

    def test_duration(self) -> None:
        """A time span has its two largest units."""
        for seconds, text in {
            -1: "0s",
            0.9: "0s",
            59.9: "59s",
            60: "1m 00s",
            3599: "59m 59s",
            3600: "1h 00m",
            86399: "23h 59m",
            86400 * 3 + 3600: "3d 01h",
        }.items():
            self.assertEqual(duration(seconds), text)

    def test_milliseconds(self) -> None:
        """A round trip is in milliseconds, or a dash."""
        self.assertEqual(milliseconds(0.01234), "12.3 ms")
        self.assertEqual(milliseconds(None), "-")

    def test_host_and_port(self) -> None:
        """An IPv6 address has brackets."""
        self.assertEqual(host_and_port("127.0.0.1", 80), "127.0.0.1:80")
        self.assertEqual(host_and_port("::1", 80), "[::1]:80")


class TableTests(SynchronousTestCase):
    """Tables, in a pipe."""

    def table(self, *rows: tuple[object, ...], numbers: tuple[str, ...] = ()) -> list[str]:
        @click.command()
        def command() -> None:
            print_table(("name", "count"), rows, numbers)

        output = CliRunner(env={"COLUMNS": None}).invoke(command).stdout
        return [line.rstrip() for line in output.splitlines()]

    def test_aligned(self) -> None:
        """Columns are aligned, numbers to the right."""
        self.assertEqual(
            self.table(("a", 1), ("bcdef", 1000), numbers=("count",)),
            ["name   count", "a          1", "bcdef   1000"],
        )

    def test_strangers_text(self) -> None:
        """What comes from the network neither moves the cursor nor is taken for markup."""
        _, line = self.table(("[red]\x1b[31m\n\u202eevil", "x"))
        self.assertEqual(line, "[red]\\x1b[31m\\n\\u202eevil  x")

    def test_wide(self) -> None:
        """A pipe gets whole texts."""
        _, line = self.table(("x" * 150, "y"))
        self.assertEqual(line, "x" * 150 + "  y")

    @given(strategies.text())
    def test_json(self, text: str) -> None:
        """JSON is ASCII, and reads back as what it was."""

        @click.command()
        def command() -> None:
            print_json({"key": text})

        output = CliRunner().invoke(command).stdout
        self.assertTrue(output.isascii())
        self.assertEqual(json.loads(output), {"key": text})
