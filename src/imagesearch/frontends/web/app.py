"""The application: the routes, and how errors of the library become HTTP answers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from imagesearch.errors import (
    CollectionNotFoundError,
    ConfigError,
    HubUnreachableError,
    ImageSearchError,
    ModelError,
    ModelMismatchError,
    PictureError,
    StoreError,
    UsageError,
)
from imagesearch.frontends.web.backend import Backend, ForbiddenError
from imagesearch.frontends.web.batching import BusyError
from imagesearch.frontends.web.metrics import MeasuringMiddleware, Metrics
from imagesearch.frontends.web.problems import Problem, ProblemResponse
from imagesearch.frontends.web.routes import health, jobs, library, pictures, search
from imagesearch.frontends.web.uploads import NotFoundError
from imagesearch.images.files import IN_MEMORY

API = "/api/v1"

# The most specific class that fits counts.
_PROBLEMS: dict[type[Exception], tuple[int, str, str]] = {
    BusyError: (503, "busy", "Too busy"),
    NotFoundError: (404, "not-found", "Not found"),
    ForbiddenError: (403, "folder-not-allowed", "This folder may not be indexed from here"),
    PictureError: (422, "unreadable-picture", "The picture cannot be read"),
    UsageError: (422, "wrong-request", "The request makes no sense"),
    CollectionNotFoundError: (409, "nothing-indexed", "Nothing has been indexed yet"),
    ModelMismatchError: (409, "other-model", "The collection belongs to another model"),
    HubUnreachableError: (503, "hub-unreachable", "The model cannot be downloaded"),
    ModelError: (422, "model", "The model cannot do this"),
    StoreError: (503, "database", "The database cannot be used"),
    ConfigError: (503, "settings", "The settings are wrong"),
    ImageSearchError: (503, "failed", "The request failed"),
}
_RETRY_LATER = (("Retry-After", "1"),)
# Before the names of problems; they are never renamed, because programs tell problems apart by them.
_KIND = "urn:imagesearch:problem:"
_LONGEST = 2000

_log = logging.getLogger(__name__)


def create_app(backend: Backend) -> FastAPI:
    """The application that serves one :class:`Backend`; it is closed with the application."""

    tools = _tools(backend)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(backend.warm_up)
        async with tools.router.lifespan_context(tools) if tools else contextlib.nullcontext():
            yield
        await run_in_threadpool(backend.close)

    app = FastAPI(
        title="ImageSearch",
        summary="Find pictures by pictures and words.",
        version=version("imagesearch"),
        openapi_url=f"{API}/openapi.json",
        generate_unique_id_function=lambda route: route.name,
        # These load scripts from other servers.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.backend, app.state.metrics = backend, Metrics(backend)
    for module in (search, pictures, library, jobs):
        app.include_router(module.router, prefix=API)
    app.include_router(health.router)
    if tools is not None:
        app.router.routes.extend(tools.routes)
    app.add_middleware(MeasuringMiddleware, metrics=app.state.metrics)
    app.add_exception_handler(ImageSearchError, _explain)
    app.add_exception_handler(RequestValidationError, _explain_invalid)
    app.add_exception_handler(HTTPException, _explain_http)
    app.add_exception_handler(Exception, _explain_bug)
    return app


def _tools(backend: Backend) -> Starlette | None:
    """The tools for language models at ``/mcp``, if the package that they need is installed."""
    from imagesearch.frontends.mcp.server import streamable_http_app

    try:
        return streamable_http_app(backend.images)
    except UsageError as error:
        _log.info("%s", error)
        return None


async def _explain(_: Request, error: Exception) -> Response:
    kind = next(kind for kind in type(error).__mro__ if kind in _PROBLEMS)
    status, slug, title = _PROBLEMS[kind]
    headers = _RETRY_LATER if status == 503 else ()
    return ProblemResponse(
        Problem(status=status, title=title, detail=_told(error), type=f"{_KIND}{slug}", headers=headers)
    )


def _told(error: Exception) -> str:
    """The message; of a picture in memory without a path."""
    if isinstance(error, PictureError):
        return f"{error.path}: {error.reason}".removeprefix(f"{IN_MEMORY}: ")
    return str(error)


async def _explain_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # What was sent is not repeated: it may be long, or secret.
    lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    detail = "; ".join(lines)[:_LONGEST]
    return ProblemResponse(
        Problem(status=422, title="A value cannot be used", detail=detail, type=f"{_KIND}invalid-value")
    )


async def _explain_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = tuple((error.headers or {}).items())
    return ProblemResponse(Problem(status=error.status_code, detail=str(error.detail), headers=headers))


async def _explain_bug(_: Request, __: Exception) -> Response:
    # Whoever asked learns nothing of the program from it; the security layer logs the traceback under the same id.
    return ProblemResponse(
        Problem(
            status=500, title="An error of the program", detail="the server's log says more", type=f"{_KIND}error"
        )
    )
