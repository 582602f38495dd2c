"""By which names a server may be called."""

from __future__ import annotations

import socket

import pytest

from da3stream.viewing.hosts import LOCAL_HOSTS, OwnNames, family_of, host_in, in_address


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("127.0.0.1:8080", "127.0.0.1"),
        ("LocalHost", "localhost"),
        ("[::1]:8080", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
        ("user@127.0.0.1:8080", "user@127.0.0.1"),
        ("a:b:c", ""),
        ("[::1", ""),
        ("127.0.0.1:x", ""),
    ],
)
def test_the_host_is_read_without_its_port(header: str, host: str) -> None:
    assert host_in(header) == host


@pytest.mark.parametrize("host", LOCAL_HOSTS)
def test_a_local_server_is_called_by_local_names_only(host: str) -> None:
    names = OwnNames(host)
    assert names.include("localhost")
    assert names.include("127.0.0.1")
    assert names.include("[::1]")
    for name in ("192.168.1.7", "[fe80::1]", "::1", socket.gethostname(), "", "0.0.0.0"):
        assert not names.include(name)
    assert "localhost" in names.advice


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "workstation.lan"])
def test_any_other_server_by_addresses_and_its_own_names(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Box.lab")
    monkeypatch.setattr("socket.getfqdn", lambda: "box.lab.example.org")
    names = OwnNames(host)
    for name in ("192.168.1.7", "10.0.0.1", "[fe80::1]", "localhost", "127.0.0.1"):
        assert names.include(name)
    for name in ("box", "box.lab", "box.local", "box.lab.example.org"):
        assert names.include(name)
    for name in ("", "rebound.example.com", "box.example.com", "user@127.0.0.1", "1.2.3.4.example.com"):
        assert not names.include(name)
    assert names.include("workstation.lan") == (host == "workstation.lan")
    assert "--host" in names.advice


@pytest.mark.parametrize(
    ("host", "address", "family"),
    [
        ("127.0.0.1", "127.0.0.1", socket.AF_INET),
        ("0.0.0.0", "0.0.0.0", socket.AF_INET),
        ("localhost", "localhost", socket.AF_INET),
        ("::1", "[::1]", socket.AF_INET6),
        ("::", "[::]", socket.AF_INET6),
    ],
)
def test_the_host_tells_how_to_listen_and_how_it_is_written(host: str, address: str, family: int) -> None:
    assert family_of(host) == family
    assert in_address(host) == address
