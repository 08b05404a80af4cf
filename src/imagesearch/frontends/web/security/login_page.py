"""The page that asks for the token: plain HTML that works without JavaScript."""

from __future__ import annotations

from functools import lru_cache
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from imagesearch.frontends.web.security.policy import LOGIN_PATH, LOGIN_STYLE_PATH, LOGOUT_PATH

_LONGEST_NEXT = 2_000

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Log in - ImageSearch</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{style}">
</head>
<body>
<main>
<h1>ImageSearch</h1>
{error}<form method="post" action="{action}">
<input type="hidden" name="next" value="{next}">
<input type="text" name="user" autocomplete="username" value="imagesearch" hidden>
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus
 spellcheck="false" autocapitalize="none" aria-describedby="hint"{invalid}>
<p id="hint">It was printed when the server was started, or lies in the file that was given
with <code>--token-file</code>.</p>
<button type="submit">Log in</button>
</form>
</main>
</body>
</html>
"""

_FOLLOWED_LINK = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>ImageSearch</title>
<meta name="color-scheme" content="light dark">
<meta http-equiv="refresh" content="0;url={target}">
<link rel="icon" href="data:,">
</head>
<body>
<p><a href="{target}">Continue to ImageSearch</a></p>
</body>
</html>
"""


def login_page(next_path: str = "/", error: str | None = None) -> bytes:
    """The page as UTF-8.

    Args:
        next_path: where to go after the login; replaced by "/" unless it is a path of this server.
        error: what was wrong with the last attempt.
    """
    message = f'<p class="error" id="error" role="alert">{escape(error)}</p>\n' if error else ""
    return _PAGE.format(
        style=LOGIN_STYLE_PATH,
        action=LOGIN_PATH,
        next=escape(safe_next(next_path)),
        error=message,
        invalid=' aria-invalid="true" aria-errormessage="error"' if error else "",
    ).encode()


def followed_link_page(target: str) -> bytes:
    """A page that goes on to a path of this server by itself.

    Browsers withhold the cookie of a login when a link on another site leads here; from this page on they send it.
    """
    return _FOLLOWED_LINK.format(target=escape(safe_next(target))).encode()


@lru_cache(maxsize=1)
def login_style() -> bytes:
    """The style sheet of the page, a file of its own because the security policy allows no other."""
    return Path(__file__).with_name("login.css").read_bytes()


def safe_next(text: str) -> str:
    """A path of this server, with its query; "/" in place of everything that could lead elsewhere.

    Browsers read ``//host``, ``/\\host`` and ``/<tab>/host`` as addresses of other servers.
    """
    is_plain = text.isascii() and all("!" <= character <= "~" for character in text) and "\\" not in text
    if not is_plain or not text.startswith("/") or text.startswith("//") or len(text) > _LONGEST_NEXT:
        return "/"
    parts = urlsplit(text)
    if parts.scheme or parts.netloc or parts.path in (LOGIN_PATH, LOGOUT_PATH):
        return "/"
    return text
