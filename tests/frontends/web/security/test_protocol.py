"""Connections of clients that do not keep to the rules, on a real server with raw sockets."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import logging
import socket
import time
from collections.abc import Iterator

import pytest

from imagesearch.frontends.web.security.layers import secured
from imagesearch.frontends.web.security.policy import policy_for

from .harness import TOKEN, listen, read_all, serving, small_app, status_of
from .sites import Site, body_of, drip, read_response, served, wait_until

# Short enough for tests, and far enough from each other that a slow machine cannot mix them up.
QUICK = {
    "max_body_bytes": 200_000,
    "body_seconds": 0.5,
    "header_seconds": 0.5,
    "linger_seconds": 0.5,
    "write_seconds": 0.7,
    "keep_alive_seconds": 1,
    "max_connections": 3,
}


@pytest.fixture(scope="module")
def the_site() -> Iterator[Site]:
    yield from served(lambda policy: dataclasses.replace(policy, **QUICK))


@pytest.fixture
def site(the_site: Site) -> Iterator[Site]:
    """Every attack leaves the server as it was: without connections, and answering."""
    yield the_site
    wait_until(lambda: the_site.connections == 0)
    assert status_of(the_site.say("GET /healthz HTTP/1.1\nHOST\nConnection: close\n\n")) == 200
    wait_until(lambda: the_site.connections == 0)


def test_a_request(site: Site) -> None:
    response = site.say("GET /api/x HTTP/1.1\nHOST\nConnection: close\n\n")
    assert status_of(response) == 200
    head = response.partition(b"\r\n\r\n")[0].lower()
    assert b"\r\nserver:" not in head
    assert b"uvicorn" not in head
    assert b"\r\ndate:" in head


def test_answers_do_not_wait_for_acknowledgements(site: Site) -> None:
    with site.connect():
        wait_until(lambda: site.connections == 1)
        (protocol,) = site.server.server_state.connections
        connection = protocol.transport.get_extra_info("socket")
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_headers_that_never_end(site: Site) -> None:
    """Each byte within any time between bytes, and yet not for ever (slowloris)."""
    with site.connect() as connection:
        took = drip(connection, site.request("GET /api/x HTTP/1.1\nHOST\nX-Long: ") + b"x" * 500)
        response = read_all(connection)
    assert status_of(response) == 408
    assert b"x-content-type-options: nosniff" in response
    assert took < 5


def test_a_connection_that_says_nothing(site: Site) -> None:
    with site.connect() as connection:
        assert read_all(connection) == b""


def test_blank_lines_are_no_request(site: Site) -> None:
    with site.connect() as connection:
        assert drip(connection, b"\r\n" * 300) < 5
        response = read_all(connection)
    assert response == b"" or status_of(response) in (400, 408)


def test_the_second_request_is_bounded_as_the_first(site: Site) -> None:
    with site.connect() as connection:
        connection.sendall(site.request("GET /api/x HTTP/1.1\nHOST\n\n"))
        assert status_of(read_response(connection)) == 200
        assert drip(connection, site.request("GET /api/x HTTP/1.1\nHOST\nX-Long: ") + b"x" * 500) < 5
        assert status_of(read_all(connection)) == 408


def test_the_clock_for_headers_stops_with_them(site: Site) -> None:
    """A connection may be older than the time for headers, if it has requests."""
    with site.connect() as connection:
        connection.settimeout(10)
        for _ in range(4):
            connection.sendall(site.request("GET /api/x HTTP/1.1\nHOST\n\n"))
            assert status_of(read_response(connection)) == 200
            time.sleep(0.25)


def test_a_connection_without_requests_is_closed(site: Site) -> None:
    with site.connect() as connection:
        connection.sendall(site.request("GET /api/x HTTP/1.1\nHOST\n\n"))
        started = time.monotonic()
        assert status_of(read_all(connection)) == 200
        assert 0.5 < time.monotonic() - started < 6


def test_requests_may_follow_each_other_at_once(site: Site) -> None:
    two = "GET /api/1 HTTP/1.1\nHOST\n\nGET /api/2 HTTP/1.1\nHOST\nConnection: close\n\n"
    response = site.say(two)
    assert response.count(b"HTTP/1.1 200 OK") == 2
    assert response.index(b"/api/1") < response.index(b"/api/2")


@pytest.mark.parametrize("count", [1, 40])
def test_headers_that_are_too_long(site: Site, count: int) -> None:
    """In one line or in many, and however much of them arrives at once."""
    lines = "".join(f"X-{number}: {'x' * (100_000 // count)}\n" for number in range(count))
    response = site.say(f"GET /api/x HTTP/1.1\nHOST\nConnection: close\n{lines}\n")
    assert status_of(response) == 431
    assert b"content-security-policy: default-src 'none'" in response
    assert b"application/problem+json" in response


def test_headers_that_are_too_long_before_they_end(site: Site) -> None:
    with site.connect() as connection:
        connection.sendall(site.request("GET /api/x HTTP/1.1\nHOST\nX-Long: "))
        for _ in range(3):
            connection.sendall(b"x" * 30_000)
            time.sleep(0.05)  # so that they do not arrive at once
        response = read_all(connection)
    assert status_of(response) == 431
    assert body_of(response)["detail"] == "the headers are too long"


def test_too_many_headers(site: Site) -> None:
    lines = "".join(f"X-{number}: x\n" for number in range(200))
    assert status_of(site.say(f"GET /api/x HTTP/1.1\nHOST\nConnection: close\n{lines}\n")) == 431


def test_a_long_address(site: Site) -> None:
    assert status_of(site.say(f"GET /{'x' * 9000} HTTP/1.1\nHOST\nConnection: close\n\n")) == 414


@pytest.mark.parametrize(
    ("text", "statuses"),
    [
        ("nonsense\n\n", (400,)),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", (400,)),  # TLS
        ("GET /api/x HTTP/1.1\n\n", (400,)),
        ("GET /api/x HTTP/1.0\n\n", (400,)),
        ("GET /api/x HTTP/1.1\nHOST\nHOST\n\n", (400,)),
        ("GET /api/x HTTP/1.1\nHOST\nHost: evil.example\n\n", (400,)),
        ("GET /api/x HTTP/1.1\nHost: evil.example\nConnection: close\n\n", (421,)),
        ("GET /api/x HTTP/1.1\nHost: a b\n\n", (400,)),
        ("GET /api/x HTTP/1.1\nHOST\nBad Header: x\n\n", (400,)),
        ("GET /api/x HTTP/1.1\nHOST\n Folded: x\n\n", (400, 421)),
        ("GET /api/x HTTP/1.1\nHOST\nX: a\x00b\n\n", (400,)),
        ("GET /api/\x01 HTTP/1.1\nHOST\n\n", (400,)),
        ("GET /api/%0d%0aX:%20y HTTP/1.1\nHOST\nConnection: close\n\n", (400,)),
        ("GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\nHOST\nConnection: close\n\n", (400,)),
        ("GET /../../etc/passwd HTTP/1.1\nHOST\nConnection: close\n\n", (400,)),
        ("GET http://evil.example/ HTTP/1.1\nHOST\nConnection: close\n\n", (400,)),
        ("CONNECT evil.example:443 HTTP/1.1\nHOST\nConnection: close\n\n", (400,)),
        ("OPTIONS * HTTP/1.1\nHOST\nConnection: close\n\n", (400,)),
        ("POST /api/x HTTP/1.1\nHOST\nContent-Length: -1\n\n", (400,)),
        ("POST /api/x HTTP/1.1\nHOST\nContent-Length: 1e9\n\n", (400,)),
        ("POST /api/x HTTP/1.1\nHOST\nContent-Length: 1\nContent-Length: 2\n\nx", (400,)),
        ("POST /api/x HTTP/1.1\nHOST\nContent-Length: 4\nTransfer-Encoding: chunked\n\n0\n\n", (400,)),
        ("POST /api/x HTTP/1.1\nHOST\nTransfer-Encoding: gzip, chunked\n\n0\n\n", (501,)),
        ("POST /api/x HTTP/1.1\nHOST\nTransfer-Encoding: xchunked\n\n0\n\n", (501,)),
    ],
)
def test_malformed_requests_are_answered_and_closed(site: Site, text: str, statuses: tuple[int, ...]) -> None:
    response = site.say(text)
    assert status_of(response) in statuses
    assert b"x-frame-options: DENY" in response
    assert body_of(response)["status"] == status_of(response)


def test_a_websocket_is_not_opened(site: Site) -> None:
    upgrade = "Connection: Upgrade, close\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAA"
    assert status_of(site.say(f"GET /api/x HTTP/1.1\nHOST\n{upgrade}\n\n")) == 200


def test_an_announced_body_is_refused_before_it_is_sent(site: Site) -> None:
    started = time.monotonic()
    response = site.say("POST /api/x HTTP/1.1\nHOST\nContent-Length: 25000001\nExpect: 100-continue\n\n")
    assert status_of(response) == 413
    assert time.monotonic() - started < 5


def test_the_refusal_of_a_body_can_be_read_after_sending_it(site: Site) -> None:
    """Closing a connection with unread data in it resets it, and browsers then show no answer at all."""
    for _ in range(5):
        client = http.client.HTTPConnection("localhost", site.port, timeout=10)
        client.request("POST", "/api/x", body=bytes(600_000))
        response = client.getresponse()
        assert response.status == 413
        assert "200,000 bytes" in json.loads(response.read())["detail"]
        client.close()
        wait_until(lambda: site.connections == 0)  # of which there may be three


def test_a_body_without_a_length_that_is_too_long(site: Site) -> None:
    chunk = f"{0x10000:x}\r\n".encode() + bytes(0x10000) + b"\r\n"
    with site.connect() as connection:
        connection.sendall(site.request("POST /api/x HTTP/1.1\nHOST\nTransfer-Encoding: chunked\n\n"))
        for _ in range(5):
            connection.sendall(chunk)
        assert status_of(read_all(connection)) == 413


def test_a_body_without_an_end_is_cut(site: Site) -> None:
    """It is read for a while, so that the answer arrives, but not for ever."""
    chunk = f"{0x10000:x}\r\n".encode() + bytes(0x10000) + b"\r\n"
    started = time.monotonic()
    with site.connect() as connection:
        connection.sendall(site.request("POST /api/early HTTP/1.1\nHOST\nTransfer-Encoding: chunked\n\n"))
        with contextlib.suppress(OSError):  # reset, or a broken pipe
            while time.monotonic() - started < 9:
                connection.sendall(chunk)
    assert time.monotonic() - started < 8


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_slow_body(site: Site, framing: str) -> None:
    with site.connect() as connection:
        connection.sendall(site.request(f"POST /api/x HTTP/1.1\nHOST\n{framing}\n\n"))
        data = b"x" * 500 if "Length" in framing else b"1\r\nx\r\n" * 100
        assert drip(connection, data) < 5
        response = read_all(connection)
    assert status_of(response) == 408
    assert b"connection: close" in response


def test_a_body_that_breaks_the_rules(site: Site) -> None:
    with site.connect() as connection:
        connection.sendall(site.request("POST /api/x HTTP/1.1\nHOST\nTransfer-Encoding: chunked\n\n5\nhello\n"))
        time.sleep(0.1)
        connection.sendall(b"not-a-length\r\n")
        assert status_of(read_all(connection)) == 400


def test_a_client_that_leaves_in_the_middle(site: Site) -> None:
    for text in ("GET /api", "GET /api/x HTTP/1.1\nHOST\n", "POST /api/x HTTP/1.1\nHOST\nContent-Length: 9\n\nx"):
        with site.connect() as connection:
            connection.sendall(site.request(text))
    with site.connect() as connection:
        connection.sendall(site.request("GET /api/large HTTP/1.1\nHOST\n\n"))
        connection.recv(1000)


def test_a_client_that_reads_nothing(site: Site) -> None:
    with site.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(site.request("GET /api/large HTTP/1.1\nHOST\n\n"))
        wait_until(lambda: site.connections == 1)
        wait_until(lambda: site.connections == 0)


def test_an_answer_that_is_never_fetched_is_forgotten() -> None:
    """One that is small enough for the server to be done with it, but not for the network."""
    listener, port = listen()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    policy = dataclasses.replace(policy_for("127.0.0.1", port, None), **QUICK)
    with serving(secured(small_app, policy), policy, listener) as server, socket.socket() as connection:
        site = Site(server, port)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect(("127.0.0.1", port))
        connection.sendall(site.request("GET /api/medium HTTP/1.1\nHOST\nConnection: close\n\n"))
        wait_until(lambda: server.server_state.total_requests == 1)
        assert site.connections == 1
        wait_until(lambda: site.connections == 0)


def test_connections_are_bounded(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Those beyond are told to come back, and many more are not even told."""
    caplog.set_level(logging.INFO, logger="imagesearch.web")
    held = [site.connect() for _ in range(3)]
    wait_until(lambda: site.connections == 3)
    response = site.say("GET /healthz HTTP/1.1\nHOST\n\n")
    assert status_of(response) == 503
    assert b"retry-after: 5" in response.lower()
    assert b"content-security-policy" in response
    assert [record.fields["status"] for record in caplog.records if hasattr(record, "fields")] == [503]
    for connection in held:
        connection.close()
    wait_until(lambda: site.connections == 0)
    assert status_of(site.say("GET /healthz HTTP/1.1\nHOST\nConnection: close\n\n")) == 200


