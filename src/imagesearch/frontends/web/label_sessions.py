"""Labelling by hand for many: one session that pages share, and those that programs open for themselves."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Sequence

from imagesearch.active_labelling import LabelSession
from imagesearch.errors import ImageSearchError
from imagesearch.frontends.web.uploads import NotFoundError
from imagesearch.service import ImageSearch

# Sessions of programs that are kept: each holds the vectors of up to 10,000 pictures and the paths of all.
MOST_SESSIONS = 8

_log = logging.getLogger(__name__)


class LabelSessions:
    """Sessions of one server; several threads may use them.

    Args:
        images: what is served.
    """

    def __init__(self, images: ImageSearch) -> None:
        self._images = images
        self._lock = threading.Lock()
        self._opening_shared = threading.Lock()
        self._shared: LabelSession | None = None
        # The one that was used last is the last.
        self._own: dict[str, LabelSession] = {}

    def get(self, key: str | None) -> LabelSession:
        """A session of one's own; or, without a key, the one for all who ask, since the server was started.

        Raises:
            NotFoundError: there is none of this key (any more).
            CollectionNotFoundError, UsageError, StoreError: see :class:`LabelSession`.
        """
        if key is None:
            with self._opening_shared:
                if self._shared is None:
                    self._shared = self._images.label_session()
                return self._shared
        with self._lock:
            session = self._taken(key)
            self._own[key] = session
            return session

    def open(self, labels: Sequence[str], under: str | None) -> tuple[str, LabelSession]:
        """A new session, and the key by which it is known; the one that was used least recently may end for it.

        Raises:
            CollectionNotFoundError, UsageError, StoreError: see :class:`LabelSession`.
        """
        session, key = self._images.label_session(labels, under=under), secrets.token_hex(16)
        with self._lock:
            self._own[key] = session
            first = next(iter(self._own))
            last = self._own.pop(first) if len(self._own) > MOST_SESSIONS else None
        if last is not None:
            _close(last)
        return key, session

    def end(self, key: str) -> None:
        """End a session of one's own: see :meth:`LabelSession.close`.

        Raises:
            NotFoundError: there is none of this key (any more).
            StoreError: the database fails.
        """
        with self._lock:
            session = self._taken(key)
        session.close()

    def close(self) -> None:
        """End all."""
        with self._lock:
            own, self._own = list(self._own.values()), {}
        for session in own if self._shared is None else [*own, self._shared]:
            _close(session)

    def _taken(self, key: str) -> LabelSession:
        try:
            return self._own.pop(key)
        except KeyError:
            raise NotFoundError(
                "this labelling session has ended: the server was started again, or others needed its place; what"
                " was labelled is kept, and a new one goes on"
            ) from None


def _close(session: LabelSession) -> None:
    try:
        session.close()
    except ImageSearchError as error:  # labels are kept; only searches are slower
        _log.warning("%s", error)
