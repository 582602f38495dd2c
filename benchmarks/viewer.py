"""How long `da3stream view` takes to show runs in a real browser, and how much memory.

    python -m benchmarks.viewer RUN... -o benchmarks/results/viewer.json

Each run is opened several times by a process of its own, and looked at with a headless Chromium that is there
already (software rendering: a graphics card draws far sooner). Seconds count from the start of the process to
    address     the address is printed
    sent        the first points arrive in the page
    drawn       they are seen: the canvas is no longer white (screenshots, one after the other)
    all_points  the last points arrive
    replayed    it is known where everything was before the optimisation: all work is done
The best of the rounds by `sent` is kept, with the load of the machine as it began; `peak_mb` is the largest
resident memory of the viewer's process, without its child's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zstandard
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.metadata import describe_environment
from tests.browser import FLAGS, find_chromium

PATIENCE_S = 120.0
WHITE, COLOURED_SHARE = 235, 0.01
CANVAS = np.s_[190:, :560]
"""What neither the panel nor the notification of software rendering covers."""
SIZE_BYTES = 8
"""A frame of viser begins with two lengths: of its compressed part, which names what it holds, unpacked and
packed."""


class Messages:
    """What the page receives."""

    def __init__(self, page: Page, began_s: float) -> None:
        self.bytes, self.first_points_s, self.last_points_s = 0, None, None
        self._began_s = began_s
        page.on("websocket", lambda socket: socket.on("framereceived", self._receive))

    def _receive(self, payload: bytes | str) -> None:
        self.bytes += len(payload)
        if isinstance(payload, bytes) and b"PointCloudMessage" in _kinds(payload):
            self.last_points_s = time.monotonic() - self._began_s
            self.first_points_s = self.first_points_s or self.last_points_s


def _kinds(payload: bytes) -> bytes:
    start = 2 * SIZE_BYTES
    packed = int.from_bytes(payload[SIZE_BYTES:start], "little")
    return zstandard.ZstdDecompressor().decompress(payload[start : start + packed])


@contextmanager
def viewing(run: Path) -> Iterator[subprocess.Popen[str]]:
    """`da3stream view` of a run, ended with Ctrl-C."""
    command = [sys.executable, "-m", "da3stream", "view", str(run), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)


def measure(run: Path, browser: Browser) -> dict[str, Any]:
    """One round."""
    load = os.getloadavg()[0]
    page = browser.new_context(viewport={"width": 900, "height": 560}).new_page()
    began = time.monotonic()
    messages = Messages(page, began)
    with viewing(run) as process:
        assert process.stdout is not None
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address, "the viewer printed no address"
        seconds = {"address": time.monotonic() - began}
        page.goto(address[0])
        wait_for(page, lambda: is_drawn(page))
        seconds["drawn"] = time.monotonic() - began
        wait_for(page, page.get_by_label("Before optimisation").is_enabled)
        seconds["replayed"] = time.monotonic() - began
        status = page.get_by_text(re.compile("points of")).inner_text()
        peak_mb = peak_rss_mb(process.pid)
    page.context.close()
    assert messages.first_points_s is not None
    assert messages.last_points_s is not None
    seconds |= {"sent": messages.first_points_s, "all_points": messages.last_points_s}
    return {
        "seconds": {
            name: round(value, 2) for name, value in sorted(seconds.items(), key=lambda item: item[1])
        },
        "peak_mb": round(peak_mb, 1),
        "sent_mb": round(messages.bytes / 1e6, 2),
        "points": int(status.split()[0].replace(",", "")),
        "load": round(load, 1),
    }


def wait_for(page: Page, condition: Any) -> None:
    """Let the page work until something is true of it."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        page.wait_for_timeout(50)


def is_drawn(page: Page) -> bool:
    """Whether there is something on the canvas."""
    picture = np.asarray(cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR))
    return bool((picture[CANVAS].min(axis=2) < WHITE).mean() > COLOURED_SHARE)


def peak_rss_mb(pid: int) -> float:
    """Largest resident memory of a process until now, in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 / 1e6


def frames_of(run: Path) -> int:
    """How many frames a finished run has: lines of its TUM trajectory."""
    with (run / "trajectory_tum.txt").open(encoding="utf-8") as file:
        return sum(not line.startswith("#") for line in file)


def main() -> None:
    """Measure all runs, and write what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="JSON")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    executable = find_chromium()
    if executable is None:
        parser.error("no Chromium is installed (Debian: apt-get install chromium)")
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(executable), args=list(FLAGS))
        for run in arguments.runs:
            rounds = [measure(run, browser) for _ in range(arguments.rounds)]
            best = min(rounds, key=lambda result: result["seconds"]["sent"])
            found.append({"run": run.name, "frames": frames_of(run), **best})
            print(json.dumps(found[-1]), flush=True)
        browser.close()
    environment = describe_environment({"rounds": arguments.rounds})
    arguments.output.write_text(json.dumps({**environment, "runs": found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