def test_twice_as_many_connections_are_cut(site: Site) -> None:
    held = [site.connect() for _ in range(12)]
    cut = 0
    for connection in held[6:]:
        try:
            connection.settimeout(0.2)
            cut += connection.recv(1) == b""
        except ConnectionResetError:
            cut += 1
        except TimeoutError:
            pass
    assert cut == 6
    assert site.connections <= 6
    for connection in held:
        connection.close()


def test_forwarded_addresses_are_believed_from_proxies_only(caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise whoever guesses tokens could come from another address each time."""
    caplog.set_level(logging.INFO, logger="imagesearch.web")
    for proxies, expected in (([], "127.0.0.1"), (["127.0.0.1"], "203.0.113.9"), (["10.0.0.1"], "127.0.0.1")):
        for site in served(lambda policy: policy, TOKEN, proxies=proxies):
            forwarded = "X-Forwarded-For: 203.0.113.9\nX-Forwarded-Proto: https\nX-Forwarded-Host: evil.example"
            caplog.clear()
            assert status_of(site.say(f"GET /healthz HTTP/1.1\nHOST\nConnection: close\n{forwarded}\n\n")) in (
                200,
                421,
            )
            wait_until(lambda: bool(caplog.records))
            assert caplog.records[-1].fields["client"] == expected  # type: ignore[attr-defined]


def test_no_token_reaches_any_log(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    for site in served(lambda policy: policy, TOKEN):
        logging.getLogger("uvicorn.error").setLevel(logging.DEBUG)
        for text in (
            f"GET /api/x?token={TOKEN} HTTP/1.1\nHOST\nConnection: close\n\n",
            f"GET /share/{TOKEN} HTTP/1.1\nHOST\nConnection: close\n\n",
            f"GET /api/x HTTP/1.1\nHOST\nAuthorization: Bearer {TOKEN}\nConnection: close\n\n",
            f"GET /api/x?token={TOKEN} HTTP/1.1\nbad header\n\n",
            f"GET /api/fails HTTP/1.1\nHOST\nAuthorization: Bearer {TOKEN}\nConnection: close\n\n",
        ):
            site.say(text)
    output = "".join(capfd.readouterr()) + caplog.text + str([vars(record) for record in caplog.records])
    assert "imagesearch.web" in output
    assert TOKEN not in output
