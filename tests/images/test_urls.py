"""Pictures from URLs: what arrives, and what is refused in bounded time."""

from __future__ import annotations

import io
import shutil
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from imagesearch.errors import PictureError, UsageError
from imagesearch.images import connections
from imagesearch.images.sources import load_image
from imagesearch.images.urls import FetchLimits, fetch, is_url, shown

from ..conftest import draw_picture
from .test_addresses import NOT_PUBLIC
from .web_server import drips, endless, redirect, response, sends, serving

HERE = ("127.0.0.1/32",)
# Whatever is refused is refused in less than this many seconds.
BOUND = 2.0


def png(number: int = 1) -> bytes:
    file = io.BytesIO()
    draw_picture(number).save(file, "PNG")
    return file.getvalue()


PNG = png()


def limits(**more: Any) -> FetchLimits:
    return FetchLimits(**{"seconds": 1.0, "networks": HERE, **more})


def refused(url: str, context: ssl.SSLContext | None = None, **more: Any) -> PictureError:
    """The error with which a URL is refused, in bounded time."""
    start = time.monotonic()
    with pytest.raises(PictureError) as caught:
        fetch(url, limits=limits(**more), context=context)
    assert time.monotonic() - start < BOUND
    assert "\n" not in str(caught.value)
    return caught.value


class TestWhatArrives:
    def test_a_picture(self) -> None:
        with serving(sends(response(PNG))) as server:
            data = fetch(f"{server.url}/a.png", limits=limits())
        assert data == PNG
        assert load_image(data).size == (96, 64)

    @pytest.mark.parametrize("kind", [None, "IMAGE/PNG; x=y", "application/octet-stream", "image/x-whatever"])
    def test_the_bytes_decide_where_the_type_leaves_it_open(self, kind: str | None) -> None:
        with serving(sends(response(PNG, kind))) as server:
            assert fetch(server.url, limits=limits()) == PNG

    def test_in_chunks(self) -> None:
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (PNG[:10], PNG[10:]))
        with serving(sends(response(chunks + b"0\r\n\r\n", "image/png", "Transfer-Encoding: chunked"))) as server:
            assert fetch(server.url, limits=limits()) == PNG

    def test_without_a_length(self) -> None:
        with serving(sends(b"HTTP/1.0 200 OK\r\nContent-Type: image/png\r\n\r\n" + PNG)) as server:
            assert fetch(server.url, limits=limits()) == PNG

    def test_what_is_asked_for(self) -> None:
        with serving(sends(response(PNG))) as server:
            fetch(f"{server.url}/bilder/ä b%20c.png?key=ü&x=1#part", limits=limits())
            head = server.requests[0].splitlines()
        assert head[0] == "GET /bilder/%C3%A4%20b%20c.png?key=%C3%BC&x=1 HTTP/1.1"
        assert f"Host: 127.0.0.1:{server.port}" in head
        assert "Accept-Encoding: identity" in head
        assert not [line for line in head if line.lower().startswith(("cookie", "authorization", "referer"))]

    def test_bytes_that_are_no_text_are_asked_for_as_they_are(self) -> None:
        with serving(sends(response(PNG))) as server:
            fetch(f"{server.url}/caf\udce9.png", limits=limits())
            assert "GET /caf%E9.png " in server.requests[0]

    def test_proxies_of_the_environment_are_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving(sends(response(PNG))) as server, serving(sends(response(png(2)))) as proxy:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
                monkeypatch.setenv(name, proxy.url)
            assert fetch(server.url, limits=limits()) == PNG
            assert not proxy.requests

    def test_after_redirects(self) -> None:
        with serving(redirect("/ä b"), redirect("c", "308 Permanent Redirect"), sends(response(PNG))) as server:
            assert fetch(f"{server.url}/a/", limits=limits()) == PNG
            asked = [head.split(" ")[1] for head in server.requests]
        assert asked == ["/a/", "/%C3%A4%20b", "/c"]

    def test_as_many_redirects_as_are_allowed(self) -> None:
        with serving(*[redirect(f"/{n}") for n in range(5)], sends(response(PNG))) as server:
            assert fetch(server.url, limits=limits()) == PNG


