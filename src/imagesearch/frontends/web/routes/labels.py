"""Labelling by hand: which picture comes next, and what somebody says of it.

All clients share one session. Only the owner may label, or everybody where the settings say so
(``server.allow_labels``).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.failures import LabelsForbiddenError
from imagesearch.frontends.web.replies import LabellingOut
from imagesearch.frontends.web.responses import ApiResponse, ServedBy, is_owner, problems
from imagesearch.frontends.web.schemas import GiveLabelRequest, PictureId, SkipRequest
from imagesearch.frontends.web.uploads import NotFoundError

router = APIRouter(prefix="/labelling", tags=["labelling"])

# Questions told at a time where nobody says.
_USUAL = 4


@router.get("", response_model=LabellingOut, responses=problems(404, 409))
def next_questions(
    request: Request, backend: ServedBy, count: Annotated[int, Query(ge=1, le=50)] = _USUAL
) -> Response:
    """The pictures to label next, the most useful first, with the most probable labels; labels and progress."""
    _require_right(request, backend)
    return _state(backend, count)


@router.post("/labels", response_model=LabellingOut, responses=problems(404, 409))
def give_label(order: GiveLabelRequest, request: Request, backend: ServedBy) -> Response:
    """Label a picture, and all files with the same content; it is in the database when this answers."""
    _require_right(request, backend)
    session = backend.label_session()
    session.give(_known(backend, order.id), order.label, only_if_unlabelled=not order.replace)
    backend.browser.forget_orders()  # filters may refer to it
    return _state(backend, order.count)


@router.post("/skips", response_model=LabellingOut, responses=problems(404, 409))
def skip_picture(order: SkipRequest, request: Request, backend: ServedBy) -> Response:
    """Do not ask for a picture any more, until the server is started again."""
    _require_right(request, backend)
    backend.label_session().skip(_known(backend, order.id))
    return _state(backend, order.count)


@router.post("/undo", response_model=LabellingOut, responses=problems(404, 409))
def undo_last(
    request: Request,
    backend: ServedBy,
    count: Annotated[int, Query(ge=1, le=50)] = _USUAL,
    picture: Annotated[PictureId | None, Query(description="only if the last one was of this picture")] = None,
) -> Response:
    """Take back the last label or skip since the server was started; its picture is the next one again."""
    _require_right(request, backend)
    undone = backend.label_session().undo(None if picture is None else int(picture)) is not None
    backend.browser.forget_orders()
    return _state(backend, count, undone=undone)


def _state(backend: Backend, count: int, *, undone: bool = False) -> Response:
    session = backend.label_session()
    questions = [{**one.to_dict(), "id": str(one.id)} for one in session.next(count)]
    progress = session.progress().to_dict()
    labels = [{"label": label, "pictures": number} for label, number in progress.pop("labels").items()]
    return ApiResponse({"questions": questions, "labels": labels, **progress, "undone": undone})


def _known(backend: Backend, key: str) -> int:
    """
    Raises:
        NotFoundError: there is no such picture among those to label.
    """
    number = int(key)
    if not backend.label_session().knows(number):
        raise NotFoundError(f"there is no picture {key} in the collection")
    return number


def _require_right(request: Request, backend: Backend) -> None:
    if not (backend.settings.allow_labels or is_owner(request)):
        raise LabelsForbiddenError(
            "only the owner of the database may label pictures: start the server with 'imagesearch serve"
            " --allow-labels' to let everybody who may use it"
        )
