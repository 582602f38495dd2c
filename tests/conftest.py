"""Fixtures for all tests."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

# Before numpy is imported: BLAS threads gain nothing on small matrices and fight over the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from tests.browser import chromium as chromium


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real clips; tests that need it carry the marker `data`."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("DA3STREAM_SHARED", default))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real clips in {folder}; set DA3STREAM_SHARED")
    return folder


@pytest.fixture(scope="session")
def finished_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `da3stream demo` leaves behind, after a minute: for slow tests. Leave it as it is."""
    from click.testing import CliRunner

    from da3stream.cli.demo import command

    folder = tmp_path_factory.mktemp("demo") / "da3stream_demo"
    result = CliRunner().invoke(command, ["-o", str(folder)], catch_exceptions=False)
    assert result.exit_code == 0
    return folder


@pytest.fixture(scope="module", autouse=True)
def no_power_cuts() -> Iterator[None]:
    """No test cuts the power for real, and waiting for the disk would take half of the time of the suite.

    That the store forces the right things to the disk in the right order is what tests/store and the recorded
    file systems of tests/faults look at.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which also refuses what is no open file
        yield


@pytest.fixture(autouse=True)
def skip_without_ipv6(request: pytest.FixtureRequest) -> None:
    """Tests with the marker `ipv6` need it."""
    if request.node.get_closest_marker("ipv6") is not None:
        try:
            socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")


MAY_SKIP = {"gpu", "weights", "ipv6"}
"""Markers of tests that need what not every machine has."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """With DA3STREAM_FORBID_SKIPS set, say which skips made the session fail."""
    for report in _forbidden_skips():
        terminalreporter.write_line(f"FORBIDDEN SKIP {report}", red=True)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.OK and _forbidden_skips():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and not MAY_SKIP & set(report.keywords):
        _SKIPPED.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _SKIPPED.append(report.nodeid)


_SKIPPED: list[str] = []


def _forbidden_skips() -> list[str]:
    return _SKIPPED if os.environ.get("DA3STREAM_FORBID_SKIPS") else []
