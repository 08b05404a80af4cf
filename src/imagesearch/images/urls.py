"""Pictures from the web: a URL's bytes, fetched so that nobody's URL can reach into this machine or its network.

A URL that somebody else wrote (in a list of queries, in a redirect) must not make this program ask a router, a
database or a cloud's metadata service. The name is therefore resolved once, every address it has must be public,
and the connection goes to exactly the address that was checked, so that a name server that changes its answer
gains nothing. Redirects are followed by hand, each checked like the first URL. Every port is allowed.

Proxies of the environment (``http_proxy``, ...) are not used: a proxy resolves the name itself, so nothing of this
could be promised. On a network that reaches IPv4 by NAT64 only, ``64:ff9b::/96`` has to be allowed; one that does
so with a prefix of its own (RFC 6052, section 2.2) is not recognised as such.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import string
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import NoReturn, cast
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from imagesearch.errors import PictureError, UsageError
from imagesearch.images.addresses import Network, networks
from imagesearch.images.connections import (
    BoundedSocket,
    Deadline,
    NotPublicError,
    TooMuchError,
    connect,
    encrypted,
    resolve,
)
from imagesearch.images.files import MAX_MEGAPIXELS, open_image

_PORTS = {"http": 80, "https": 443}
# Longer ones are refused by most servers, too.
_MAX_URL = 8192
# http.client itself would take 100 headers of 64 KB each, and any number of "100 Continue" before them.
_MAX_HEADERS = 64 << 10
_PART = 64 << 10
_REDIRECTS = (301, 302, 303, 307, 308)
# What may succeed a little later (RFC 9110, section 15; RFC 6585).
_PASSING = (408, 425, 429, 500, 502, 503, 504)
# The second is what Amazon S3 says of files of which it was told nothing.
_UNTYPED = ("application/octet-stream", "binary/octet-stream")
_MAX_SHOWN = 200
# A host, and a port if there is one.
_PLACE = re.compile(r"(\[[^\]]*\]|[^:@]*)(:[0-9]*)?")
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+", re.IGNORECASE)
_HEADERS = {
    "User-Agent": "ImageSearch",
    "Accept": "image/*",
    "Accept-Encoding": "identity",
    "Connection": "close",
}


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How much a URL may cost, and where it may lead.

    Attributes:
        seconds: for everything together: names, connections, TLS, redirects, headers and the body.
        max_bytes: of the file.
        redirects: how many are followed.
        max_megapixels: a larger picture is refused.
        networks: what may be reached besides the public internet, such as ``"192.168.1.0/24"`` for a server of
            one's own.

    Raises:
        UsageError: one of them makes no sense.
    """

    seconds: float = 20.0
    max_bytes: int = 25_000_000
    redirects: int = 5
    max_megapixels: float = MAX_MEGAPIXELS
    networks: tuple[str, ...] = ()
    allowed: tuple[Network, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (self.seconds > 0 and self.max_bytes > 0 and self.redirects >= 0):
            raise UsageError("limits of URLs: seconds and bytes must be more than 0, redirects at least 0")
        object.__setattr__(self, "allowed", networks(self.networks, "networks that URLs may reach"))


def is_url(text: str) -> bool:
    """Whether an argument is meant as a URL of the web.

    Examples:
        >>> is_url("HTTPS://example.org/a.jpg"), is_url("http/a.jpg"), is_url("https:a.jpg")
        (True, False, False)
    """
    return text[:8].lower().startswith(("http://", "https://"))


def fetch(url: str, *, limits: FetchLimits | None = None, context: ssl.SSLContext | None = None) -> bytes:
    """The bytes of the picture at a URL; its header has been looked at, its pixels have not.

    Args:
        url: http or https, without a user or a password.
        limits: default: :class:`FetchLimits`'s.
        context: which certificates are good; default: the system's.

    Raises:
        PictureError: the URL leads to an address that is not public, the server fails or exceeds a limit, or what
            it sends is no picture that can be read. ``path`` is the URL without its query, which may be a secret.
    """
    limits = limits or FetchLimits()
    try:
        data = _follow(url, limits, context)
    except _RefusedError as refusal:
        raise PictureError(shown(url), refusal.reason, retryable=refusal.retryable) from refusal.__cause__
    open_image(data, shown(url), limits.max_megapixels).close()
    return data


def shown(url: str) -> str:
    """A URL as it may be shown to anybody: without password, query and fragment, and of bounded length.

    Examples:
        >>> shown("https://me:secret@example.org/a.jpg?key=1#top")
        'https://***@example.org/a.jpg?...'
    """
    before_query, has_query, _ = url.partition("#")[0].partition("?")
    scheme, slashes, rest = before_query.partition("://")
    authority, slash, path = rest.partition("/")
    _, has_user, host = authority.rpartition("@")
    if not _PLACE.fullmatch(host):  # the first half of a password with a slash (http://me:a/b@host)
        return f"{scheme}{slashes}***"
    text = f"{scheme}{slashes}{'***@' if has_user else ''}{host}{slash}{path}"
    text = text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
    return f"{text}?..." if has_query else text


class _RefusedError(Exception):
    """Why a URL is not fetched."""

    def __init__(self, reason: str, *, retryable: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.retryable = reason, retryable


def _follow(url: str, limits: FetchLimits, context: ssl.SSLContext | None) -> bytes:
    """Go from redirect to redirect, and read the body at the end."""
    deadline, came_from = Deadline(limits.seconds), ""
    for _ in range(limits.redirects + 1):
        try:
            answer = _ask(_parsed(url, came_from), limits, deadline, context)
        except _RefusedError as refusal:
            if came_from:
                refusal.reason = f"redirects to {shown(url)!r}: {refusal.reason}"
            raise
        if isinstance(answer, bytes):
            return answer
        came_from, url = url, _joined(url, answer)
    raise _RefusedError(f"redirects more than {limits.redirects} times")


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise _RefusedError("redirects to what is no URL") from error


@dataclass(frozen=True, slots=True)
class _Target:
    """What is asked whom: the host in ASCII, and the path with the query."""

    scheme: str
    host: str
    port: int
    request: str

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def _parsed(url: str, came_from: str = "") -> _Target:
    if len(url) > _MAX_URL:
        raise _RefusedError(f"is longer than {_MAX_URL:,} characters")
    if any(character < " " or character == "\x7f" for character in url):
        # urlsplit() would take line ends and tabs out, and ask for another URL than the one that was given.
        raise _RefusedError("has line ends or other control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _RefusedError("is no URL: its host or port makes no sense") from error
    if parts.scheme not in _PORTS:
        raise _RefusedError("is neither http:// nor https://")
    if "@" in parts.netloc:
        raise _RefusedError("has a user or a password, which is not sent")
    if parts.scheme == "http" and came_from.lower().startswith("https:"):
        raise _RefusedError("not followed, because it leaves encryption")
    if port == 0:
        raise _RefusedError("has port 0")
    return _Target(parts.scheme, _host(parts), port or _PORTS[parts.scheme], _request(parts))


def _host(parts: SplitResult) -> str:
    """The host's name in ASCII (IDNA), or an address without brackets."""
    host = (parts.hostname or "")[:1024]
    try:
        ascii_host = host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise _RefusedError("has no valid host name") from error
    labels = ascii_host.removesuffix(".").split(".")
    if not _HOST.fullmatch(ascii_host) or len(ascii_host) > 253 or not all(0 < len(part) < 64 for part in labels):
        raise _RefusedError("has no valid host name")
    return ascii_host


def _request(parts: SplitResult) -> str:
    path = parts.path or "/"
    asked = f"{path}?{parts.query}" if parts.query else path
    try:
        # A byte of the command line that is not valid text is asked for as it is.
        return quote(asked, safe=string.punctuation, errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise _RefusedError("has half of a surrogate pair") from error


def _ask(target: _Target, limits: FetchLimits, deadline: Deadline, context: ssl.SSLContext | None) -> bytes | str:
    """One request: the body, or where it redirects to."""
    with contextlib.ExitStack() as stack:
        try:
            plug = _connected(target, limits, deadline, context)
            stack.callback(plug.close)
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.sock = plug
            connection.request("GET", target.request, headers={"Host": target.host_header, **_HEADERS})
            # connection.getresponse() would close the socket with the headers; the body is read from it.
            response = stack.enter_context(http.client.HTTPResponse(cast(socket.socket, plug), method="GET"))
            response.begin()
            if response.status in _REDIRECTS and response.headers["Location"]:
                # Bytes beyond ASCII come as Latin-1, and are meant as they are (as urllib.request does).
                return quote(response.headers["Location"].strip(), safe=string.punctuation, encoding="latin-1")
            _check_headers(response, limits)
            plug.allowed = limits.max_bytes + _MAX_HEADERS
            return _body(response, limits)
        except TooMuchError as error:
            raise _RefusedError(f"sends more than {_MAX_HEADERS >> 10} KB of headers") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            _refuse(error, target, limits)


def _connected(
    target: _Target, limits: FetchLimits, deadline: Deadline, context: ssl.SSLContext | None
) -> BoundedSocket:
    try:
        found = resolve(target.host, target.port, deadline, limits.allowed)
    except NotPublicError as error:
        raise _RefusedError(f"{target.host} is not on the public internet: its address is {error}") from error
    plug = connect(found, deadline)
    try:
        if target.scheme == "https":
            plug = encrypted(plug, target.host, deadline, context or ssl.create_default_context())
    except BaseException:
        plug.close()
        raise
    return BoundedSocket(plug, deadline, _MAX_HEADERS)


def _check_headers(response: http.client.HTTPResponse, limits: FetchLimits) -> None:
    """Refuse an answer that is no picture, or too large, before its body is read."""
    if response.status != HTTPStatus.OK:
        name = HTTPStatus(response.status).phrase if response.status in set(HTTPStatus) else "an unknown status"
        raise _RefusedError(
            f"the server answers {response.status} ({name})", retryable=response.status in _PASSING
        )
    kind = response.headers.get("Content-Type", _UNTYPED[0]).partition(";")[0].strip().lower()
    if not (kind.startswith("image/") or kind in _UNTYPED) or kind.startswith("image/svg"):
        raise _RefusedError(f"is not a picture but {kind[:80]!r}")
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise _RefusedError(f"is sent compressed ({coding[:40]!r}), which was not asked for")
    if response.length is not None and response.length > limits.max_bytes:
        raise _RefusedError(_too_large(limits, response.length))


def _body(response: http.client.HTTPResponse, limits: FetchLimits) -> bytes:
    """All of the body, counted as it comes."""
    announced, parts, size = response.length, [], 0
    try:
        while part := response.read(_PART):
            parts.append(part)
            size += len(part)
            if size > limits.max_bytes:
                raise _RefusedError(_too_large(limits))
    except TooMuchError as error:  # mostly not of the picture, but of what divides it into chunks
        raise _RefusedError(_too_large(limits)) from error
    if announced is not None and size < announced:
        raise _RefusedError(f"the connection ended after {size:,} of {announced:,} bytes", retryable=True)
    if not size:
        raise _RefusedError("is empty (0 bytes)")
    return b"".join(parts)


def _too_large(limits: FetchLimits, size: int | None = None) -> str:
    has = f"has {size:,} bytes" if size else "sends on and on"
    return f"{has}: more than the {limits.max_bytes:,} bytes that a picture from a URL may have"


def _refuse(error: Exception, target: _Target, limits: FetchLimits) -> NoReturn:
    """Turn an error of the network into a line."""
    if isinstance(error, TimeoutError):
        reason, retryable = f"not there after {limits.seconds:g} seconds", True
    elif isinstance(error, socket.gaierror):
        reason, retryable = f"there is no host {target.host!r}", error.errno == socket.EAI_AGAIN
        if retryable:
            reason = f"the address of {target.host!r} cannot be found out now"
    elif isinstance(error, ssl.SSLCertVerificationError):
        reason, retryable = f"the server's certificate is not good: {error.verify_message}", False
    elif isinstance(error, ssl.SSLError):
        reason, retryable = f"no encrypted connection: {error.reason or 'TLS fails'}", False
    elif isinstance(error, (http.client.IncompleteRead, http.client.RemoteDisconnected)):
        reason, retryable = "the connection ended too early", True
    elif isinstance(error, OSError):
        said = (error.strerror or type(error).__name__).lower()
        reason, retryable = f"{target.host}, port {target.port}: {said}", True
    else:  # http.client's own, and of numbers that are none; what the server said may be long, and of any kind
        reason, retryable = f"the server does not speak HTTP ({type(error).__name__})", False
    raise _RefusedError(reason, retryable=retryable) from error
