"""Figures: a query beside its ranked results, and pictures with their labels as bars.

Drawn with matplotlib's object interface, so that nothing of a program's own figures is touched and no display is
needed. Names of files are literal text: ``$`` starts no formula, and a character that no font has is a box.
"""

from __future__ import annotations

import io
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagesearch.atomic import replacing
from imagesearch.errors import UsageError
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.frontends.panels import any_characters, fonts
from imagesearch.frontends.text import METRIC_CAPTIONS, columns, counted, printable, shorten_middle, shortest_names
from imagesearch.images.files import MAX_MEGAPIXELS
from imagesearch.images.pipeline import decode_ahead
from imagesearch.images.sources import ImageSource
from imagesearch.records import Hit, Metric, Prediction, Skipped
from imagesearch.search.image_encoding import load_region
from imagesearch.search.query import Part, Query, Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

DPI = 150
# A phone's photograph has 4,000 pixels per side; nothing in a figure is larger than this many.
MAX_PIXELS = 800
# Beyond this many a figure is no longer looked at, and takes minutes to draw.
MAX_DRAWN = 60
# Parts of a query, one below the other.
MAX_PARTS = 4

# Bytes of a picture's name in that of its figure, which gets a number and, while it is written, another ending.
_LONGEST_STEM = 180
_FORMATS = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp", ".pdf": "pdf", ".svg": "svg"}

_INK, _FAINT, _EDGE, _EMPTY, _TRACK = "#1c2430", "#6b7686", "#d5dae1", "#eef0f3", "#e6eaef"
_ACCENT, _BAR = "#e4572e", "#2a7f9e"

# Inches of the results figure.
_MARGIN, _CELL, _GAP, _CAPTION, _QUERY, _HEADER = 0.35, 1.75, 0.22, 0.48, 2.6, 0.72
_MAX_COLUMNS, _NARROWEST = 5, 7.0
# And of the labels figure.
_SIDE, _BARS, _LINE = 3.0, 4.4, 0.56


def results_figure(
    query: str | Query, hits: Sequence[Hit], metric: Metric, max_megapixels: float = MAX_MEGAPIXELS
) -> Figure:
    """The query in a coloured frame beside its results in ranked order, each with score and name.

    A file that cannot be read any more is a grey box with the reason. At most :data:`MAX_DRAWN` results are drawn.

    Args:
        query: the path of a picture, or a query: its first :data:`MAX_PARTS` pictures and words are drawn.
    """
    drawn, parts = hits[:MAX_DRAWN], Query.of(query).parts[:MAX_PARTS]
    pictures = _load([hit.path for hit in drawn], max_megapixels)
    asked = [_part_picture(part, max_megapixels) for part in parts]
    across = max(1, min(_MAX_COLUMNS, len(drawn)))
    # A row is as high as its highest picture, so that landscapes leave no holes.
    heights = [
        max(_size(picture, _CELL)[1] for picture in pictures[start : start + across])
        for start in range(0, len(pictures), across)
    ]
    tops = list(accumulate((height + _CAPTION + _GAP for height in heights), initial=_HEADER))
    grid_left = _MARGIN + _QUERY + 2.2 * _GAP
    width = max(grid_left + across * (_CELL + _GAP) - _GAP, _NARROWEST) + _MARGIN
    query_heights = [_size(picture, _QUERY)[1] for picture in asked]
    query_tops = list(accumulate((height + _CAPTION for height in query_heights), initial=_HEADER))
    page = _Page(width, max(tops[-1] - _GAP, query_tops[-1]) + _MARGIN / 2)

    page.text(_MARGIN, 0.24, "Query", size=13, weight="bold", color=_ACCENT)
    title = counted(len(hits), "most similar picture") if hits else "No similar pictures"
    page.text(grid_left, 0.24, title, size=13, weight="bold")
    page.text(width - _MARGIN, 0.28, METRIC_CAPTIONS[metric.value], size=8.5, color=_FAINT, align="right")
    for part, top, height, picture in zip(parts, query_tops, query_heights, asked, strict=False):
        frame = _ACCENT if part.weight > 0 else _FAINT
        page.picture(_MARGIN, top, (_QUERY, height), picture, frame=frame)
        middle = _MARGIN + _QUERY / 2
        page.text(middle, top + height + 0.13, _caption(part), size=9, align="center", room=_QUERY)
    names = shortest_names([hit.path for hit in drawn])
    for place, (hit, name, picture) in enumerate(zip(drawn, names, pictures, strict=True)):
        left, row = grid_left + place % across * (_CELL + _GAP), place // across
        page.picture(left, tops[row], (_CELL, heights[row]), picture)
        _caption_hit(page, left, tops[row] + heights[row], hit, name)
    return page.figure


def _caption_hit(page: _Page, left: float, under: float, hit: Hit, name: str) -> None:
    page.text(left, under + 0.09, f"{hit.rank}", size=9.5, weight="bold", color=_FAINT)
    page.text(left + _CELL, under + 0.09, f"{hit.score:.3f}", size=9.5, weight="bold", align="right")
    page.text(left, under + 0.28, name, size=7.5, color=_FAINT, room=_CELL)


