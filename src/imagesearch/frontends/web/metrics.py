"""Numbers for Prometheus: requests, searches, batches, jobs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from imagesearch.frontends.web.backend import Backend

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
# Methods are named by clients; others than these are counted as one.
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")


class Metrics:
    """The numbers of one server."""

    def __init__(self, backend: Backend) -> None:
        self._registry = registry = CollectorRegistry()
        names = ("method", "route", "status")
        self.requests = Counter("imagesearch_requests", "HTTP requests", names, registry=registry)
        self.seconds = Histogram(
            "imagesearch_request_seconds", "Time to answer", ("route",), buckets=_SECONDS, registry=registry
        )
        batches = Histogram(
            "imagesearch_batch_size", "Searches answered together", buckets=_BATCHES, registry=registry
        )
        backend.searches.observe = batches.observe
        waiting = Gauge("imagesearch_searches_waiting", "Searches that wait", registry=registry)
        waiting.set_function(lambda: len(backend.searches))
        running = Gauge("imagesearch_jobs_running", "Jobs of indexing that run", registry=registry)
        running.set_function(lambda: sum(job.state == "running" for job in backend.jobs.all()))
        self._pictures = Gauge("imagesearch_pictures", "Pictures in the collection", registry=registry)
        self._skipped = Gauge("imagesearch_skipped_files", "Files that could not be read", registry=registry)
        self._backend = backend

    def text(self) -> bytes:
        """In Prometheus's text format.

        Raises:
            StoreError: the database fails.
        """
        collection = self._backend.images.find_collection()
        self._pictures.set(collection.count() if collection else 0)
        self._skipped.set(len(self._backend.images.skipped()))
        return generate_latest(self._registry)


class MeasuringMiddleware:
    """Counts the requests of an application, and how long they take, by the patterns of their routes."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = _pattern(scope)
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)


def _pattern(scope: Scope) -> str:
    """The path with names for values: there would be one for each picture, and each guess of an attacker."""
    if "route" not in scope:
        return "none"
    path: str = scope["path"]
    for name, value in scope.get("path_params", {}).items():
        before, _, after = path.rpartition(f"/{value}")
        path = f"{before}/{{{name}}}{after}"
    return path
