"""Panels: charts, below each other in one file, or each a PNG file of its own, for light and for dark pages."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Readable on white and on black.
BAR, ACCENT, THIRD = "#2a7f9e", "#e4572e", "#8a6fc0"
# Inches, and pixels per inch of PNG files.
_WIDTH, _DPI = 8.0, 110
# Text and lines, and what they are on.
_LIGHT, _DARK = ("#1c2430", "#ffffff"), ("#e6eaf0", "#1e242c")

# Fonts for what matplotlib's own has no glyphs for, where the machine has them.
_FALLBACK_FONTS = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Hiragino Sans", "PingFang SC", "Microsoft YaHei"),
    *(
        "Yu Gothic",
        "Malgun Gothic",
        "WenQuanYi Zen Hei",
        "Noto Sans Arabic",
        "Noto Sans Devanagari",
        "Arial Unicode MS",
    ),
    *("Noto Emoji", "Segoe UI Emoji", "Symbola"),
)


class Panel(NamedTuple):
    """One chart.

    Attributes:
        height: inches.
        draw: draws it.
        name: of its file, without ending.
        says: what it shows, for who cannot see it.
    """

    height: float
    draw: Callable[[Axes], None]
    name: str = "figure"
    says: str = "figure"


def figure_of(panels: Sequence[Panel]) -> Figure:
    """All panels below each other."""
    from matplotlib.figure import Figure

    with _colours(_LIGHT):
        heights = [one.height for one in panels]
        figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
        for one, axes in zip(panels, grid[:, 0], strict=True):
            one.draw(axes)
    return figure


def as_png(panel: Panel, *, dark: bool = False) -> bytes:
    """A panel as the bytes of a PNG file.

    Args:
        dark: for a dark page.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    content = io.BytesIO()
    with _colours(_DARK if dark else _LIGHT), any_characters():
        figure = Figure(figsize=(_WIDTH, panel.height), layout="constrained")
        FigureCanvasAgg(figure)
        panel.draw(figure.subplots())
        figure.savefig(content, format="png", dpi=_DPI)
    return content.getvalue()


def ink() -> str:
    """The colour of text and lines of the panel that is being drawn."""
    import matplotlib

    return str(matplotlib.rcParams["text.color"])


def ground() -> str:
    """The colour that it is drawn on."""
    import matplotlib

    return str(matplotlib.rcParams["axes.facecolor"])


def title(axes: Axes, text: str) -> None:
    """A title, literally, and no frame at the top and the right."""
    axes.set_title(text, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)


@contextlib.contextmanager
def _colours(colours: tuple[str, str]) -> Iterator[None]:
    import matplotlib

    front, back = colours
    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "xtick.color", "ytick.color")
    settings: Any = {
        **dict.fromkeys(names, front),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), back),
        "font.family": fonts(),
        "text.parse_math": False,  # names of classes may hold a dollar
    }
    with matplotlib.rc_context(settings):
        yield


@lru_cache
def fonts() -> list[str]:
    """Names of fonts that together have as many characters as possible, the preferred one first."""
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in there)]


@contextlib.contextmanager
def any_characters() -> Iterator[None]:
    """No word on the terminal about characters that no font has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(Glyph|Matplotlib currently does not support) ")
        yield