def labels_figure(
    results: Sequence[tuple[str, Sequence[Prediction] | Skipped]], max_megapixels: float = MAX_MEGAPIXELS
) -> Figure:
    """Pictures, one below the other, each beside its labels as horizontal bars.

    Args:
        results: (path, predictions or why there are none); at most :data:`MAX_DRAWN` are drawn.
    """
    drawn = results[:MAX_DRAWN]
    loaded = _load([path for path, _ in drawn], max_megapixels)
    pictures = [
        result if isinstance(result, Skipped) else picture
        for picture, (_, result) in zip(loaded, drawn, strict=True)
    ]
    left = _MARGIN + _SIDE + 2 * _GAP
    heights = [
        (_size(picture, _SIDE)[1], 0.0 if isinstance(result, Skipped) else _LINE * len(result) - 0.2)
        for picture, (_, result) in zip(pictures, drawn, strict=True)
    ]
    height = sum(max(side + 0.35, bars) + _MARGIN for side, bars in heights) + _MARGIN
    page = _Page(left + _BARS + _MARGIN, height)
    top = _MARGIN
    names = shortest_names([path for path, _ in drawn])
    for (_, result), name, picture, (high, bars) in zip(drawn, names, pictures, heights, strict=True):
        start = top + max(0.0, (bars - high) / 2)
        page.picture(_MARGIN, start, (_SIDE, high), picture)
        middle, under = _MARGIN + _SIDE / 2, start + high + 0.12
        page.text(middle, under, name, size=9, color=_FAINT, align="center", room=_SIDE)
        start = top + max(0.0, (high - bars) / 2)
        for place, prediction in enumerate(() if isinstance(result, Skipped) else result):
            page.bar(left, start + place * _LINE, _BARS, prediction, first=place == 0)
        top += max(high + 0.35, bars) + _MARGIN
    return page.figure


def show_or_save(figure: Figure, default_name: str) -> Path | None:
    """Open a window and wait until it is closed; without a display save the figure in the working directory.

    Returns:
        The file, None if a window was opened.
    """
    return None if show(figure) else save_figure(figure, _free_name(default_name))


def _free_name(name: str) -> str:
    """The name, or with a number the first that no file has: two pictures may be called the same."""
    numbered = (name if number == 1 else f"{Path(name).stem}-{number}.png" for number in itertools.count(1))
    return next(candidate for candidate in numbered if not os.path.lexists(candidate))


def default_name(command: str, picture: str) -> str:
    """The name of a figure's file if none is given: ``imagesearch-<command>-<picture's stem>.png``."""
    stem = Path(os.path.abspath(picture)).stem or "figure"
    while len(os.fsencode(stem)) > _LONGEST_STEM:
        stem = stem[:-1]
    return f"imagesearch-{command}-{stem}.png"


def figure_format(name: str) -> str:
    """The format that a figure's file name asks for; no ending means PNG.

    Raises:
        WrongUsageError: the ending is not one of those that can be written, or it names no file.
    """
    if Path(name).name in ("", ".."):  # such as an unset variable
        raise WrongUsageError(f"{name!r} names no file: say where to save the figure")
    ending = Path(name).suffix.lower()
    if ending and ending not in _FORMATS:
        raise WrongUsageError(f"cannot save a figure as {name!r}: choose one of {', '.join(_FORMATS)}")
    return _FORMATS.get(ending, "png")


