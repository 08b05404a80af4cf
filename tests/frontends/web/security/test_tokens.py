"""Tokens: where they come from, and that none is taken from an address."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesearch.errors import UsageError
from imagesearch.frontends.web.security.layers import secured
from imagesearch.frontends.web.security.policy import policy_for
from imagesearch.frontends.web.security.tokens import Secret, make_token, read_token_file, write_secret_file

from .harness import CLOSED, OPEN, OWNER, TOKEN, ask, bearer, small_app

posix = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")


def token_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "token"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_made_tokens_are_long_and_differ() -> None:
    tokens = {make_token() for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {43}


def test_a_token_is_read_without_its_line_end(tmp_path: Path) -> None:
    assert read_token_file(token_file(tmp_path, f"  {TOKEN}\r\n".encode())) == TOKEN


@posix
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o620, 0o610])
def test_a_token_that_others_may_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    path = token_file(tmp_path, TOKEN.encode(), mode)
    with pytest.raises(UsageError, match=f"chmod 600 {path}"):
        read_token_file(path)
    monkeypatch.setattr("imagesearch.frontends.web.security.tokens._MOUNTED_SECRETS", f"{tmp_path}/")
    assert read_token_file(path) == TOKEN


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "this one has 0"),
        (b"fifteen-letters", "this one has 15"),
        (b"x" * 2000, "this one has 2000"),
        ("schlüsselschlüssel".encode(), "other than ASCII"),
        (b"two words of a token", "without spaces"),
        (b"two-lines-of-a\ntoken-file", "without spaces"),
        (b"control\x00character-token", "without spaces"),
    ],
)
def test_what_is_no_token_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_token_file(token_file(tmp_path, content))
    assert not content or content.decode("utf-8") not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent.*No such file"):
        read_token_file(tmp_path / "absent")
    with pytest.raises(UsageError, match="cannot be read"):
        read_token_file(tmp_path)


def test_a_written_secret_can_be_read_back(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    for secret in (make_token(), make_token()):
        write_secret_file(path, secret)
        assert read_token_file(path) == secret
    assert not list(tmp_path.glob("*.tmp"))
    with pytest.raises(UsageError, match="cannot be written"):
        write_secret_file(tmp_path / "absent" / "secret", TOKEN)


@posix
def test_a_written_secret_was_never_open_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = token_file(tmp_path, b"old", 0o644)
    modes = []
    original = os.replace

    def replace(source: Path, target: Path) -> None:
        modes.append(stat.S_IMODE(Path(source).stat().st_mode))
        original(source, target)

    monkeypatch.setattr(os, "replace", replace)
    before = os.umask(0)
    try:
        write_secret_file(path, TOKEN)
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@posix
def test_a_secret_is_not_written_through_a_link(tmp_path: Path) -> None:
    """Whoever may write into the folder must not choose the file that is overwritten."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    path = tmp_path / "secret"
    path.symlink_to(victim)
    (tmp_path / f"secret.{os.getpid()}.tmp").symlink_to(victim)
    write_secret_file(path, TOKEN)
    assert victim.read_text() == "untouched"
    assert not path.is_symlink()


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_only_the_secret_matches(text: str) -> None:
    secret = Secret(TOKEN)
    assert secret.matches(text) is (text == TOKEN)
    assert secret.is_within(text) is (TOKEN in text)
    assert secret.is_within(text + TOKEN + text)
    assert not secret.is_within(TOKEN[:-1])
    assert not secret.is_within(TOKEN[1:] + TOKEN[:-1])


LEAKS = [
    f"/api/search?token={TOKEN}",
    f"/api/search?access_token={TOKEN}",
    f"/api/search?key={TOKEN}",
    f"/api/search?TOKEN={TOKEN}",
    f"/api/search?x=1&%74oken={TOKEN}",
    "/api/search?token=wrong",
    "/api/search?token",
    "/api/search?token=",
    f"/api/search?anything={TOKEN}",
    f"/api/search?{TOKEN}",
    f"/api/search?{TOKEN}=1",
    f"/api/search?x={TOKEN.replace('c', '%63')}",
    f"/share/{TOKEN}",
    f"/share/x{TOKEN}.jpg",
    f"/share/{TOKEN.replace('c', '%63')}/x",
    f"/api/search?x={OWNER}",
    f"/login?token={TOKEN}",
    f"/healthz?token={TOKEN}",
]


@pytest.mark.parametrize("target", LEAKS)
def test_no_token_in_an_address_even_the_right_one(target: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for headers in ((), (bearer(TOKEN),)):
        reply = ask(secured(small_app, CLOSED), "GET", target, *headers)
        assert reply.status == 400
        assert "Authorization: Bearer" in reply.json["detail"]
        logged = " ".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
        for secret in (TOKEN, OWNER):
            assert secret not in logged
            assert secret.encode() not in reply.body
    assert [record.name for record in caplog.records if record.name != "asyncio"] == ["imagesearch.web"] * 2


@pytest.mark.parametrize("headers", [(("host", "evil.example"),), (("content-length", "99999999"),)])
def test_a_secret_in_a_path_is_not_logged_whatever_else_is_wrong(
    headers: tuple[tuple[str, str], ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert ask(secured(small_app, CLOSED), "GET", f"/share/{TOKEN}/x", *headers).status in (413, 421)
    assert "withheld" in str([vars(record) for record in caplog.records])
    assert TOKEN not in str([vars(record) for record in caplog.records])


def test_a_token_with_plus_and_slash_is_found_too() -> None:
    token = "abc+def/ghi+jkl=mno"
    app = secured(small_app, policy_for("127.0.0.1", 8000, token))
    for written in (token, "abc%2Bdef%2Fghi%2Bjkl%3Dmno"):
        assert ask(app, "GET", f"/api/search?x={written}").status == 400


def test_user_and_password_in_an_address_are_refused() -> None:
    """Browsers and curl turn ``http://user:TOKEN@host/`` into basic authentication."""
    import base64

    shown = base64.b64encode(f"user:{TOKEN}".encode()).decode()
    for policy in (OPEN, CLOSED):
        assert ask(secured(small_app, policy), "GET", "/api/x", ("authorization", f"Basic {shown}")).status == 400
    absolute = ask(secured(small_app, CLOSED), "GET", f"http://user:{TOKEN}@localhost:8000/api/x", bearer(TOKEN))
    assert absolute.status == 400


def test_other_words_in_an_address_are_fine() -> None:
    app = secured(small_app, CLOSED)
    assert ask(app, "GET", "/api/search?text=house+key&k=5&tokens=3", bearer(TOKEN)).status == 200
