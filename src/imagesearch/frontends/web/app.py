"""The application: the routes, and how errors of the library become HTTP answers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from imagesearch.errors import ImageSearchError, UsageError
from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.failures import problem_of
from imagesearch.frontends.web.head import HeadMiddleware
from imagesearch.frontends.web.metrics import MeasuringMiddleware, Metrics
from imagesearch.frontends.web.problems import Problem, ProblemResponse
from imagesearch.frontends.web.routes import archive, health, jobs, labels, library, page, pictures, search
from imagesearch.images.find import reason_of
from imagesearch.search.wire import PROBLEM

API = "/api/v1"

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
    for module in (search, pictures, archive, library, labels, jobs):
        app.include_router(module.router, prefix=API)
    app.include_router(health.router)
    if tools is not None:
        app.router.routes.extend(tools.routes)
    app.include_router(page.router)
    app.add_middleware(MeasuringMiddleware, metrics=app.state.metrics)
    app.add_middleware(HeadMiddleware)
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
    assert isinstance(error, ImageSearchError)
    return ProblemResponse(problem_of(error))


async def _explain_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # What was sent is not repeated: it may be long, or secret.
    lines = [f"{'.'.join(map(str, one['loc']))}: {_said(one)}" for one in error.errors()]
    detail = "; ".join(lines)[:_LONGEST]
    return ProblemResponse(
        Problem(status=422, title="A value cannot be used", detail=detail, type=f"{PROBLEM}invalid-value")
    )


def _said(error: Mapping[str, Any]) -> str:
    """What is wrong with a value; of two slips that are easily made with curl, also what to do."""
    if "Expected UploadFile" in error["msg"]:
        return "must be a file, as 'curl -F NAME=@FILE' sends it"
    if error["type"] == "model_attributes_type" and error["loc"] == ("body",):
        return "must be a JSON object, sent with the header 'Content-Type: application/json'"
    return str(error["msg"])


async def _explain_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, OSError):  # parts of a form that are longer lie on the disk
        return await _explain(request, UsageError(f"the upload cannot be kept: {reason_of(error.__cause__)}"))
    headers = tuple((error.headers or {}).items())
    return ProblemResponse(Problem(status=error.status_code, detail=str(error.detail), headers=headers))


async def _explain_bug(_: Request, __: Exception) -> Response:
    # Whoever asked learns nothing of the program from it; the security layer logs the traceback under the same id.
    return ProblemResponse(
        Problem(
            status=500,
            title="An error of the program",
            detail="the server's log says more",
            type=f"{PROBLEM}error",
        )
    )
