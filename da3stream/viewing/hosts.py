"""By which names a server may be called: a page elsewhere may come by a name of its own (DNS rebinding)."""

from __future__ import annotations

import ipaddress
import re
import socket

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
ALL_ADDRESSES = ("0.0.0.0", "::", "")
"""IPv4 alone; IPv4 and IPv6; the same, as asyncio wants it."""
_HOST_HEADER = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:\d*)?")


def host_in(header: str) -> str:
    """The name or address in a `Host` header, in lower case, without the port; IPv6 in its brackets.

    Empty if the header is none.
    """
    parts = _HOST_HEADER.fullmatch(header.strip())
    return parts[1].lower() if parts else ""


def in_address(host: str) -> str:
    """A host as it stands in addresses: IPv6 in brackets, as of `host_in`."""
    return f"[{host}]" if ":" in host else host


def family_of(host: str) -> socket.AddressFamily:
    """How to listen on a host: by IPv4 if it has such an address, else by IPv6.

    Raises:
        socket.gaierror: there is no such host.
        UnicodeError: nor can there be one.
    """
    found = socket.getaddrinfo(host or "::", None, type=socket.SOCK_STREAM)
    families = {family for family, *_ in found}
    return socket.AF_INET if socket.AF_INET in families else socket.AF_INET6


class OwnNames:
    """What a server that listens on an address is called.

    One that listens on this machine alone: `LOCAL_HOSTS`. Any other: every IP address, because a page
    elsewhere can make a name of its own lead here, but no address, and routers give this machine addresses
    that it does not know; the host it was told to listen on; the names of this machine.
    """

    def __init__(self, host: str) -> None:
        self._is_local = host in LOCAL_HOSTS
        others = set() if self._is_local else {host.lower(), *_machine_names()} - {""}
        self._names = {*map(in_address, LOCAL_HOSTS), *others}

    def include(self, name: str) -> bool:
        """Whether it is called so; `name` as of `host_in`."""
        return name in self._names or (not self._is_local and _is_address(name))

    def may_ask(self, host: str, origin: str | None) -> bool:
        """Whether a request is answered: it calls us by our name, and comes from our own page or from none.

        Browsers let any page connect to a WebSocket of any machine, and tell it only where the page comes
        from (RFC 6455, section 10.2). Programs tell nothing.

        Args:
            host: the `Host` header.
            origin: the `Origin` header, if there is one.
        """
        is_ours = origin is None or origin.partition("://")[2].lower() == host.lower()
        return is_ours and self.include(host_in(host))

    @property
    def advice(self) -> str:
        """For who calls it by another name."""
        if self._is_local:
            names = ", ".join(map(in_address, LOCAL_HOSTS))
            return f"This server answers to {names} only: ask for one of them."
        return "This server does not know that name: ask for its IP address, or start it with --host NAME."


def _machine_names() -> set[str]:
    name = socket.gethostname().lower()
    short = name.split(".")[0]
    return {name, socket.getfqdn().lower(), short, f"{short}.local"}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
