"""C{relaytun demo}: three processes and a page, and nothing left of them."""

from __future__ import annotations

import os
import re
import signal
import urllib.request
from pathlib import Path

from .processes import PATIENCE, RELAYTUN, Process, ProcessTestCase, eventually

#: The children's coverage is the same each time, and would take a third of their time.
UNMEASURED = {"COVERAGE_PROCESS_START": "", "COVERAGE_PROCESS_CONFIG": ""}


class Demo(ProcessTestCase):
    """The demo, from the first line to the last child."""

    def demo(self, *options: str, **environment: str) -> Process:
        folder = str(self.folder)
        return self.start(
            "demo", *RELAYTUN, "demo", *options, TMPDIR=folder, HOME=folder, **environment
        )

    def ready(self, process: Process) -> tuple[str, dict[str, int]]:
        """Wait until it is up; returns the URL and the process numbers of its children."""
        process.wait_for("Ctrl-C ends everything")
        return process.wait_for(r"^  (http://\S+)$")[1], self.children(process)

    def children(self, process: Process) -> dict[str, int]:
        found = re.findall(r"(?m)^  (\w+) +pid (\d+) ", process.output)
        self.assertEqual([name for name, _ in found], ["server", "provider", "visitor"])
        return {name: int(pid) for name, pid in found}

    def assert_nothing_left(self, children: dict[str, int]) -> None:
        for name, pid in children.items():
            self.assertFalse(alive(pid), name)
        self.assertEqual(list(self.folder.glob("relaytun-demo-*")), [])

    def test_once(self) -> None:
        """With --once the page comes through, and it ends with exit 0 and without a trace."""
        process = self.demo("--once")
        self.assertEqual(process.wait(), 0, process.output)
        process.wait_for("The page came through: ")
        self.assert_nothing_left(self.children(process))

    def test_until_interrupted(self) -> None:
        """The URL works until Ctrl-C, SIGTERM or the end of the terminal, which is exit 0."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            process = self.demo(**UNMEASURED)
            url, children = self.ready(process)
            with urllib.request.urlopen(url + "some/path", timeout=PATIENCE) as response:
                page = response.read().decode()
            for part in ("came through the tunnel", "<code>/some/path</code>"):
                self.assertIn(part, page)
            for pid in children.values():
                self.assertIn(f"process {pid}", page)
            process.signal(number)
            self.assertEqual(process.wait(), 0, process.output)
            self.assert_nothing_left(children)
            self.assertNotIn("Traceback", process.output)

    def test_interrupted_early(self) -> None:
        """Ctrl-C while it is starting ends what has been started."""
        process = self.demo(**UNMEASURED)
        pid = int(process.wait_for(r"^  server +pid (\d+)")[1])
        process.signal(signal.SIGINT)
        self.assertEqual(process.wait(), 0, process.output)
        self.assert_nothing_left({"server": pid})

    def test_child_dies(self) -> None:
        """A child that dies is named with its last words, and is the end: exit 1."""
        demos = {name: self.demo(**UNMEASURED) for name in ("server", "provider", "visitor")}
        every = {name: self.ready(process)[1] for name, process in demos.items()}
        for name, process in demos.items():
            children = every[name]
            os.kill(children[name], signal.SIGKILL)
            self.assertEqual(process.wait(), 1, process.output)
            process.wait_for(
                rf"^relaytun: the {name} \(pid {children[name]}\) ended: killed by SIGKILL; "
                "it said last:$"
            )
            process.wait_for("^relaytun:   .*(signed in as|invite: )")
        for children in every.values():
            self.assert_nothing_left(children)

    def test_killed(self) -> None:
        """Even if the demo itself is killed its children end."""
        if not Path("/proc").is_dir():
            self.skipTest("only Linux tells a child that its parent is dead")
        process = self.demo(**UNMEASURED)
        _, children = self.ready(process)
        process.kill()
        eventually(lambda: not any(map(alive, children.values())), lambda: "the children live on")


def alive(pid: int) -> bool:
    """Whether there is such a process; one that nobody has waited for is none."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/status")
        return not status.exists() or "State:\tZ" not in status.read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False
