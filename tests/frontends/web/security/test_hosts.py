"""A website that lets its name point to this machine (DNS rebinding) is not answered."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesearch.errors import UsageError
from imagesearch.frontends.web.security.authorities import Authority, parse_authority, parse_origin
from imagesearch.frontends.web.security.layers import secured
from imagesearch.frontends.web.security.policy import Policy, needs_token, policy_for

from .harness import CLOSED, OPEN, OWNER, TOKEN, ask, small_app

NETWORK = policy_for("0.0.0.0", 8000, TOKEN)
NAMED = policy_for("127.0.0.1", 8000, TOKEN, hosts=["Photos.Example", "other.example:8443"])


def status(policy: Policy, *hosts: str) -> int:
    headers = [("host", host) for host in hosts]
    if not hosts:
        headers = [("host", "")]
    return ask(secured(small_app, policy), "GET", "/healthz", *headers).status


@pytest.mark.parametrize(
    "host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:8000", "[0:0::1]:8000"]
)
def test_own_names_are_answered(host: str) -> None:
    assert status(OPEN, host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8000",
        "localhost.evil.example:8000",
        "evil-localhost:8000",
        "localhost",  # port 80
        "localhost:8001",
        "127.0.0.1:80",
        "127.0.0.2:8000",
        "0.0.0.0:8000",
        "[::]:8000",
        "192.168.1.5:8000",
        "[::ffff:127.0.0.1]:8000",
        "127.1:8000",
        "2130706433:8000",
        "0x7f.0.0.1:8000",
        "localhost.:8000",
    ],
)
def test_other_names_are_misdirected_on_loopback(host: str) -> None:
    assert status(OPEN, host) in (400, 421)
    assert status(CLOSED, host) in (400, 421)


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "localhost:8000@evil.example",
        "evil.example@localhost:8000",
        "localhost:8000/",
        "localhost:8000?x",
        "localhost:8000#x",
        "localhost:8000, evil.example",
        "localhost:8000 evil.example",
        "localhost:",
        "localhost:0",
        "localhost:99999",
        "localhost:8000:8000",
        "[::1:8000",
        "::1:8000",
        "[localhost]:8000",
        "[127.0.0.1]:8000",
        "[fe80::1%eth0]:8000",
        "http://localhost:8000",
        "localhost\x00:8000",
        "löcalhost:8000",
        "localhost:\uff18\uff10\uff10\uff10",
        "a" * 300 + ":8000",
    ],
)
def test_malformed_hosts_are_bad_requests(host: str) -> None:
    assert parse_authority(host.strip()) is None
    if all(ord(character) < 256 for character in host):
        assert status(OPEN, host) == 400


def test_a_host_is_given_once() -> None:
    assert status(OPEN, "localhost:8000", "localhost:8000") == 400
    assert status(OPEN, "localhost:8000", "evil.example") == 400
    assert status(OPEN) == 400


def test_a_forwarded_host_counts_for_nothing() -> None:
    app = secured(small_app, OPEN)
    for name in ("x-forwarded-host", "forwarded", "x-host", "x-original-host"):
        assert ask(app, "GET", "/healthz", ("host", "evil.example"), (name, "localhost:8000")).status == 421
        assert ask(app, "GET", "/healthz", (name, "evil.example")).status == 200


@pytest.mark.parametrize("host", ["192.168.1.5:8000", "10.0.0.1", "[2001:db8::1]:9000", "localhost:9000"])
def test_addresses_are_no_names_that_point_elsewhere(host: str) -> None:
    assert status(NETWORK, host) == 200


@pytest.mark.parametrize("host", ["evil.example:8000", "0.0.0.0:8000", "[::]:8000", "224.0.0.1:8000"])
def test_names_are_refused_on_the_network_too(host: str) -> None:
    assert status(NETWORK, host) == 421


def test_the_machine_knows_its_own_name() -> None:
    assert status(NETWORK, f"{socket.gethostname()}:8000") == 200
    assert status(NETWORK, f"{socket.gethostname()}.evil.example:8000") == 421


def test_configured_names_are_answered() -> None:
    assert status(NAMED, "photos.example") == 200
    assert status(NAMED, "photos.example:1234") == 200
    assert status(NAMED, "other.example:8443") == 200
    assert status(NAMED, "other.example") == 421
    assert status(NAMED, "sub.photos.example") == 421


def test_the_refusal_reaches_no_application() -> None:
    async def never(scope: object, receive: object, send: object) -> None:
        raise AssertionError("reached")

    reply = ask(secured(never, OPEN), "GET", "/", ("host", "evil.example"))
    assert reply.status == 421
    assert "--allow-host" in reply.json["detail"]
    assert "evil" not in reply.json["detail"]


@pytest.mark.parametrize(
    ("host", "hosts", "needed"),
    [
        ("127.0.0.1", [], False),
        ("::1", [], False),
        ("localhost", [], False),
        ("127.0.0.1", ["localhost:9000"], False),
        ("0.0.0.0", [], True),
        ("::", [], True),
        ("", [], True),
        ("192.168.1.5", [], True),
        ("photos.example", [], True),
        ("127.0.0.1", ["photos.example"], True),
    ],
)
def test_who_needs_a_token(host: str, hosts: list[str], needed: bool) -> None:
    assert needs_token(host, hosts=hosts) is needed
    if needed:
        with pytest.raises(UsageError, match="--token-file"):
            policy_for(host, 8000, None, hosts=hosts)
    else:
        assert policy_for(host, 8000, None, hosts=hosts).token is None
    assert policy_for(host, 8000, TOKEN, hosts=hosts).token == TOKEN


@pytest.mark.parametrize("name", ["http://photos.example", "photos.example/x", "", "a b", "*", "*.example"])
def test_what_is_no_host_is_no_setting(name: str) -> None:
    with pytest.raises(UsageError, match="is no host"):
        policy_for("127.0.0.1", 8000, TOKEN, hosts=[name])


def test_secrets_do_not_show() -> None:
    assert TOKEN not in repr(CLOSED)
    assert OWNER not in repr(CLOSED)


def test_impossible_policies_are_refused() -> None:
    with pytest.raises(UsageError, match="every user would be the owner"):
        policy_for("127.0.0.1", 8000, TOKEN, owner_secret=TOKEN)
    with pytest.raises(UsageError, match="16 to 512"):
        policy_for("127.0.0.1", 8000, "short")
    with pytest.raises(UsageError, match="max_body_bytes"):
        policy_for("127.0.0.1", 8000, None, max_body_bytes=0)
    with pytest.raises(UsageError, match="no address of a proxy"):
        policy_for("127.0.0.1", 8000, TOKEN, proxies=["proxy.example"])


@given(st.ip_addresses(), st.none() | st.integers(1, 65535))
def test_addresses_are_read_as_they_are_written(address: object, port: int | None) -> None:
    host = f"[{address}]" if ":" in str(address) else str(address)
    text = host if port is None else f"{host}:{port}"
    assert parse_authority(text) == Authority(str(address), port)
    assert parse_origin(f"https://{text}") == ("https", Authority(str(address), port))


@given(st.text(max_size=40))
def test_nothing_that_is_read_has_a_second_meaning(text: str) -> None:
    authority = parse_authority(text)
    if authority is not None:
        assert not set(authority.host) & set("/?#@\\%, \t\r\n\x00")
        assert parse_authority(authority.host if ":" not in authority.host else f"[{authority.host}]") is not None


@pytest.mark.parametrize(
    "origin", ["null", "", "localhost:8000", "file://", "http://", "ftp://localhost", "http://a/b"]
)
def test_what_is_no_origin(origin: str) -> None:
    assert parse_origin(origin) is None
