"""Child processes whose result may become unwanted."""

from __future__ import annotations

import sys
import threading

from da3stream.child_process import run_unless, signal_name

PYTHON = sys.executable


def test_a_command_runs_to_its_end_and_all_that_it_says_is_kept() -> None:
    script = "import sys, time; sys.stdout.write('x' * 10**6); time.sleep(0.5); print('y'); sys.exit('why')"
    done = run_unless(threading.Event(), [PYTHON, "-c", script])
    assert done.returncode == 1
    assert done.stdout == b"x" * 10**6 + b"y\n"
    assert done.stderr == b"why\n"


def test_what_nobody_wants_any_more_is_killed() -> None:
    unwanted = threading.Event()
    threading.Timer(0.5, unwanted.set).start()
    done = run_unless(unwanted, [PYTHON, "-c", "import time; time.sleep(600)"])
    assert signal_name(done.returncode) == "SIGKILL"