def save_figure(figure: Figure, name: str | os.PathLike[str]) -> Path:
    """Write a figure; the folder is made if it is missing.

    Returns:
        The file, with ``.png`` added if the name had no ending.

    Raises:
        WrongUsageError: an unknown ending.
        UsageError: the file cannot be written; what was there is as it was.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kind = figure_format(os.fspath(name))
    path = Path(name).expanduser()
    path = path if path.suffix else path.with_name(path.name + ".png")
    content = io.BytesIO()
    FigureCanvasAgg(figure)
    with any_characters():
        figure.savefig(content, format=kind, dpi=DPI)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(content.getvalue())
    except OSError as error:
        raise UsageError(f"cannot write {os.fspath(path)!r}: {(error.strerror or str(error)).lower()}") from error
    return path


def show(figure: Figure) -> bool:
    """Open a window and wait until it is closed; False if there is no display to open it on."""
    on_x11 = sys.platform.startswith(("linux", "freebsd"))
    if on_x11 and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    import matplotlib.pyplot as plt

    with any_characters():
        try:
            window = plt.figure(figsize=figure.get_size_inches(), dpi=100)
        except Exception:  # noqa: BLE001 - every toolkit has errors of its own for a display that does not answer
            return False
        # pyplot knows only windows it has made itself: it makes one, and this figure moves in.
        canvas: Any = window.canvas
        number = plt.gcf().number
        if canvas.required_interactive_framework is None:
            plt.close(number)
            return False
        figure.set_dpi(100)
        canvas.figure = figure
        figure.set_canvas(canvas)
        plt.show(block=True)
        plt.close(number)
    return True


class _Page:
    """A figure that is drawn on in inches from its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
        self._width, self._height = width, height
        canvas: Any = FigureCanvasAgg(self.figure)
        self._renderer = canvas.get_renderer()  # measures texts

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        bottom = self._height - top - height
        box = (left / self._width, bottom / self._height, width / self._width, height / self._height)
        axes = self.figure.add_axes(box)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def text(
        self,
        left: float,
        top: float,
        text: str,
        *,
        size: float,
        color: str = _INK,
        weight: str = "normal",
        align: str = "left",
        room: float | None = None,
        shorten: Callable[[str, int], str] = shorten_middle,
    ) -> None:
        """One line; if it is wider than ``room`` inches it is shortened until it fits."""
        where = (left / self._width, 1 - top / self._height)
        style = {"size": size, "color": color, "weight": weight, "ha": align, "va": "top", "family": fonts()}
        line = printable(text)
        artist = self.figure.text(*where, line, parse_math=False, **style)  # type: ignore[arg-type]
        if room is None:
            return
        # No font is so narrow that more characters than these would fit.
        width = min(columns(line), int(room * 72 / (0.3 * size)))
        with any_characters():
            artist.set_text(shorten(line, width))
            while width > 1 and artist.get_window_extent(self._renderer).width > room * DPI:
                width -= 1
                artist.set_text(shorten(line, width))

    def picture(
        self,
        left: float,
        top: float,
        box: tuple[float, float],
        picture: Image.Image | Skipped,
        frame: str | None = None,
    ) -> None:
        """A picture standing in a box (width, height), or a grey box with the reason why there is none."""
        width, height = _size(picture, box[0])
        axes = self.axes(left + (box[0] - width) / 2, top + box[1] - height, width, height)
        if isinstance(picture, Skipped):
            axes.set_facecolor(_EMPTY)
            reason = _wrapped(picture.reason, int(width * 11))
            style = {"ha": "center", "va": "center", "size": 8, "color": _FAINT, "family": fonts()}
            axes.text(0.5, 0.5, reason, transform=axes.transAxes, parse_math=False, **style)  # type: ignore[arg-type]
        else:
            axes.imshow(picture, aspect="auto", interpolation="antialiased")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color=frame or _EDGE, linewidth=4 if frame else 0.6)

    def bar(self, left: float, top: float, width: float, prediction: Prediction, *, first: bool) -> None:
        """A label with its probability above a bar of that length."""
        from matplotlib.patches import Rectangle

        weight, ink = ("bold", _INK) if first else ("normal", _FAINT)
        room = width - 0.65
        label = prediction.label
        self.text(left, top, label, size=10.5, weight=weight, color=ink, room=room, shorten=_fewer_names)
        self.text(left + width, top, f"{prediction.score:.1%}", size=10.5, weight=weight, color=ink, align="right")
        axes = self.axes(left, top + 0.24, width, 0.11)
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_facecolor("none")
        axes.add_patch(Rectangle((0, 0), 1, 1, color=_TRACK, linewidth=0))
        axes.add_patch(Rectangle((0, 0), prediction.score, 1, color=_ACCENT if first else _BAR, linewidth=0))


def _part_picture(part: Part, max_megapixels: float) -> Image.Image | Skipped:
    """What stands for a part of a query: its picture, cut to its region, or its words."""
    if not part.has_picture:
        return Skipped("", part.label)
    (picture,) = _load([part.value], max_megapixels, part.region)
    return picture


def _caption(part: Part) -> str:
    sign = "unlike " if part.weight < 0 else ""
    weight = "" if abs(part.weight) == 1 else f" ({abs(part.weight):g})"
    return f"{sign}{_name(part.label) if part.has_picture else part.label}{weight}"


def _load(
    paths: Sequence[ImageSource], max_megapixels: float, region: Region | None = None
) -> list[Image.Image | Skipped]:
    """Pictures no larger than needed, in order."""

    def load(path: ImageSource) -> Image.Image:
        picture = load_region(path, region, max_megapixels)
        picture.thumbnail((MAX_PIXELS, MAX_PIXELS))
        return picture

    return list(decode_ahead(paths, load, max_workers=4, ahead=4))


def _size(picture: Image.Image | Skipped, side: float) -> tuple[float, float]:
    """Width and height in inches of a picture that fits into a square."""
    if isinstance(picture, Skipped):
        return side, 0.75 * side
    longest = max(picture.size)
    # A panorama a thousand times as long as high would be nothing but its edge.
    width, height = (max(side * pixels / longest, 0.05) for pixels in picture.size)
    return width, height


def _name(path: str) -> str:
    return os.path.basename(os.path.abspath(path))


def _fewer_names(label: str, width: int) -> str:
    """ImageNet's labels are lists of synonyms: as many of them as fit, the first one in any case."""
    names = label.split(", ")
    while len(names) > 1 and columns(", ".join(names)) > width:
        names.pop()
    return shorten_middle(", ".join(names), width)


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(printable(text), width)[:6])
