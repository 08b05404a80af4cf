"""Host and port as the headers ``Host`` and ``Origin`` write them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\Z"
)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^\[\]:@/?#\\\s]+)(:(?P<port>[0-9]{1,5}))?\Z")
DEFAULT_PORTS = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Authority:
    """Host and port.

    Attributes:
        host: a name in lower case, or an address in its shortest form, without brackets.
        port: None where none was given.
    """

    host: str
    port: int | None

    @property
    def address(self) -> Address | None:
        """The host as an address; None where it is a name."""
        return address_of(self.host)

    def port_for(self, scheme: str) -> int | None:
        """The port, or that of the scheme where none was given."""
        return self.port if self.port is not None else DEFAULT_PORTS.get(scheme)


def address_of(host: str) -> Address | None:
    """An address in one of the standard spellings; None for names, and for the historic ones such as ``127.1``."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def parse_authority(text: str) -> Authority | None:
    """``name``, ``name:port``, ``1.2.3.4:port`` or ``[::1]:port``, in any case; None if it is nothing of these."""
    match = _AUTHORITY.match(text.lower())
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 0 < port < 65536:
        return None
    bracketed = match["host"].startswith("[")
    host = match["host"].strip("[]")
    address = address_of(host)
    if bracketed != isinstance(address, ipaddress.IPv6Address):
        return None
    if address is None and not _NAME.match(host):
        return None
    return Authority(str(address) if address is not None else host, port)


def parse_origin(text: str) -> tuple[str, Authority] | None:
    """Scheme and authority of the header ``Origin``; None for ``null`` and for anything malformed."""
    scheme, separator, rest = text.partition("://")
    authority = parse_authority(rest) if separator and scheme in DEFAULT_PORTS else None
    return (scheme, authority) if authority is not None else None
