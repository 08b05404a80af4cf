"""The secrets that let requests in: made, read from files, compared without telling how much of them was right."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

import numpy as np

from imagesearch.errors import UsageError

SHORTEST_TOKEN = 16
_LONGEST_TOKEN = 512
# Where container engines put secrets, with the rights that they had outside: inside there are no others.
_MOUNTED_SECRETS = "/run/secrets/"


def make_token() -> str:
    """A new random token: 256 bits, 43 characters that need no quoting anywhere."""
    return secrets.token_urlsafe(32)


def check_token(token: str, source: str) -> str:
    """The token, if it is long enough and can travel in a header.

    Args:
        source: where it comes from, for the message.

    Raises:
        UsageError: it is too short, too long, or has spaces or other than visible ASCII characters in it.
    """
    if not SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN:
        raise UsageError(
            f"{source}: a token has {SHORTEST_TOKEN} to {_LONGEST_TOKEN} characters, this one has {len(token)};"
            " 'openssl rand -base64 32' makes one"
        )
    if not all("!" <= character <= "~" for character in token):
        raise UsageError(f"{source}: a token is one line of visible ASCII characters without spaces")
    return token


def read_token_file(path: Path) -> str:
    """The token in a file, without white space around it.

    Raises:
        UsageError: the file cannot be read, others than its owner may read or change it (not checked on Windows,
            nor where container engines put secrets), or what it holds is no token (see ``check_token``).
    """
    try:
        # What was checked is what is read, even if somebody puts another file in its place.
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_LONGEST_TOKEN * 8)
    except OSError as error:
        raise UsageError(f"the token file {str(path)!r} cannot be read: {error.strerror}") from error
    is_mounted = os.path.abspath(path).startswith(_MOUNTED_SECRETS)
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO) and not is_mounted:
        raise UsageError(f"the token file {str(path)!r} is open to other users of this machine: chmod 600 {path}")
    try:
        token = content.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"the token file {str(path)!r} holds other than ASCII characters") from error
    return check_token(token, f"the token file {str(path)!r}")


def write_secret_file(path: Path, secret: str) -> None:
    """Write a secret to a file that only its owner can read, at no time anybody else; replaces what is there.

    Raises:
        UsageError: it cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        # Never an existing file or link: with O_EXCL the mode is that of a file made here.
        number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(number, "w", encoding="ascii") as file:
            file.write(secret + "\n")
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be written: {error.strerror}") from error


class Secret:
    """A secret to compare with. No comparison tells by its time how much of a guess was right."""

    def __init__(self, value: str) -> None:
        self._value = np.frombuffer(value.encode("ascii"), dtype=np.uint8)
        self._digest = digest_of(value)

    def matches(self, given: str) -> bool:
        """Whether it is the secret."""
        return hmac.compare_digest(digest_of(given), self._digest)

    def is_within(self, text: str) -> bool:
        """Whether the secret stands anywhere in a text; 1 ms for 8,000 characters."""
        content = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
        if len(content) < len(self._value):
            return False
        windows = np.lib.stride_tricks.sliding_window_view(content, len(self._value))
        # Counted to the end, where a search would stop at the first character that differs.
        return bool(np.count_nonzero(np.count_nonzero(windows != self._value, axis=1) == 0))


def digest_of(value: str) -> bytes:
    """SHA-256 of a text, 32 bytes."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()
