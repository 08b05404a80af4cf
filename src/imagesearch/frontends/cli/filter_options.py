"""The flags that say which pictures count."""

from __future__ import annotations

import functools
from typing import Any

import typer

from imagesearch.errors import UsageError
from imagesearch.frontends.cli.options import Command, extended, parameter
from imagesearch.frontends.errors import WrongUsageError

_PANEL = "Filters"


def filters(command: Command) -> Command:
    """Add the flags; the command gets ``where``, a :class:`imagesearch.search.filters.Filter`, or None."""

    @functools.wraps(command)
    def run(
        *,
        under: list[str] | None,
        after: str | None,
        before: str | None,
        near: str | None,
        min_width: int,
        min_height: int,
        format: list[str] | None,
        camera: str | None,
        expression: str | None,
        **given: Any,
    ) -> None:
        from imagesearch.search.filters import Filter

        try:
            where = Filter(
                under=tuple(under or ()),
                after=after,
                before=before,
                near=None if near is None else _place(near),
                min_width=min_width,
                min_height=min_height,
                formats=tuple(format or ()),
                camera=camera,
                expression=expression,
            )
        except UsageError as error:  # a date, or a place, that makes no sense
            raise WrongUsageError(str(error)) from error
        command(where=where or None, **given)

    return extended(run, command, "where", _parameters())


def _parameters() -> list[Any]:
    def option(default: Any, name: str, text: str, metavar: str, **more: Any) -> Any:
        return typer.Option(default, name, help=text, metavar=metavar, rich_help_panel=_PANEL, **more)

    text, texts, number = str | None, list[str] | None, int
    under = "Only pictures below this folder. Repeatable."
    after = "Only pictures taken (or, if that is unknown, changed) from this day, month or year on."
    before = "Only pictures taken (or changed) before it."
    near = "Only pictures taken within so many kilometres of a place, in degrees."
    expression = "Only pictures of which this holds, in Milvus's language, such as 'width > height'."
    return [
        parameter("under", texts, option(None, "--under", under, "DIR")),
        parameter("after", text, option(None, "--after", after, "DATE")),
        parameter("before", text, option(None, "--before", before, "DATE")),
        parameter("near", text, option(None, "--near", near, "LAT,LON,KM")),
        parameter(
            "min_width", number, option(0, "--min-width", "Only pictures at least this wide.", "PIXELS", min=0)
        ),
        parameter(
            "min_height", number, option(0, "--min-height", "Only pictures at least this high.", "PIXELS", min=0)
        ),
        parameter("format", texts, option(None, "--format", "Only files of this ending. Repeatable.", "jpg")),
        parameter("camera", text, option(None, "--camera", "Only of cameras with this in their name.", "TEXT")),
        parameter("expression", text, option(None, "--filter", expression, "EXPRESSION")),
    ]


def _place(text: str) -> tuple[float, float, float]:
    try:
        latitude, longitude, kilometres = map(float, text.split(","))
    except ValueError as error:
        raise WrongUsageError(f"--near {text}: must be latitude,longitude,kilometres: 48.1,11.6,5") from error
    return latitude, longitude, kilometres
