"""Jobs of a server, followed to their end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Generator
from typing import Any

from imagesearch.client_connection import Connection
from imagesearch.errors import StoreUnreachableError
from imagesearch.records import Progress

# The server says that it is still there every 10 seconds.
_SILENCE = 30.0
# How often in a row the news of a job may break off, and seconds until they are asked for again.
_BREAKS = 5
_PAUSE = 0.5
_ENDED = ("done", "failed", "cancelled")


def followed(connection: Connection, path: str, progress: Progress) -> dict[str, Any]:
    """A job at its end, by its server-sent events; where these break off, they are asked for again.

    Args:
        connection: to the server.
        path: of the job.
        progress: called as the work goes on; what it raises comes through.

    Raises:
        StoreUnreachableError: the server tells nothing more.
    """
    told, breaks = None, 0
    while True:
        try:
            with contextlib.closing(_events(connection, path)) as events:
                for job in events:
                    breaks = 0
                    if job["progress"] is not None and job["progress"] != told:
                        told = job["progress"]
                        progress(told["stage"], told["done"], told["total"])
                    if job["state"] in _ENDED:
                        return job
            error = StoreUnreachableError(f"the server at {connection.url} tells nothing of the job any more")
        except StoreUnreachableError as failure:
            error = failure
        breaks += 1
        if breaks > _BREAKS:
            raise error
        time.sleep(_PAUSE)


def _events(connection: Connection, path: str) -> Generator[dict[str, Any], None, None]:
    for line in connection.lines(f"{path}/events", max(_SILENCE, connection.timeout)):
        name, _, value = line.partition(b":")
        if name == b"data":  # of one line each
            yield json.loads(value)
