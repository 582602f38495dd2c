"""By which names a server may be called: a page elsewhere may come by a name of its own (DNS rebinding)."""

from __future__ import annotations

import ipaddress
import re
import socket

LOCAL_HOSTS = ("127.0.0.1", "localhost")
_HOST_HEADER = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:\d*)?")


def host_in(header: str) -> str:
    """The name or address in a `Host` header, in lower case, without the port; IPv6 in its brackets.

    Empty if the header is none.
    """
    parts = _HOST_HEADER.fullmatch(header.strip())
    return parts[1].lower() if parts else ""


class OwnNames:
    """What a server that listens on an address is called.

    One that listens on this machine alone: `LOCAL_HOSTS`. Any other: every IP address, because a page
    elsewhere can make a name of its own lead here, but no address, and routers give this machine addresses
    that it does not know; the host it was told to listen on; the names of this machine.
    """

    def __init__(self, host: str) -> None:
        self._is_local = host in LOCAL_HOSTS
        others = set() if self._is_local else {host.lower(), *_machine_names()} - {""}
        self._names = {*LOCAL_HOSTS, *others}

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
            return f"This server answers to {' and '.join(LOCAL_HOSTS)} only: ask for one of them."
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
