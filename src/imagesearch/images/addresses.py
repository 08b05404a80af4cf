"""Which addresses of the internet anybody may be sent to, and which belong to this machine or its network."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TypeAlias

from imagesearch.errors import UsageError

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

# Written down here rather than taken from ``ipaddress.is_global``, whose answers differ between Python's versions
# (CVE-2024-4032). From the IANA registries of special-purpose addresses (RFC 6890 and its updates).
_KINDS_4 = {
    "0.0.0.0/8": "this host",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared by a provider's customers",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "for documentation",
    "192.88.99.0/24": "a 6to4 relay",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "for benchmarks",
    "198.51.100.0/24": "for documentation",
    "203.0.113.0/24": "for documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
    # Public by number, but on a machine of Azure it is that machine's host, which hands out its secrets.
    "168.63.129.16/32": "a cloud's host",
}
_KINDS_6 = {
    "::/128": "this host",
    "::1/128": "loopback",
    "::ffff:0:0/96": "IPv4 inside IPv6",
    "::/96": "IPv4 inside IPv6",
    "64:ff9b::/96": "NAT64",
    "64:ff9b:1::/48": "NAT64",
    "100::/64": "discarded",
    "2001::/32": "Teredo",
    "2001::/23": "reserved",
    "2001:db8::/32": "for documentation",
    "2002::/16": "6to4",
    "3fff::/20": "for documentation",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "fec0::/10": "site-local",
    "ff00::/8": "multicast",
}
# All that is assigned to the public internet (RFC 4291, section 2.4; IANA's registry of unicast assignments).
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
# A host at the end of a tunnel through IPv4 (ISATAP, RFC 5214): the four bytes before the IPv4 address, the bit
# for "globally unique" aside.
_ISATAP = 0x00005EFE

_SPECIAL = tuple((ipaddress.ip_network(net), kind) for net, kind in {**_KINDS_4, **_KINDS_6}.items())


def networks(texts: Iterable[str], setting: str) -> tuple[Network, ...]:
    """Networks from texts such as ``"192.168.1.0/24"`` or ``"::1"``.

    Args:
        setting: where they were set, for the message.

    Raises:
        UsageError: one of them is none.
    """
    parsed = []
    for text in texts:
        try:
            parsed.append(ipaddress.ip_network(text))
        except ValueError as error:
            raise UsageError(f"{setting}: {text!r} is no network ({error}); write 192.168.1.0/24") from error
    return tuple(parsed)


def special_kind(address: Address, allowed: Iterable[Network] = ()) -> str | None:
    """What is special about an address that is not a public one; None for a public one.

    Args:
        allowed: networks that pass for public. An IPv4 network does not allow the same address inside IPv6.

    Examples:
        >>> special_kind(ipaddress.ip_address("10.1.2.3"))
        'private'
        >>> special_kind(ipaddress.ip_address("::ffff:8.8.8.8"))
        'IPv4 inside IPv6'
        >>> special_kind(ipaddress.ip_address("8.8.8.8")) is None
        True
    """
    if any(address in network for network in allowed):
        return None
    for network, kind in _SPECIAL:
        if address in network:
            return kind
    if isinstance(address, ipaddress.IPv6Address):
        if address not in _GLOBAL_6:
            return "reserved"
        if int(address) >> 32 & 0xFDFFFFFF == _ISATAP:
            return "ISATAP"
    return None
