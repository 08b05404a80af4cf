"""Who is let in, and how much of everything: the settings of the security layer, as one value."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from imagesearch.errors import UsageError
from imagesearch.frontends.web.security.authorities import Address, Authority, address_of, parse_authority
from imagesearch.frontends.web.security.tokens import Secret, check_token

LOGIN_PATH = "/login"
LOGOUT_PATH = "/logout"
LOGIN_STYLE_PATH = "/login.css"

_OPEN_PATHS = frozenset(
    {"/healthz", "/readyz", LOGIN_PATH, LOGOUT_PATH, LOGIN_STYLE_PATH, "/favicon.ico", "/favicon.svg"}
)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the security layer allows; made by ``policy_for``.

    Attributes:
        hosts: names and addresses that requests may be sent to (header ``Host``); without a port, at any.
        any_address: whether every IP address may stand in ``Host``: a website that lets its own name point here
            (DNS rebinding) sends its name, never an address.
        token: what lets users in; None lets everybody in who reaches the server.
        owner_secret: what the command line of the user who started the server sends; None if there is none.
        open_paths: what may be read without a token, compared as a whole.
        api_paths: beginnings of the paths that programs use: refusals there are problem details, never redirects.
        proxies: addresses whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed.
        max_body_bytes: longest body of a request, bytes.
        body_seconds: how long a request may take to send its body.
        linger_seconds: how long the rest of a refused body is read and thrown away, so that the answer arrives.
        header_seconds: how long a request may take to send its headers.
        max_header_bytes: all headers of a request together, bytes.
        max_headers: how many there may be.
        max_target_bytes: path and query of a request, bytes.
        max_connections: open at a time; those beyond are answered with 503, and cut beyond twice as many.
        keep_alive_seconds: how long a connection may wait for its next request.
        write_seconds: how long a client may take nothing of an answer that waits for it.
        session_seconds: how long a login lasts.
        max_sessions: logins at a time; one more ends the oldest.
        free_attempts: wrong tokens from one address before it has to wait.
    """

    hosts: frozenset[Authority]
    any_address: bool = False
    token: str | None = field(default=None, repr=False)
    owner_secret: str | None = field(default=None, repr=False)
    open_paths: frozenset[str] = _OPEN_PATHS
    api_paths: tuple[str, ...] = ("/api", "/metrics", "/mcp")
    proxies: frozenset[str] = frozenset()
    max_body_bytes: int = 25_000_000
    body_seconds: float = 30.0
    linger_seconds: float = 5.0
    header_seconds: float = 10.0
    max_header_bytes: int = 65_536
    max_headers: int = 100
    max_target_bytes: int = 8_192
    max_connections: int = 256
    keep_alive_seconds: int = 15
    write_seconds: float = 60.0
    session_seconds: float = 12 * 3600.0
    max_sessions: int = 1_000
    free_attempts: int = 5

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            UsageError: a bound is not positive, or a secret is none.
        """
        for name, value in vars(self).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value <= 0:
                raise UsageError(f"the server's {name} must be greater than 0, not {value}")
        if self.token is not None:
            check_token(self.token, "the server's token")
        if self.owner_secret is not None:
            check_token(self.owner_secret, "the owner's secret")
        if self.token is not None and self.token == self.owner_secret:
            raise UsageError("the server's token must not be the owner's secret, or every user would be the owner")

    @property
    def secrets(self) -> list[Secret]:
        """Everything that must not be told."""
        return [Secret(value) for value in (self.token, self.owner_secret) if value is not None]

    def is_api(self, path: str) -> bool:
        """Whether programs use this path, rather than people's browsers."""
        return any(path == beginning or path.startswith(f"{beginning}/") for beginning in self.api_paths)

    def allows_host(self, authority: Authority, scheme: str) -> bool:
        """Whether requests may be sent to this host and port."""
        if Authority(authority.host, None) in self.hosts:
            return True
        if Authority(authority.host, authority.port_for(scheme)) in self.hosts:
            return True
        address = authority.address
        # Browsers reach this machine by 0.0.0.0 too, which nobody types and websites have used.
        return self.any_address and address is not None and not address.is_unspecified and not address.is_multicast


def policy_for(
    host: str,
    port: int,
    token: str | None,
    *,
    hosts: Iterable[str] = (),
    proxies: Iterable[str] = (),
    owner_secret: str | None = None,
    max_body_bytes: int = 25_000_000,
) -> Policy:
    """The policy of a server that listens at an address.

    Args:
        host: address or name to listen at; "" and "0.0.0.0" and "::" are all of the machine.
        port: what is listened at, not 0.
        token: what lets users in; may be None only where ``needs_token`` is false.
        hosts: further names that the server is reached by, such as that of a reverse proxy: ``NAME`` or
            ``NAME:PORT``.
        proxies: addresses of reverse proxies whose ``X-Forwarded-...`` headers are believed.
        owner_secret: what lets the command line of the same user in.
        max_body_bytes: longest body of a request.

    Raises:
        UsageError: a name, an address or a secret is none, or a token is missing.
    """
    named = frozenset(_parse_host(text) for text in hosts)
    if token is None and needs_token(host, hosts=[name.host for name in named]):
        raise UsageError(
            f"a server that others can reach ({host or 'all addresses'}) needs a token: --token-file FILE"
        )
    own = {"localhost", "127.0.0.1", "::1"}
    loopback = is_loopback(host)
    if not loopback:
        own |= {name for name in _own_names() if parse_authority(name) is not None}
    bound = _parse_host(f"[{host}]" if ":" in host else host).host if host else "localhost"
    bound_address = address_of(bound)
    if bound_address is None or not bound_address.is_unspecified:
        own.add(bound)
    # A published port of a container is another one than it listens at; on loopback there is nothing in between.
    ports = port if loopback else None
    return Policy(
        hosts=frozenset(Authority(name, ports) for name in own) | named,
        any_address=not loopback,
        token=token,
        owner_secret=owner_secret,
        proxies=frozenset(str(_parse_address(proxy)) for proxy in proxies),
        max_body_bytes=max_body_bytes,
    )


def needs_token(host: str, *, hosts: Iterable[str] = ()) -> bool:
    """Whether others than the users of this machine can reach a server.

    Args:
        host: what it listens at.
        hosts: further names: whoever gives one has a reverse proxy before it, and then everybody seems to come
            from this machine.
    """
    return not is_loopback(host) or not all(is_loopback(_parse_host(name).host) for name in hosts)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    address = address_of(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def _parse_host(text: str) -> Authority:
    authority = parse_authority(text)
    if authority is None:
        raise UsageError(
            f"{text!r} is no host: give NAME, ADDRESS or NAME:PORT, without http:// and without a path"
        )
    return authority


def _parse_address(text: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no address of a proxy: give it in numbers, such as 127.0.0.1") from error


def _own_names() -> set[str]:
    """What this machine calls itself; asks no name server."""
    name = socket.gethostname().lower().rstrip(".")
    short = name.partition(".")[0]
    return {name, short, f"{short}.local"} - {"", ".local"}
