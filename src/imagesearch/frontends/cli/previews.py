"""Previews of hits in the terminal: as pictures where it can show them, else as coloured blocks.

Several hits stand side by side: they are one picture for the terminal, and their captions are lines below it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TextIO

from imagesearch.errors import PictureError
from imagesearch.frontends.cli.graphics import iterm2, kitty, print_blocks, sixel
from imagesearch.frontends.text import columns, printable, shorten_middle, shortest_names
from imagesearch.images.files import MAX_MEGAPIXELS
from imagesearch.images.pipeline import decode_ahead
from imagesearch.images.sources import load_image
from imagesearch.records import Hit, Skipped

if TYPE_CHECKING:
    from PIL import Image

# Ways to show pictures; the first chooses one of the others.
KINDS = ("auto", "kitty", "iterm2", "sixel", "blocks")

# Characters of one preview and between two; characters are about twice as high as wide.
_COLUMNS, _ROWS, _GAP = 20, 10, 2
# Rows of one large picture at most.
_MOST_ROWS = 30
# Pixels of a character, where the terminal does not say; and where a character stands for two.
_USUAL, _BLOCKS = (10, 20), (1, 2)
_KONSOLE_WITH_SIXEL = 220400
_UNREADABLE = (128, 128, 128)


def preview_kind(wanted: str, stream: TextIO, environ: Mapping[str, str] | None = None) -> str | None:
    """How pictures are to be shown on a stream; None: not at all.

    Args:
        wanted: one of :data:`KINDS`. All but ``"auto"`` are taken at their word, even where the stream is no
            terminal.
        environ: the variables by which terminals make themselves known; default: the process's.
    """
    environ = os.environ if environ is None else environ
    if wanted != "auto":
        return wanted
    if not stream.isatty() or environ.get("TERM") == "dumb":
        return None
    return _graphics(environ) or (None if environ.get("NO_COLOR") else "blocks")


def _graphics(environ: Mapping[str, str]) -> str | None:
    """The protocol for pictures of the terminal that set these variables."""
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if "TMUX" in environ or "STY" in environ or term.startswith(("tmux", "screen")):
        return None  # they let pictures through only where they are told to
    if "KITTY_WINDOW_ID" in environ or "kitty" in term or "ghostty" in (term.removeprefix("xterm-"), program):
        return "kitty"
    if program in ("iTerm.app", "WezTerm", "mintty") or environ.get("LC_TERMINAL") == "iTerm2":
        return "iterm2"
    version = environ.get("KONSOLE_VERSION", "")
    konsole = version.isdecimal() and int(version) >= _KONSOLE_WITH_SIXEL
    return "sixel" if konsole or term.startswith(("foot", "mlterm", "yaft")) or "sixel" in term else None


def show_previews(
    hits: Sequence[Hit], stream: TextIO, kind: str, *, width: int = 0, max_megapixels: float = MAX_MEGAPIXELS
) -> None:
    """Print small pictures of hits, as many side by side as fit, with rank, score and name below each.

    Args:
        kind: what :func:`preview_kind` chose.
        width: of the terminal, in characters; 0: as it says.
        max_megapixels: larger pictures are not shown.
    """
    width = width or shutil.get_terminal_size().columns
    across = max(1, (width + _GAP) // (_COLUMNS + _GAP))
    pixels = _BLOCKS if kind == "blocks" else _pixels_per_character(stream)
    names = shortest_names([hit.path for hit in hits])
    pictures = _load(hits, pixels, max_megapixels)
    previews = list(map(_Preview, hits, names, pictures))
    for start in range(0, len(previews), across):
        row = previews[start : start + across]
        _show(row, pixels, stream, kind)
        stream.writelines(f"{line}\n" for line in _captions(row))
    stream.flush()


def show_picture(
    path: str, stream: TextIO, kind: str, *, rows: int = 0, max_megapixels: float = MAX_MEGAPIXELS
) -> None:
    """Print one picture as large as fits into the terminal; a line of text where it cannot be read.

    Args:
        kind: what :func:`preview_kind` chose.
        rows: of characters; 0: as many as leave room for some lines of text.
        max_megapixels: a larger one is not shown.
    """
    terminal = shutil.get_terminal_size()
    rows = rows or max(4, min(_MOST_ROWS, terminal.lines - 8))
    pixels = _BLOCKS if kind == "blocks" else _pixels_per_character(stream)
    box = (terminal.columns * pixels[0], rows * pixels[1])
    try:
        picture = load_image(path, max_megapixels, max(box))
    except PictureError as error:
        stream.write(f"{printable(str(error))}\n")
        return
    picture.thumbnail(box)
    across, down = (max(1, -(-side // pixel)) for side, pixel in zip(picture.size, pixels, strict=True))
    _draw(picture, across, down, stream, kind)
    stream.flush()


class _Preview(NamedTuple):
    hit: Hit
    name: str
    picture: Image.Image | Skipped


def _load(hits: Sequence[Hit], pixels: tuple[int, int], max_megapixels: float) -> Iterator[Image.Image | Skipped]:
    """Pictures no larger than a preview."""
    box = (_COLUMNS * pixels[0], _ROWS * pixels[1])

    def load(path: str) -> Image.Image:
        picture = load_image(path, max_megapixels, max(box))
        picture.thumbnail(box)
        return picture

    return decode_ahead([hit.path for hit in hits], load)


def _show(row: Sequence[_Preview], pixels: tuple[int, int], stream: TextIO, kind: str) -> None:
    _draw(_side_by_side(row, pixels), len(row) * (_COLUMNS + _GAP) - _GAP, _ROWS, stream, kind)


def _draw(picture: Image.Image, across: int, down: int, stream: TextIO, kind: str) -> None:
    """Print a picture over so many columns and rows of characters."""
    if kind == "blocks":
        print_blocks(picture, stream)
    elif kind == "kitty":
        stream.write(f"{kitty(picture, across, down)}\n")
    elif kind == "iterm2":
        stream.write(f"{iterm2(picture, across, down)}\n")
    else:
        stream.write(f"{sixel(picture)}\n")


def _side_by_side(row: Sequence[_Preview], pixels: tuple[int, int]) -> Image.Image:
    """The pictures of a row in one, transparent between them; a grey box for one that cannot be read."""
    from PIL import Image

    wide, high = _COLUMNS * pixels[0], _ROWS * pixels[1]
    step = wide + _GAP * pixels[0]
    canvas = Image.new("RGBA", (len(row) * step - _GAP * pixels[0], high))
    for place, preview in enumerate(row):
        picture = preview.picture
        if isinstance(picture, Skipped):
            picture = Image.new("RGB", (wide, high), _UNREADABLE)
        canvas.paste(picture, (place * step + (wide - picture.width) // 2, (high - picture.height) // 2))
    return canvas


def _captions(row: Sequence[_Preview]) -> Iterator[str]:
    """Rank and score, the name, and why there is no picture."""
    yield _line([f"{preview.hit.rank}  {preview.hit.score:.3f}" for preview in row])
    yield _line([preview.name for preview in row])
    reasons = [preview.picture.reason if isinstance(preview.picture, Skipped) else "" for preview in row]
    if any(reasons):
        yield _line(reasons)
    yield ""


def _line(texts: Sequence[str]) -> str:
    short = [shorten_middle(printable(text), _COLUMNS) for text in texts]
    return (" " * _GAP).join(text + " " * (_COLUMNS - columns(text)) for text in short).rstrip()


def _pixels_per_character(stream: TextIO) -> tuple[int, int]:
    """Width and height of a character in pixels, as the terminal says, or as is usual."""
    try:
        import fcntl
        import struct
        import termios

        answer = fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, bytes(8))
    except (ImportError, OSError, ValueError):  # Windows, or no terminal
        return _USUAL
    rows, across, width, height = struct.unpack("HHHH", answer)
    known = rows and across and width >= across and height >= rows
    return (width // across, height // rows) if known else _USUAL
