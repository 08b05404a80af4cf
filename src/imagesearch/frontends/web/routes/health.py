"""For those who watch the server: is it alive, can it answer, and how much does it do."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from imagesearch.errors import ImageSearchError
from imagesearch.frontends.web.batching import BusyError
from imagesearch.frontends.web.metrics import CONTENT_TYPE, Metrics
from imagesearch.frontends.web.responses import ServedBy, problems

router = APIRouter(tags=["health"])


def _metrics(request: Request) -> Metrics:
    metrics: Metrics = request.app.state.metrics
    return metrics


@router.get("/healthz")
def health() -> dict[str, str]:
    """Whether the process answers at all."""
    return {"status": "ok"}


@router.get("/readyz", responses=problems())
def readiness(backend: ServedBy) -> dict[str, str]:
    """Whether model and database can be used: 503 if not."""
    try:
        backend.images.find_collection()
        backend.images.embedder  # noqa: B018 - loads it
    except ImageSearchError as error:
        raise BusyError(str(error)) from error
    return {"status": "ready"}


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **problems()})
def metrics(numbers: Annotated[Metrics, Depends(_metrics)]) -> Response:
    """Numbers in Prometheus's text format."""
    return Response(numbers.text(), media_type=CONTENT_TYPE)
