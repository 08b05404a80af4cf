"""Forms with a picture, read by a model of pydantic's.

FastAPI looks at the types of every field again for each request, which is a twentieth of the time of a search by
upload; a model is compiled once. What a form may hold, what is refused and how, is the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypeVar

from fastapi import Request, UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from imagesearch.frontends.web.schemas import MOST_HITS, Rerank, ViewsOfQuery

Form = TypeVar("Form", bound=BaseModel)


class ImageSearchForm(BaseModel):
    """A picture to search with, and how many results are wanted."""

    image: Annotated[UploadFile, Field(description="a picture's file")]
    k: Annotated[int, Field(ge=1, le=MOST_HITS, description="number of results")] = 30
    region: Annotated[str | None, Field(max_length=100, description="x,y,width,height, or percent")] = None
    only_confident: Annotated[bool, Field(description="leave out what may well be unrelated")] = False
    rerank: Rerank = None
    views: ViewsOfQuery = None


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """For ``openapi_extra=`` of a route: the form that it takes."""
    content = {"multipart/form-data": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


@contextlib.asynccontextmanager
async def form_in(request: Request, model: type[Form]) -> AsyncIterator[Form]:
    """The form that a request carries; its files are closed at the end.

    Raises:
        RequestValidationError: a field is missing or cannot be used.
        HTTPException: the body is no form (400).
    """
    try:
        form = await request.form()
    except (HTTPException, ClientDisconnect):
        raise
    except Exception as error:
        raise HTTPException(400, "the body cannot be read as a form") from error
    try:
        yield _validated({name: value for name, value in form.items() if value != ""}, model)
    finally:
        await form.close()


def _validated(fields: dict[str, Any], model: type[Form]) -> Form:
    """Of fields that were left empty, which browsers send all the same, the default counts."""
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in error.errors()]) from error
