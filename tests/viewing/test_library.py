"""The web server of the viewer's page: who may connect, and that it leaves the process as it was."""

from __future__ import annotations

import socket
import sys
import threading
import time
from typing import Any
from unittest.mock import MagicMock

import pytest

from da3stream.errors import ConfigError, MissingDependencyError
from da3stream.viewing import library
from da3stream.viewing.library import free_port, seconds_to_draw, start_server, stop_server

pytest.importorskip("viser", reason="needs viser: pip install 'da3stream[view]'")


def status_for(server: Any, origin: str | None, host: str = "127.0.0.1:8080", at: str = "127.0.0.1") -> int:
    """What a WebSocket of a page from `origin` is answered: 101 means that it may read everything."""
    import viser

    with socket.create_connection((at, server.get_port()), timeout=20) as connection:
        headers = [
            "GET / HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: viser-v{viser.__version__}",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *([] if origin is None else [f"Origin: {origin}"]),
        ]
        connection.sendall("\r\n".join([*headers, "", ""]).encode())
        return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://evil.example:8080",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example:80",
        "http://evil.example/http://localhost",
        "http://127.0.0.1:9999",  # another server of this machine
        "null",  # a sandboxed frame, or a file
    ],
)
def test_pages_from_elsewhere_cannot_read_the_content(server: Any, origin: str) -> None:
    assert status_for(server, origin) == 403


def test_a_page_elsewhere_cannot_come_by_a_name_of_its_own(server: Any) -> None:
    assert status_for(server, "http://evil.example:8080", "evil.example:8080") == 403
    assert status_for(server, None, "evil.example:8080") == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:1234", "localhost"])
def test_our_own_page_tunnels_and_programs_can(server: Any, host: str) -> None:
    assert status_for(server, f"http://{host}", host) == 101
    assert status_for(server, None, host) == 101


def test_a_server_for_everybody_is_open_to_its_own_page_by_its_own_names() -> None:
    server = start_server("0.0.0.0", 0)
    try:
        for host in ("192.168.0.7:8080", f"{socket.gethostname()}:8080"):
            assert status_for(server, f"http://{host}", host) == 101
            assert status_for(server, "http://evil.example", host) == 403
            assert status_for(server, "http://10.0.0.1:8080", host) == 403
        assert status_for(server, "http://evil.example:8080", "evil.example:8080") == 403
    finally:
        stop_server(server)


def test_servers_that_start_at_the_same_time_give_standard_output_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import websockets.asyncio.server as websockets_server

    serve, output, lasts = MagicMock(), sys.stdout, iter([0.3, 0.6])
    monkeypatch.setattr(websockets_server, "serve", serve)

    def slow(**options: Any) -> MagicMock:
        time.sleep(next(lasts))
        websockets_server.serve(MagicMock(), "127.0.0.1", 0)
        return MagicMock()

    monkeypatch.setattr("viser.ViserServer", slow)
    threads = [threading.Thread(target=start_server, args=("127.0.0.1", 0)) for _ in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert sys.stdout is output
    assert websockets_server.serve is serve


def test_a_viser_that_cannot_be_guarded_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    unguarded = MagicMock()
    monkeypatch.setattr("viser.ViserServer", lambda **options: unguarded)
    with pytest.raises(MissingDependencyError, match="any web page"):
        start_server("127.0.0.1", 0)
    unguarded.stop.assert_called_once_with()


class SlowClient:
    """Its pictures and its way take so many seconds on a clock that it moves; -1: it never answers."""

    def __init__(self, drawing_s: list[float], way_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self._drawing_s, self._way_s, self._now_s = iter(drawing_s), way_s, 0.0
        self.local_storage = self
        monkeypatch.setattr(library, "time", self)

    def monotonic(self) -> float:
        return self._now_s

    def get_render(self, height: int, width: int, timeout: float) -> None:
        seconds = next(self._drawing_s)
        if seconds < 0:
            raise TimeoutError
        self._now_s += seconds + self._way_s

    def get_item(self, key: str, timeout: float) -> None:
        self._now_s += self._way_s
        raise RuntimeError("the browser keeps nothing")


@pytest.mark.parametrize(
    ("drawing_s", "way_s", "expected"),
    [
        ([0.02], 0.0, 0.02),
        ([0.9, 0.3], 0.0, 0.3),
        ([0.0, 0.0], 0.3, 0.0),
        ([0.2, 0.1], 0.3, 0.1),
        ([-1], 0.0, None),
        ([0.2, -1], 0.0, None),
    ],
)
def test_drawing_is_timed_without_the_way_and_without_the_first_picture_if_that_is_slow(
    drawing_s: list[float], way_s: float, expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: Any = SlowClient(drawing_s, way_s, monkeypatch)
    assert seconds_to_draw(client) == (None if expected is None else pytest.approx(expected))


@pytest.mark.ipv6
@pytest.mark.parametrize(("host", "also"), [("::1", ["::1"]), ("", ["::1", "127.0.0.1"])])
def test_it_listens_by_ipv6(host: str, also: list[str]) -> None:
    server = start_server(host, 0)
    try:
        for at in also:
            assert status_for(server, "http://[::1]:8080", "[::1]:8080", at) == 101
            assert status_for(server, "http://evil.example", "[::1]:8080", at) == 403
            assert status_for(server, None, "evil.example", at) == 403
    finally:
        stop_server(server)


@pytest.mark.ipv6
@pytest.mark.parametrize("host", ["::1", "::", ""])
def test_a_port_that_is_taken_by_ipv6_is_refused(host: str) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match="already in use") as refused:
            free_port(host, port)
    assert f"[{host or '::'}]:{port}" in str(refused.value)
    assert "--port" in str(refused.value)
    assert "attempting" not in str(refused.value)
    assert free_port(host, 0) > 0


def test_all_addresses_are_free_only_if_those_of_ipv4_are() -> None:
    with (
        socket.create_server(("0.0.0.0", 0)) as taken,
        pytest.raises(ConfigError, match="already in use"),
    ):
        free_port("::", taken.getsockname()[1])


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "192.0.2.1", "[::1]"])
def test_a_host_that_is_none_of_this_machine_is_told_from_a_port(host: str) -> None:
    with pytest.raises(ConfigError) as refused:
        free_port(host, 0)
    assert host in str(refused.value)
    assert "--host" in str(refused.value)
    assert "--port" not in str(refused.value)
    assert "attempting" not in str(refused.value)


def test_a_machine_without_ipv6_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.has_dualstack_ipv6", lambda: False)
    with pytest.raises(ConfigError, match=r"\[::\]:0; got .* --host"):
        free_port("::", 0)


def test_a_port_that_no_machine_has_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="65536"):
        free_port("127.0.0.1", 65536)
