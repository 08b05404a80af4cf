"""Digests of whole files, remembered for as long as a file stays the same, so that gigabytes are read once.

A file is taken to be the same while its size, its times, its inode and its device are: the time of the last change
of the inode (``ctime``) cannot be set by programs, so a file that was swapped for another one of equal size and
time is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from imagesearch.atomic import replacing

# Smaller files are read each time: it takes a few milliseconds.
_WORTH_REMEMBERING = 2**20

# What has changed so lately may change again without its times telling.
_SETTLED_SECONDS = 2.0

# Files that are remembered, at most; those that were asked for longest ago are forgotten first.
_MOST = 500

_CHUNK = 2**20

_lock = threading.Lock()


def file_digest(file: Path) -> str:
    """BLAKE2b-160 of a file's bytes, hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with open(file, "rb", buffering=0) as stream:
        status = os.fstat(stream.fileno())
        if status.st_size < _WORTH_REMEMBERING:
            return _digest(stream)
        key, identity = os.path.realpath(file), _identity(status)
        if (known := _known(key, identity)) is not None:
            return known
        digest = _digest(stream)
        if _identity(os.fstat(stream.fileno())) == identity:  # nobody wrote while it was read
            _remember(key, identity, digest)
        return digest


def _digest(stream: Any) -> str:
    digest = hashlib.blake2b(digest_size=20)
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _identity(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


def _list() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("imagesearch") / "digests.json"


def _read() -> dict[str, Any]:
    """What is remembered; nothing if the list cannot be read: then files are read again."""
    try:
        known = json.loads(_list().read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _known(key: str, identity: list[int]) -> str | None:
    entry = _read().get(key)
    if isinstance(entry, list) and entry[:1] == [identity] and isinstance(entry[-1], str):
        return str(entry[-1])
    return None


def _remember(key: str, identity: list[int], digest: str) -> None:
    if time.time_ns() - max(identity[1], identity[2]) < _SETTLED_SECONDS * 1e9:
        return
    with _lock, contextlib.suppress(OSError):  # where nothing can be kept, it is read again the next time
        known = _read()
        known.pop(key, None)
        known[key] = [identity, digest]
        place = _list()
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as fresh:
            fresh.write_text(json.dumps(dict(list(known.items())[-_MOST:])), encoding="ascii")
