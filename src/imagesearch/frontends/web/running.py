"""From settings to a running server: address, token, policy, uvicorn."""

from __future__ import annotations

import contextlib
import errno
import logging
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import uvicorn

from imagesearch.errors import UsageError
from imagesearch.frontends.web.app import create_app
from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.security.layers import secured
from imagesearch.frontends.web.security.policy import Policy, needs_token, policy_for
from imagesearch.frontends.web.security.protocol import uvicorn_options
from imagesearch.frontends.web.security.request_log import log_to
from imagesearch.frontends.web.security.tokens import make_token, read_token_file
from imagesearch.images.find import reason_of
from imagesearch.service import ImageSearch
from imagesearch.settings import ServerSettings

# Seconds that running requests have to end, once the server was told to.
_GRACE = 10


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is about to answer.

    Attributes:
        url: where it is.
        made_token: the token that was made for it; None where it has one from a file, or needs none.
        owner_secret: what lets the command line of the same user in.
    """

    url: str
    made_token: str | None
    owner_secret: str


def serve(
    images: ImageSearch,
    folders: Sequence[str] = (),
    *,
    begin: Callable[[Running], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    log_level: int = logging.INFO,
) -> None:
    """Serve until somebody stops the process (SIGINT, SIGTERM); requests and batches that run are finished.

    Args:
        images: what is served, by its settings; closed at the end.
        folders: below which everybody who may search may index.
        begin: called when the address is known; what it returns is entered, and left at the end.

    Raises:
        UsageError: the address cannot be used, or a token is wrong.
        StoreError: the database cannot be opened.
    """
    settings = images.config.server
    images.find_collection()  # before anything else: another process may hold the database
    token, made = _token(settings)
    with contextlib.closing(_listening(settings)) as listening:
        port = listening.getsockname()[1]
        secret = secrets.token_urlsafe(32)
        policy = policy_for(
            settings.host,
            port,
            token,
            hosts=settings.allow_hosts,
            proxies=settings.proxies,
            owner_secret=secret,
            max_body_bytes=int(settings.max_upload_mb * 1e6),
        )
        backend = Backend(images, tuple(folders))
        with _ending_in_order(), begin(Running(_url(settings.host, port), made, secret)):
            _run(backend, policy, listening, log_level)


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let SIGTERM leave every block on the way: uvicorn, once it has ended, sends itself the signal again."""

    def end(*_: object) -> None:
        raise SystemExit(0)

    if threading.current_thread() is not threading.main_thread():  # of others, Python hears no signals
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(backend: Backend, policy: Policy, listening: socket.socket, log_level: int) -> None:
    log_to(level=log_level)
    config = uvicorn.Config(
        secured(create_app(backend), policy), timeout_graceful_shutdown=_GRACE, **uvicorn_options(policy)
    )
    uvicorn.Server(config).run(sockets=[listening])


def _token(settings: ServerSettings) -> tuple[str | None, str | None]:
    """The token that lets people in, and the same once more if it was made here."""
    if settings.token_file is not None:
        return read_token_file(settings.token_file), None
    if not needs_token(settings.host, hosts=settings.allow_hosts):
        return None, None
    made = make_token()
    return made, made


def _listening(settings: ServerSettings) -> socket.socket:
    """A socket at the configured address.

    Raises:
        UsageError: it cannot be used.
    """
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=256)
        # Connections inherit it; asyncio sets it only where it made the socket itself. Without it the body of an
        # answer waits 40 ms for the client's word that the headers have come.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        advice = ": another program has it; choose another one with --port" if taken else f": {reason_of(error)}"
        raise UsageError(f"cannot listen at {host} port {port}{advice}") from error


def _url(host: str, port: int) -> str:
    shown = (
        "127.0.0.1"
        if host in ("", "0.0.0.0")
        else "[::1]"
        if host == "::"
        else f"[{host}]"
        if ":" in host
        else host
    )
    return f"http://{shown}:{port}"
