"""Which addresses are public."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesearch.errors import UsageError
from imagesearch.images.addresses import networks, special_kind

NOT_PUBLIC = {
    "0.0.0.0": "this host",
    "0.1.2.3": "this host",
    "10.255.255.255": "private",
    "100.64.0.1": "shared by a provider's customers",
    "100.127.255.254": "shared by a provider's customers",
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "168.63.129.16": "a cloud's host",
    "169.254.169.254": "link-local",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.192": "reserved",
    "192.168.0.1": "private",
    "198.18.0.1": "for benchmarks",
    "224.0.0.1": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "::": "this host",
    "::1": "loopback",
    "::ffff:127.0.0.1": "IPv4 inside IPv6",
    "::ffff:8.8.8.8": "IPv4 inside IPv6",
    "::127.0.0.1": "IPv4 inside IPv6",
    "64:ff9b::10.0.0.1": "NAT64",
    "64:ff9b:1::10.0.0.1": "NAT64",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2": "Teredo",
    "2001:db8::1": "for documentation",
    "2002:7f00:1::": "6to4",
    "2606:4700::5efe:7f00:1": "ISATAP",
    "2606:4700::200:5efe:7f00:1": "ISATAP",
    "fc00::1": "private",
    "fd12:3456::1": "private",
    "fe80::1": "link-local",
    "fe80::1%2": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
    "4000::1": "reserved",
    "5f00::1": "reserved",
}


@pytest.mark.parametrize(("text", "kind"), NOT_PUBLIC.items())
def test_special_addresses_are_told_apart(text: str, kind: str) -> None:
    assert special_kind(ipaddress.ip_address(text)) == kind


@pytest.mark.parametrize(
    "text",
    [
        *("1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0"),
        *("172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "223.255.255.255"),
        *("2606:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888", "2003::1", "2606:4700::5eff:7f00:1"),
    ],
)
def test_public_addresses_pass(text: str) -> None:
    assert special_kind(ipaddress.ip_address(text)) is None


@settings(deadline=None)
@given(st.ip_addresses())
def test_what_passes_is_public_for_python_too(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if special_kind(address) is None:
        kinds = ("private", "loopback", "link_local", "multicast", "reserved", "unspecified")
        assert not [kind for kind in kinds if getattr(address, f"is_{kind}")]


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_no_form_of_an_ipv4_address_inside_ipv6_passes(address: ipaddress.IPv4Address) -> None:
    for prefix in ("::", "::ffff:0:0", "64:ff9b::", "64:ff9b:1::", "2a00::5efe:0:0"):
        inside = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) + int(address))
        assert special_kind(inside, networks(["0.0.0.0/0"], "test"))
    assert special_kind(ipaddress.IPv6Address((0x2002 << 112) + (int(address) << 80)))


def test_a_network_can_be_allowed() -> None:
    allowed = networks(["192.168.1.0/24", "::1"], "search.url_networks")
    assert special_kind(ipaddress.ip_address("192.168.1.9"), allowed) is None
    assert special_kind(ipaddress.ip_address("::1"), allowed) is None
    assert special_kind(ipaddress.ip_address("192.168.2.9"), allowed) == "private"
    assert special_kind(ipaddress.ip_address("127.0.0.1"), allowed) == "loopback"


@pytest.mark.parametrize("text", ["here", "192.168.1.1/24", "300.1.1.1", ""])
def test_what_is_no_network_is_said(text: str) -> None:
    with pytest.raises(UsageError, match=r"search\.url_networks: .* is no network"):
        networks([text], "search.url_networks")
