"""Labelling by hand: which picture comes next, and what somebody says of it.

Who names no session shares one with all others who name none, as the page does. Only the owner may label, or
everybody where the settings say so (``server.allow_labels``).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from imagesearch.active_labelling import LabelSession
from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.failures import LabelsForbiddenError
from imagesearch.frontends.web.replies import HandLabelsOut, LabellingOut, LabelSessionOut
from imagesearch.frontends.web.responses import ApiResponse, ServedBy, is_owner, links, problems
from imagesearch.frontends.web.schemas import (
    MOST_QUESTIONS,
    GiveLabelRequest,
    LabelSessionId,
    LabelStepId,
    OpenLabelSessionRequest,
    SkipRequest,
)
from imagesearch.learning.questions import Question

router = APIRouter(prefix="/labelling", tags=["labelling"])

# Questions told at a time where nobody says.
_USUAL = 4
# As many pictures are compared at a time.
_MOST_OFFSET = 10_000

Session = Annotated[
    LabelSessionId | None, Query(description="one's own, from POST /labelling/sessions; none: that of all others")
]
Count = Annotated[int, Query(ge=0, le=MOST_QUESTIONS, description="questions to answer with")]


@router.get("", response_model=LabellingOut, responses=problems(404, 409))
def next_questions(
    request: Request,
    backend: ServedBy,
    count: Count = _USUAL,
    offset: Annotated[int, Query(ge=0, le=_MOST_OFFSET, description="questions to leave out")] = 0,
    session: Session = None,
) -> Response:
    """The pictures to label next, the most useful first, with the most probable labels; labels and progress."""
    found = _permitted(request, backend, session)
    return ApiResponse(_state(found, count, offset))


@router.post("/labels", response_model=LabellingOut, responses=problems(404, 409))
def give_label(order: GiveLabelRequest, request: Request, backend: ServedBy, session: Session = None) -> Response:
    """Label a picture, and all files with the same content; it is in the database when this answers."""
    found = _permitted(request, backend, session)
    step = found.give(int(order.id), order.label, only_if_unlabelled=not order.replace)
    backend.browser.forget_orders()  # filters may refer to it
    return ApiResponse(_state(found, order.count, step=step))


@router.get("/labels", response_model=HandLabelsOut, responses=problems(404, 409))
def labels_given(request: Request, backend: ServedBy, session: Session = None) -> Response:
    """All files that a person has labelled, with their labels; sorted by path."""
    files = _permitted(request, backend, session).labelled()
    return ApiResponse({"files": [{"path": path, "label": label} for path, label in files]})


@router.post("/skips", response_model=LabellingOut, responses=problems(404, 409))
def skip_picture(order: SkipRequest, request: Request, backend: ServedBy, session: Session = None) -> Response:
    """Do not ask for a picture any more in this session; in the shared one, until the server is started again."""
    found = _permitted(request, backend, session)
    step = found.skip(int(order.id))
    return ApiResponse(_state(found, order.count, step=step))


@router.post("/undo", response_model=LabellingOut, responses=problems(404, 409))
def undo_step(
    request: Request,
    backend: ServedBy,
    count: Count = _USUAL,
    step: Annotated[LabelStepId | None, Query(description="which label or skip; none: the last one")] = None,
    session: Session = None,
) -> Response:
    """Take back a label or skip of this session; its picture is the next one again.

    One that is not known (any more), such as one from before the server was started again, is left as it is:
    ``undone`` is null.
    """
    found = _permitted(request, backend, session)
    undone = found.undo(step)
    backend.browser.forget_orders()
    return ApiResponse(_state(found, count, undone=undone))


@router.post(
    "/sessions",
    status_code=201,
    response_model=LabelSessionOut,
    responses=problems(409) | {201: links("/id", "end_label_session")},
)
def open_label_session(order: OpenLabelSessionRequest, request: Request, backend: ServedBy) -> Response:
    """A session of one's own: with its own labels to expect, skips, and steps to undo.

    Few are kept: the one that was used least recently ends where too many are opened.
    """
    _require_right(request, backend)
    key, session = backend.label_sessions.open(order.labels, order.under)
    return ApiResponse({**_state(session, 0), "id": key}, status_code=201)


@router.delete("/sessions/{key}", status_code=204, responses=problems(404))
def end_label_session(
    key: Annotated[LabelSessionId, Path(description="of the session")], request: Request, backend: ServedBy
) -> Response:
    """End a session of one's own; what was labelled is kept."""
    _require_right(request, backend)
    backend.label_sessions.end(key)
    return Response(status_code=204)


def _state(
    session: LabelSession, count: int, offset: int = 0, *, step: str | None = None, undone: Question | None = None
) -> dict[str, Any]:
    questions = session.next(offset + count)[offset:] if count else []
    progress = session.progress().to_dict()
    labels = [{"label": label, "pictures": number} for label, number in progress.pop("labels").items()]
    return {
        "questions": list(map(_asked, questions)),
        "labels": labels,
        **progress,
        "step": step,
        "undone": undone and _asked(undone),
    }


def _asked(question: Question) -> dict[str, Any]:
    return {**question.to_dict(), "id": str(question.id)}


def _permitted(request: Request, backend: Backend, session: str | None) -> LabelSession:
    _require_right(request, backend)
    return backend.label_sessions.get(session)


def _require_right(request: Request, backend: Backend) -> None:
    if not (backend.settings.allow_labels or is_owner(request)):
        raise LabelsForbiddenError(
            "only the owner of the database may label pictures: start the server with 'imagesearch serve"
            " --allow-labels' to let everybody who may use it"
        )
