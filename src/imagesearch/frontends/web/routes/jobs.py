"""Jobs of indexing: start, watch, cancel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse

from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.jobs import Job, Order
from imagesearch.frontends.web.replies import JobOut, JobsOut
from imagesearch.frontends.web.responses import ApiResponse, ServedBy, is_owner, links, problems
from imagesearch.frontends.web.schemas import JobRequest
from imagesearch.search.wire import to_json

router = APIRouter(prefix="/jobs", tags=["jobs"])

Key = Annotated[str, Path(max_length=64)]
# Seconds without news after which a comment is sent, so that nobody in between thinks the connection dead.
_SILENCE = 10.0
# Seconds between two looks at a job.
_PAUSE = 0.2


_STARTED = links("/id", "describe_job", "job_events", "cancel_job")


@router.post("", status_code=202, response_model=JobOut, responses={202: _STARTED, **problems()})
def start_job(order: JobRequest, request: Request, backend: ServedBy) -> Response:
    """Index folders; progress is told by GET /jobs/{id}/events."""
    folders = tuple(order.folders)
    if not is_owner(request):
        backend.may_index(folders)
    job = backend.jobs.start(Order(folders, order.prune, order.retry_skipped, order.dry_run))
    return ApiResponse(job.to_dict(), status_code=202, headers={"Location": f"/api/v1/jobs/{job.id}"})


@router.get("", response_model=JobsOut, responses=problems())
def list_jobs(backend: ServedBy) -> Response:
    """Jobs since the server was started, the newest first."""
    return ApiResponse({"jobs": [job.to_dict() for job in backend.jobs.all()]})


@router.get("/{key}", response_model=JobOut, responses=problems(404))
def describe_job(key: Key, backend: ServedBy) -> Response:
    """One job as it is now."""
    return ApiResponse(backend.jobs.get(key).to_dict())


@router.delete("/{key}", status_code=202, response_model=JobOut, responses=problems(404))
def cancel_job(key: Key, backend: ServedBy) -> Response:
    """End a job; the batch that is being written is kept, as are those before it."""
    return ApiResponse(backend.jobs.cancel(key).to_dict(), status_code=202)


@router.get(
    "/{key}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "server-sent events"}, **problems(404)},
)
async def job_events(key: Key, request: Request, backend: ServedBy) -> Response:
    """Server-sent events: ``job`` with the job as JSON at each change, until it has ended."""
    first = backend.jobs.get(key)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_changes(backend, request, first), media_type="text/event-stream", headers=headers)


async def _changes(backend: Backend, request: Request, job: Job) -> AsyncIterator[bytes]:
    yield _event(job)
    heard = time.monotonic()
    while not job.has_ended and not await request.is_disconnected():
        await asyncio.sleep(_PAUSE)  # listeners cost no threads, of which there are few
        later = backend.jobs.get(job.id)
        if later.version != job.version:
            job, heard = later, time.monotonic()
            yield _event(job)
        elif time.monotonic() - heard > _SILENCE:
            heard = time.monotonic()
            yield b": still there\n\n"


def _event(job: Job) -> bytes:
    """One event; JSON of one line cannot end it early."""
    return b"event: job\nid: %d\ndata: %s\n\n" % (job.version, to_json(job.to_dict()))
