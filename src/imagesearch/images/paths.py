"""Writing any file path as one line of UTF-8 text, and reading it back.

A path on disk is bytes: it may hold a newline, or bytes that are not valid text. Milvus strings and
the lines of a ``_paths.txt`` may not. Ordinary paths stay as they are; the others become a ``file:``
URI with percent-encoded bytes, which is reversible and which other programs understand too.
"""

from __future__ import annotations

from urllib.parse import quote_from_bytes, unquote_to_bytes

_SCHEME = "file:"
_AUTHORITY = "file://"

# Percent-encoded paths keep these characters readable; "%" itself is always encoded.
_SAFE = "/!$&'()*+,;=:@-._~"


def encode_path(path: str) -> str:
    r"""One line of UTF-8 text for a path as :func:`os.fsdecode` gives it.

    >>> encode_path("/photos/Łódź 1.jpg")
    '/photos/Łódź 1.jpg'
    >>> encode_path("/photos/two\nlines.jpg")
    'file:///photos/two%0Alines.jpg'
    >>> encode_path("caf\udce9.jpg")
    'file:caf%E9.jpg'
    """
    if _is_plain(path):
        return path
    prefix = _AUTHORITY if path.startswith("/") else _SCHEME
    return prefix + quote_from_bytes(path.encode("utf-8", "surrogateescape"), safe=_SAFE)


def decode_path(text: str) -> str:
    r"""The inverse of :func:`encode_path`; text that is no ``file:`` URI is a path already.

    >>> decode_path("file:///photos/two%0Alines.jpg")
    '/photos/two\nlines.jpg'
    >>> decode_path("file://localhost/a.jpg")
    '/a.jpg'
    """
    if not text.startswith(_SCHEME):
        return text
    encoded = text.removeprefix(_SCHEME)
    if encoded.startswith("//"):
        encoded = encoded.removeprefix("//").removeprefix("localhost")
    return unquote_to_bytes(encoded).decode("utf-8", "surrogateescape")


def _is_plain(path: str) -> bool:
    """Whether the path can stand as it is: one line, text, no edge whitespace, not like our URIs."""
    if not path or path != path.strip() or path.startswith(_SCHEME):
        return False
    # str.splitlines knows more line ends than "\n" (form feed, U+2028, ...); so do other readers.
    if len(path.splitlines()) != 1:
        return False
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