class TestAddresses:
    @pytest.fixture(autouse=True)
    def no_other_connections(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing but the test's own servers may be connected to, whatever the outcome."""
        original = connections.connect

        def connect(found: Any, deadline: Any) -> Any:
            assert {entry[4][0] for entry in found} == {"127.0.0.1"}
            return original(found, deadline)

        monkeypatch.setattr("imagesearch.images.urls.connect", connect)

    LITERALS = tuple(
        f"[{text}]" if ":" in text else text for text in NOT_PUBLIC if text != "127.0.0.1" and "%" not in text
    )
    # 127.0.0.2, or the "private" 10.0.0.1, in forms that only resolvers understand.
    DISGUISED = (
        *("2130706434", "0x7f000002", "017700000002", "0177.0.0.2", "0x7f.2", "127.2", "127.0.2"),
        *("167772161", "012.0.0.1", "0xa.1", "0", "\N{FULLWIDTH DIGIT ONE}0.0.0.1", "[::ffff:0a00:0001]"),
    )

    @pytest.mark.parametrize("host", [*LITERALS, *DISGUISED])
    def test_what_is_not_public_is_refused(self, host: str) -> None:
        assert "not on the public internet" in refused(f"http://{host}/").reason

    @pytest.mark.parametrize("host", [*LITERALS, *DISGUISED])
    def test_and_as_the_target_of_a_redirect(self, host: str) -> None:
        with serving(redirect(f"http://{host}/")) as server:
            assert refused(server.url).reason.startswith("redirects to ")
            assert len(server.requests) == 1

    def test_this_machine_is_refused_unless_allowed(self) -> None:
        with serving(sends(response(PNG))) as server, pytest.raises(PictureError, match="loopback"):
            fetch(server.url)
        assert not server.requests

    @pytest.mark.parametrize("bad", ["10.0.0.1", "::1", "::ffff:127.0.0.1"])
    def test_one_bad_address_of_several_is_enough(self, bad: str, monkeypatch: pytest.MonkeyPatch) -> None:
        resolves(monkeypatch, ["127.0.0.1", bad])
        assert "not on the public internet" in refused("http://mixed.example/").reason

    def test_a_name_is_resolved_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So that a name server with another answer the second time gains nothing."""
        with serving(sends(response(PNG))) as server:
            asked = resolves(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
            assert fetch(f"http://rebinding.example:{server.port}/", limits=limits()) == PNG
            assert f"Host: rebinding.example:{server.port}" in server.requests[0]
        assert asked == ["rebinding.example"]

    def test_and_again_after_a_redirect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving(redirect("/again")) as server:
            asked = resolves(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
            error = refused(f"http://rebinding.example:{server.port}/")
        assert asked == ["rebinding.example"] * 2
        assert error.reason.endswith(
            "rebinding.example is not on the public internet: its address is 10.0.0.1 (private)"
        )

    def test_a_resolver_that_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(4))
        assert refused("http://slow.example/", seconds=0.2).retryable

    def test_a_host_that_is_not_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        error = refused("http://nowhere.example/")
        assert error.reason == "there is no host 'nowhere.example'"
        assert not error.retryable


def resolves(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let names lead to these addresses, each time to the next ones.

    Returns:
        The names that are asked for, as they are.
    """
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        asked.append(host)
        addresses = answers[min(len(asked), len(answers)) - 1]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (text, port, 0, 0))
            if ":" in text
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port))
            for text in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("ftp://example.org/a.jpg", "neither http:// nor https://"),
            ("file:///etc/passwd", "neither http:// nor https://"),
            ("http://me:secret@example.org/", "a user or a password"),
            ("http://me:secret/x@example.org/", "is no URL"),
            ("http://8.8.8.8\\@127.0.0.1/", "a user or a password"),
            ("http://127.0.0.1\\.example.org/", "no valid host name"),
            ("http://a b/", "no valid host name"),
            ("http:///a.jpg", "no valid host name"),
            ("http://[fe80::1%25eth0]/", "no valid host name"),
            (f"http://{'a' * 300}.example/", "no valid host name"),
            (f"http://{'ä' * 300}.example/", "no valid host name"),
            (f"http://{'a' * 64}.example/", "no valid host name"),
            ("http://a..example/", "no valid host name"),
            ("http://example.org:99999/", "is no URL"),
            ("http://example.org:0/", "port 0"),
            ("http://[::1/", "is no URL"),
            ("http://example.org/\r\nHost: 127.0.0.1", "control characters"),
            ("http://exa\tmple.org/", "control characters"),
            ("http://example.org/\ud83d.png", "half of a surrogate pair"),
            (f"http://example.org/{'a' * 9000}", "longer than 8,192"),
        ],
    )
    def test_what_is_no_url_to_fetch(self, url: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = resolves(monkeypatch, ["127.0.0.1"])
        error = refused(url)
        assert reason in error.reason
        assert "secret" not in str(error)
        assert not asked

    @pytest.mark.parametrize(
        ("location", "reason"),
        [
            ("file:///etc/passwd", "neither http:// nor https://"),
            ("ftp://127.0.0.1/", "neither http:// nor https://"),
            ("http://me:secret@127.0.0.1/", "a user or a password"),
            ("http://[::1", "is no URL"),
            ("//[", "is no URL"),
        ],
    )
    def test_what_is_none_to_be_sent_to(self, location: str, reason: str) -> None:
        with serving(redirect(location)) as server:
            error = refused(server.url)
        assert reason in error.reason
        assert "secret" not in str(error)

    def test_errors_do_not_tell_secrets(self) -> None:
        with serving(sends(response(b"no", status="403 Forbidden"))) as server:
            error = refused(f"{server.url}/a.jpg?signature=secret#secret")
        assert error.path == f"{server.url}/a.jpg?..."
        assert "secret" not in str(error)

    @pytest.mark.parametrize(
        ("url", "text"),
        [
            ("http://me:secret@example.org:81/a.jpg", "http://***@example.org:81/a.jpg"),
            ("http://me:se/cret@example.org/a.jpg", "http://***"),
            ("http://me:se?cret@example.org/a.jpg", "http://***"),
            ("http://secret@", "http://***@"),
            ("https://example.org/@me/a.jpg?secret#secret", "https://example.org/@me/a.jpg?..."),
            ("https://[::1]:8443/@me?", "https://[::1]:8443/@me?..."),
            ("http://example.org", "http://example.org"),
            ("http://" + "a" * 1000, "http://" + "a" * 192 + "…"),
        ],
    )
    def test_what_is_shown_of_a_url(self, url: str, text: str) -> None:
        assert shown(url) == text

    def test_what_looks_like_a_url(self) -> None:
        assert is_url("http://example.org")
        assert not is_url("pictures/http.jpg")

    @pytest.mark.parametrize("wrong", [{"seconds": 0}, {"max_bytes": 0}, {"redirects": -1}, {"networks": ("x",)}])
    def test_limits_that_make_no_sense(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            FetchLimits(**wrong)


class TestTooMuch:
    def test_a_length_that_is_announced(self) -> None:
        with serving(sends(response(b"", "image/png", "Content-Length: 30000000000"))) as server:
            assert "has 30,000,000,000 bytes: more than the 25,000,000" in refused(server.url).reason

    def test_a_body_that_never_ends(self) -> None:
        with serving(endless(b"HTTP/1.0 200 OK\r\nContent-Type: image/png\r\n\r\n", bytes(4096))) as server:
            assert "more than the 1,000,000 bytes" in refused(server.url, max_bytes=1_000_000).reason

    @pytest.mark.parametrize("chunk", [b"1000\r\n" + bytes(4096) + b"\r\n", b"1;" + b"x" * 2000 + b"\r\n\0\r\n"])
    def test_chunks_that_never_end(self, chunk: bytes) -> None:
        start = response(b"", "image/png", "Transfer-Encoding: chunked")
        with serving(endless(start, chunk)) as server:
            assert "more than the 200,000 bytes" in refused(server.url, max_bytes=200_000).reason

    @pytest.mark.parametrize("line", [b"X: 1\r\n", b"X: " + b"y" * 40_000 + b"\r\n", b"z"])
    def test_headers_that_never_end(self, line: bytes) -> None:
        with serving(endless(b"HTTP/1.1 200 OK\r\n", line)) as server:
            assert refused(server.url).reason.startswith(
                ("sends more than 64 KB of headers", "the server does not")
            )

    def test_promises_of_an_answer_that_never_end(self) -> None:
        with serving(endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n")) as server:
            assert refused(server.url).reason == "sends more than 64 KB of headers"

    def test_a_picture_of_too_many_pixels(self) -> None:
        with serving(sends(response(PNG))) as server:
            assert "exceed the bound" in refused(server.url, max_megapixels=0.001).reason

    def test_just_as_much_as_is_allowed(self) -> None:
        with serving(sends(response(PNG))) as server:
            assert fetch(server.url, limits=limits(max_bytes=len(PNG))) == PNG
            assert "more than" in refused(server.url, max_bytes=len(PNG) - 1).reason

    def test_a_byte_more_where_no_length_is_said(self) -> None:
        with serving(sends(b"HTTP/1.0 200 OK\r\nContent-Type: image/png\r\n\r\n" + PNG)) as server:
            assert fetch(server.url, limits=limits(max_bytes=len(PNG))) == PNG
            assert "more than" in refused(server.url, max_bytes=len(PNG) - 1).reason


class TestTooSlow:
    TIME = 0.4

    def check(self, server_url: str, context: ssl.SSLContext | None = None) -> None:
        error = refused(server_url, context, seconds=self.TIME)
        assert error.reason.endswith("not there after 0.4 seconds")
        assert error.retryable

    def test_silence(self) -> None:
        with serving(lambda _: time.sleep(3)) as server:
            self.check(server.url)

    def test_a_slow_status_line(self) -> None:
        with serving(drips(response(PNG))) as server:
            self.check(server.url)

    def test_slow_headers(self) -> None:
        with serving(drips(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50)) as server:
            self.check(server.url)

    def test_a_slow_body(self) -> None:
        head = response(b"", "image/png", f"Content-Length: {len(PNG)}")

        def answer(plug: socket.socket) -> None:
            plug.sendall(head)
            drips(PNG)(plug)

        with serving(answer) as server:
            self.check(server.url)

    @pytest.mark.parametrize("hello", [b"", b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc" + bytes(200)])
    def test_slow_encryption(self, hello: bytes) -> None:
        def answer(plug: socket.socket) -> None:
            drips(hello)(plug)
            time.sleep(2)

        with serving(answer, reads_first=False) as server:
            self.check(f"https://127.0.0.1:{server.port}/")

    def test_slow_redirects(self) -> None:
        def answer(plug: socket.socket) -> None:
            time.sleep(0.15)
            redirect("/next")(plug)

        with serving(answer) as server:
            self.check(server.url)

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere connections beyond the queue are refused")
    def test_an_address_that_never_answers_leaves_time_for_the_next(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving(sends(response(PNG))) as server, full_queue() as port:
            both = [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number))
                for number in (port, server.port)
            ]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
            assert fetch("http://two.example/", limits=limits()) == PNG


class full_queue:
    """A port whose queue of connections is full: further ones wait."""

    def __enter__(self) -> int:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=0)
        self._waiting = []
        for _ in range(4):
            plug = socket.socket()
            plug.setblocking(False)
            plug.connect_ex(self._listening.getsockname())
            self._waiting.append(plug)
        return self._listening.getsockname()[1]

    def __exit__(self, *_: object) -> None:
        for plug in (*self._waiting, self._listening):
            plug.close()


class TestWrongAnswers:
    @pytest.mark.parametrize(
        ("kind", "body", "reason"),
        [
            ("text/html; charset=utf-8", b"<html>", "is not a picture but 'text/html'"),
            ("image/svg+xml", b"<svg/>", "is not a picture but 'image/svg+xml'"),
            ("application/json", b"{}", "is not a picture but 'application/json'"),
            ("image/png", b"<!DOCTYPE html><p>", "is not a picture but a web page"),
            ("application/octet-stream", b"<svg xmlns='x'/>", "is not a picture but an SVG drawing"),
            ("application/octet-stream", b"root:x:0:0:root", "is not a picture"),
            ("image/png", b"", "is empty (0 bytes)"),
        ],
    )
    def test_what_is_no_picture(self, kind: str, body: bytes, reason: str) -> None:
        with serving(sends(response(body, kind))) as server:
            error = refused(server.url)
        assert error.reason.startswith(reason)
        assert error.path == server.url

    @pytest.mark.parametrize("coding", ["gzip", "br", "GZIP, identity"])
    def test_what_is_compressed(self, coding: str) -> None:
        with serving(sends(response(PNG, "image/png", f"Content-Encoding: {coding}"))) as server:
            assert "is sent compressed" in refused(server.url).reason

    def test_what_ends_too_early(self) -> None:
        with serving(sends(response(PNG[:50], "image/png", f"Content-Length: {len(PNG)}"))) as server:
            error = refused(server.url)
        assert error.reason == f"the connection ended after 50 of {len(PNG)} bytes"
        assert error.retryable

    def test_chunks_that_end_too_early(self) -> None:
        with serving(sends(response(b"ff\r\nabc", "image/png", "Transfer-Encoding: chunked"))) as server:
            assert refused(server.url).reason == "the connection ended too early"

    @pytest.mark.parametrize("bytes_", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 100, b"HTTP/1.1 abc\r\n\r\n"])
    def test_what_is_no_http(self, bytes_: bytes) -> None:
        with serving(sends(bytes_)) as server:
            assert refused(server.url).reason.startswith("the server does not speak HTTP")

    @pytest.mark.parametrize(
        ("status", "retryable"),
        [
            ("404 Not Found", False),
            ("503 Sorry\x1b[31m", True),
            ("299 \u00e9", False),
            ("304 Not Modified", False),
        ],
    )
    def test_other_answers(self, status: str, retryable: bool) -> None:
        with serving(sends(response(b"", status=status))) as server:
            error = refused(server.url)
        assert error.reason.startswith(f"the server answers {status[:3]} (")
        assert error.reason.isprintable()
        assert error.retryable is retryable

    def test_a_redirect_to_nowhere(self) -> None:
        with serving(sends(response(b"", status="302 Found"))) as server:
            assert refused(server.url).reason == "the server answers 302 (Found)"

    def test_redirects_in_a_circle(self) -> None:
        with serving(redirect("/a")) as server:
            assert refused(f"{server.url}/a").reason == "redirects more than 5 times"
            assert len(server.requests) == 6

    def test_nothing_listens(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        error = refused(f"http://127.0.0.1:{port}/")
        assert error.reason == f"127.0.0.1, port {port}: connection refused"
        assert error.retryable


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for ``pictures.example``, signed by itself, and its key."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl, which makes the certificate, is not here")
    folder = tmp_path_factory.mktemp("tls")
    key, chain = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *(program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", key, "-out", chain, "-days", "2", "-subj", "/CN=pictures.example"),
            *("-addext", "subjectAltName=DNS:pictures.example"),
        ],
        check=True,
        capture_output=True,
    )
    return chain, key


class TestEncryption:
    @pytest.fixture
    def server_side(self, certificate: tuple[Path, Path]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        return context

    @pytest.fixture
    def trusting(self, certificate: tuple[Path, Path]) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(certificate[0]))

    def test_the_name_is_verified_although_the_address_is_connected_to(
        self, server_side: ssl.SSLContext, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names: list[str | None] = []
        server_side.sni_callback = lambda _, name, __: names.append(name)
        with serving(sends(response(PNG)), context=server_side) as server:
            resolves(monkeypatch, ["127.0.0.1"])
            data = fetch(f"https://pictures.example:{server.port}/", limits=limits(), context=trusting)
        assert data == PNG
        assert names == ["pictures.example"]

    def test_the_certificate_of_another_name(
        self, server_side: ssl.SSLContext, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with serving(sends(response(PNG)), context=server_side) as server:
            resolves(monkeypatch, ["127.0.0.1"])
            error = refused(f"https://other.example:{server.port}/", trusting)
        assert error.reason.startswith("the server's certificate is not good: Hostname mismatch")
        assert not server.requests

    def test_a_certificate_that_nobody_vouches_for(
        self, server_side: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with serving(sends(response(PNG)), context=server_side) as server:
            resolves(monkeypatch, ["127.0.0.1"])
            error = refused(f"https://pictures.example:{server.port}/")
        assert error.reason.startswith("the server's certificate is not good: self")
        assert not server.requests

    def test_no_encryption_where_it_should_be(self) -> None:
        with serving(sends(response(PNG)), reads_first=False) as server:
            assert refused(f"https://127.0.0.1:{server.port}/").reason.startswith("no encrypted connection")

    def test_a_redirect_that_leaves_encryption(
        self, server_side: ssl.SSLContext, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with serving(sends(response(PNG))) as plain:
            there = redirect(f"http://pictures.example:{plain.port}/a")
            with serving(there, context=server_side) as server:
                resolves(monkeypatch, ["127.0.0.1"])
                error = refused(f"https://pictures.example:{server.port}/", trusting)
        assert error.reason.endswith("not followed, because it leaves encryption")
        assert not plain.requests

    def test_a_slow_body_in_encryption(
        self, server_side: ssl.SSLContext, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with serving(drips(response(PNG)), context=server_side) as server:
            resolves(monkeypatch, ["127.0.0.1"])
            error = refused(f"https://pictures.example:{server.port}/", trusting, seconds=0.4)
        assert error.reason == "not there after 0.4 seconds"
