"""What is served: the collections, the model, the words that it knows, and the files that could not be read."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from imagesearch.frontends.web.failures import ForbiddenError
from imagesearch.frontends.web.replies import (
    AnnotatedOut,
    CollectionsOut,
    ForgottenOut,
    LabelsOut,
    ServedOut,
    SkippedListOut,
    StatusOut,
)
from imagesearch.frontends.web.responses import ApiResponse, ServedBy, is_owner, problems
from imagesearch.frontends.web.schemas import AnnotateRequest, ForgetRequest
from imagesearch.library.annotations import Annotations
from imagesearch.search.wire import info_to_dict

router = APIRouter(tags=["library"])


@router.get("/status", response_model=StatusOut, responses=problems())
def describe_server(backend: ServedBy) -> Response:
    """What is served, and how busy it is."""
    images = backend.images
    collection, words = images.find_collection(), backend.words()
    return ApiResponse(
        {
            "version": version("imagesearch"),
            "engine": images.engine,
            "model": images.config.model.name,
            "classifier": backend.classifier,
            "collection": info_to_dict(collection.info()) if collection else None,
            "folders": images.indexed_folders(),
            "may_index": list(backend.folders),
            "words": {
                "free_text": words.free_text,
                "known": len(words.known),
                "explanation": words.explanation,
            },
            "skipped": len(images.skipped()),
            "queue": len(backend.searches),
            "running_jobs": sum(job.state == "running" for job in backend.jobs.all()),
        }
    )


@router.get("/served", response_model=ServedOut, responses=problems())
def describe_served(backend: ServedBy) -> Response:
    """What is searched, and what may be sent: quicker to tell than the status."""
    images = backend.images
    collection = images.find_collection()
    return ApiResponse(
        {
            "engine": images.engine,
            "place": images.config.database_address.place,
            "name": images.spec.name,
            "collection": info_to_dict(collection.info()) if collection else None,
            "index_mismatch": images.index_mismatch() if collection else None,
            "top_k": images.config.search.top_k,
            "max_upload_bytes": int(backend.settings.max_upload_mb * 1e6),
            "decode_side": backend.decode_side,
        }
    )


@router.get("/words", response_model=LabelsOut, responses=problems())
def list_words(
    backend: ServedBy,
    containing: Annotated[str, Query(max_length=100)] = "",
    limit: Annotated[int, Query(ge=1, le=100_000)] = 50,
) -> Any:
    """Labels that can be searched for, those that begin with the text first; none where any text can be."""
    wanted = containing.casefold().strip()
    found = [label for label in backend.words().known if wanted in label.casefold()]
    found.sort(key=lambda label: not label.casefold().startswith(wanted))
    return {"labels": found[:limit]}


@router.get("/collections", response_model=CollectionsOut, responses=problems())
def list_collections(backend: ServedBy) -> Response:
    """All collections of the database."""
    found = backend.images.database.collections()
    return ApiResponse(
        {
            "configured": backend.images.spec.name,
            "collections": [info_to_dict(info) for info in found.values() if info is not None],
            "foreign": [name for name, info in found.items() if info is None],
        }
    )


@router.get("/skipped", response_model=SkippedListOut, responses=problems())
def list_skipped(
    backend: ServedBy,
    offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Files that indexing could not read, and why."""
    found = backend.images.skipped()
    page = [one.to_dict() for one in found[offset : offset + limit]]
    return ApiResponse({"total": len(found), "skipped": page})


@router.post("/forget", response_model=ForgottenOut, responses=problems(409))
def forget(order: ForgetRequest, request: Request, backend: ServedBy) -> Response:
    """Take the pictures below folders out of the collection; the files stay. Only the owner may."""
    _require_owner(request, "take pictures out: use 'imagesearch forget'")
    report = backend.images.forget(*order.folders, dry_run=order.dry_run)
    backend.browser.forget_orders()
    return ApiResponse(report.to_dict())


@router.post("/annotations", response_model=AnnotatedOut, responses=problems(409))
def annotate(table: AnnotateRequest, request: Request, backend: ServedBy) -> Response:
    """Join columns of one's own to pictures, so that filters can refer to them. Only the owner may."""
    _require_owner(request, "say something of its pictures: use 'imagesearch annotate'")
    rows = {row.key: row.values for row in table.rows}
    read = Annotations(table.file, rows, tuple(table.columns))
    report = backend.images.annotate(read, table.on)
    backend.browser.forget_orders()  # filters may refer to what was said
    return ApiResponse(report.to_dict())


def _require_owner(request: Request, what: str) -> None:
    if not is_owner(request):
        raise ForbiddenError(f"only the owner of the database may {what}")
