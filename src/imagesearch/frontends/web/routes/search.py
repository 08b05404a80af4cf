"""Search, classify, embed, and the uploads that they refer to."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool

from imagesearch.errors import PictureError
from imagesearch.frontends.web import several
from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.decoding import decoded
from imagesearch.frontends.web.forms import ImageSearchForm, body_of, form_in
from imagesearch.frontends.web.rendering import THUMBNAIL_TYPE
from imagesearch.frontends.web.replies import (
    AnswerOut,
    AnswersOut,
    LabelledOut,
    PredictionsOut,
    UploadOut,
    VectorsOut,
)
from imagesearch.frontends.web.responses import ApiResponse, ServedBy, is_fresh, links, problems
from imagesearch.frontends.web.routes.pictures import OF_A_PICTURE
from imagesearch.frontends.web.schemas import (
    ClassifyRequest,
    ClassifySeveralRequest,
    SearchRequest,
    SeveralRequest,
)
from imagesearch.frontends.web.uploads import Upload, tidy_name
from imagesearch.images.sources import load_image
from imagesearch.records import Prediction
from imagesearch.search.query import Query, SearchOptions
from imagesearch.search.wire import answer_to_dict

router = APIRouter(tags=["search"])

Image = Annotated[UploadFile, File(description="a picture's file")]


# What one request finds, others can ask for.
_FOUND = links("/hits/0/picture/id", *OF_A_PICTURE)
_KEPT = links("/id", "describe_upload", "preview_upload")


@router.post("/search", response_model=AnswerOut, responses={200: _FOUND, **problems(404, 409)})
async def search(request: SearchRequest, backend: ServedBy) -> Response:
    """Look for what the parts say: pictures of the collection, uploads, words and vectors, each with a weight."""
    query, options = await backend.decoding(_understood, backend, request)
    return await _answered(backend, query, options)


@router.post(
    "/search/image",
    response_model=AnswerOut,
    responses={200: _FOUND, **problems(408, 409, 413)},
    openapi_extra=body_of(ImageSearchForm),
)
async def search_image(request: Request) -> Response:
    """Look for what is like an uploaded picture, in one request."""
    backend: Backend = request.app.state.backend
    async with form_in(request, ImageSearchForm) as form:
        data, name = await form.image.read(), tidy_name(form.image.filename or "")
    query = await backend.decoding(backend.query_for, data, form.region, name, form.views)
    options = SearchOptions(form.k, only_confident=form.only_confident, rerank=form.rerank, views=form.views)
    return await _answered(backend, query, options)


@router.post("/search/several", response_model=AnswersOut, responses=problems(409))
async def search_several(request: SeveralRequest, backend: ServedBy) -> Response:
    """Look for several things, with the same options; what fails for one of them stops no other."""
    return ApiResponse({"answers": await several.answers(backend, request)})


@router.post("/uploads", status_code=201, response_model=UploadOut, responses={201: _KEPT, **problems(408, 413)})
async def upload(
    backend: ServedBy,
    image: Image,
    response: Response,
    preview: Annotated[bool, Form(description="make one, which decodes the picture")] = True,
) -> Any:
    """Keep a picture for a day, so that searches can refer to it by its id."""
    data, name, bound = await image.read(), image.filename or "", backend.max_megapixels
    kept = await backend.decoding(backend.uploads.add, data, name, bound, preview=preview)
    response.headers["Location"] = f"/api/v1/uploads/{kept.id}"
    return _upload_to_dict(kept)


@router.get("/uploads/{key}", response_model=UploadOut, responses=problems(404))
def describe_upload(key: str, backend: ServedBy) -> Any:
    """What is known of an upload."""
    return _upload_to_dict(backend.uploads.get(key))


@router.delete("/uploads/{key}", status_code=204, responses=problems(404))
def remove_upload(key: str, backend: ServedBy) -> None:
    """Remove an upload before it expires."""
    backend.uploads.remove(key)


@router.get(
    "/uploads/{key}/preview",
    response_class=Response,
    responses={200: {"content": {THUMBNAIL_TYPE: {}}}, 304: {}, **problems(404)},
)
def preview_upload(key: str, request: Request, backend: ServedBy) -> Response:
    """An upload, upright, as a JPEG of at most 1,600 pixels."""
    headers = {"ETag": f'"{backend.uploads.get(key).id}"', "Cache-Control": "private, max-age=86400"}
    if is_fresh(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(backend.uploads.read(key, preview=True), media_type=THUMBNAIL_TYPE, headers=headers)


@router.post("/classify", response_model=PredictionsOut, responses=problems(404))
def classify(request: ClassifyRequest, backend: ServedBy) -> Any:
    """What is in a picture of the collection, in an upload, or in a region of one."""
    return _labelled(backend, backend.classify(request.picture, request.top))


@router.post("/classify/several", response_model=LabelledOut, responses=problems(404))
def classify_several(request: ClassifySeveralRequest, backend: ServedBy) -> Response:
    """What is in uploads; one that cannot be read stops no other."""
    return ApiResponse({"model": backend.classifier or "", "results": several.labels(backend, request)})


@router.post("/classify/image", response_model=PredictionsOut, responses=problems(408, 413))
async def classify_image(
    backend: ServedBy, image: Image, top: Annotated[int, Form(ge=1, le=1000, description="number of labels")] = 5
) -> Any:
    """What is in an uploaded picture, in one request."""
    pixels = await backend.decoding(backend.image, await image.read())
    return _labelled(backend, await run_in_threadpool(backend.label, pixels, top))


@router.post("/embed", response_model=VectorsOut, responses=problems(408, 413))
async def embed(
    backend: ServedBy, images: Annotated[list[UploadFile], File(description="pictures' files", max_length=64)]
) -> Any:
    """The vectors of uploaded pictures, by the model of the collection that is searched."""
    files = [(image.filename or "", await image.read()) for image in images]
    return await backend.decoding(_embedded, backend, files)


def _understood(backend: Backend, request: SearchRequest) -> tuple[Query, SearchOptions]:
    options = request.to_options()
    return backend.query(request.parts, options.views), options


async def _answered(backend: Backend, query: Query, options: SearchOptions) -> Response:
    found = await backend.search(query, options)
    return ApiResponse(answer_to_dict(found))


def _upload_to_dict(kept: Upload) -> dict[str, Any]:
    expires = datetime.fromtimestamp(kept.expires, timezone.utc).isoformat(timespec="seconds")
    return {"id": kept.id, "name": kept.name, "width": kept.width, "height": kept.height, "expires": expires}


def _labelled(backend: Backend, predictions: Sequence[Prediction]) -> dict[str, Any]:
    return {"model": backend.classifier, "predictions": [one.to_dict() for one in predictions]}


def _embedded(backend: Backend, files: list[tuple[str, bytes]]) -> dict[str, Any]:
    embedder = backend.images.embedder
    bound, side = backend.max_megapixels, embedder.decode_side
    images = []
    for name, data in files:
        try:
            images.append(decoded(data, lambda source: load_image(source, bound, side), tidy_name(name)))
        except PictureError as error:  # which cannot know the name of what lies in memory
            raise PictureError(tidy_name(name), error.reason, retryable=error.retryable) from error
    vectors = backend.images.embed(images)
    mark = embedder.fingerprint
    return {"model": mark.model, "key": mark.key, "vectors": vectors.tolist()}
