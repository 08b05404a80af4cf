r"""A picture as the text that makes a terminal show it.

No library does what is needed here: term-image wants a Pillow of before version 11, and textual-image asks the
terminal questions when it is imported and does not know iTerm2's protocol. The protocols are small:

* kitty, Ghostty: https://sw.kovidgoyal.net/kitty/graphics-protocol/
* iTerm2, WezTerm, mintty: https://iterm2.com/documentation-images.html
* sixel (VT330/VT340 Programmer Reference Manual, volume 2, chapter 14): foot, mlterm, xterm as a VT340

Elsewhere a character stands for two pixels, one above the other: "▀" with a colour of its own and one behind it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

# Kitty takes no more characters of data in one escape sequence.
_CHUNK = 4096
# Colours of a sixel picture: as many as any terminal has registers for, but a few.
_COLOURS = 250
_SIXEL_ROWS = 6
# Of 255; what is more transparent is not drawn where it is all or nothing.
_OPAQUE = 128


def kitty(picture: Image.Image, columns: int, rows: int) -> str:
    """An escape sequence of kitty's protocol: a PNG, drawn over so many columns and rows of characters."""
    data = base64.standard_b64encode(_png(picture)).decode("ascii")
    chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    # a=T: send and show; f=100: PNG; q=2: answer nothing, which would be read by the shell.
    first = f"a=T,f=100,q=2,c={columns},r={rows},"
    return "".join(
        f"\x1b_G{'' if number else first}m={int(number < len(chunks) - 1)};{chunk}\x1b\\"
        for number, chunk in enumerate(chunks)
    )


def iterm2(picture: Image.Image, columns: int, rows: int) -> str:
    """An escape sequence of iTerm2's protocol, the same in other respects."""
    png = _png(picture)
    size = f"size={len(png)};width={columns};height={rows};preserveAspectRatio=0"
    return f"\x1b]1337;File=inline=1;{size}:{base64.standard_b64encode(png).decode('ascii')}\x07"


def sixel(picture: Image.Image) -> str:
    """A picture in sixels, which has the size of its pixels: bands of six rows, drawn colour by colour."""
    import numpy as np

    quantized = picture.convert("RGB").quantize(_COLOURS)
    palette = quantized.getpalette() or []
    used = np.asarray(quantized).astype(np.int16)
    used = np.where(np.asarray(picture.convert("RGBA"))[..., 3] >= _OPAQUE, used, -1)
    present = [int(colour) for colour in np.unique(used) if colour >= 0]
    registers = "".join(
        f"#{colour};2;" + ";".join(str(round(value * 100 / 255)) for value in palette[3 * colour : 3 * colour + 3])
        for colour in present
    )
    # 1 after the first semicolon: pixels that are not drawn stay as they are. Then the aspect ratio and the size.
    header = f'\x1bP0;1q"1;1;{picture.width};{picture.height}'
    bands = (used[top : top + _SIXEL_ROWS] for top in range(0, picture.height, _SIXEL_ROWS))
    return f"{header}{registers}{'-'.join('$'.join(_strokes(band)) for band in bands)}\x1b\\"


def _strokes(band: NDArray[np.int16]) -> Iterator[str]:
    """The sixels of one band, for each of its colours."""
    import numpy as np

    weights = 1 << np.arange(len(band))[:, None]
    for colour in np.unique(band):
        if colour >= 0:
            codes = ((band == colour) * weights).sum(axis=0) + 63
            yield f"#{colour}{_run_lengths(codes)}"


def _run_lengths(codes: NDArray[np.int64]) -> str:
    """Characters, repeated ones as ``!<times><character>``; none at the end that draw nothing."""
    import numpy as np

    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    lengths = np.diff(np.append(starts, len(codes)))
    runs = [(chr(code), int(length)) for code, length in zip(codes[starts], lengths, strict=True)]
    if runs[-1][0] == "?":
        runs.pop()
    return "".join(f"!{length}{character}" if length > 3 else character * length for character, length in runs)


def print_blocks(picture: Image.Image, stream: TextIO) -> None:
    """Print a picture as coloured characters, one for two pixels, in as many colours as the terminal has."""
    from rich.console import Console
    from rich.text import Text

    on_terminal = stream.isatty()
    console = Console(
        file=stream,
        force_terminal=True,
        color_system="auto" if on_terminal else "truecolor",
        width=picture.width,
        legacy_windows=None if on_terminal else False,
    )
    pixels = picture.convert("RGBA")
    for top in range(0, pixels.height, 2):
        line = Text(no_wrap=True, end="\n")
        for left in range(pixels.width):
            upper = _colour(pixels, left, top)
            lower = _colour(pixels, left, top + 1) if top + 1 < pixels.height else None
            line.append(*_block(upper, lower))
        console.print(line)


def _colour(picture: Image.Image, x: int, y: int) -> str | None:
    """A pixel's colour for Rich; None if it is not to be seen."""
    red, green, blue, alpha = picture.getpixel((x, y))  # type: ignore[misc]
    return f"#{red:02x}{green:02x}{blue:02x}" if alpha >= _OPAQUE else None


def _block(upper: str | None, lower: str | None) -> tuple[str, str]:
    """The character for two pixels, and its style."""
    if upper is None:
        return (" ", "") if lower is None else ("▄", lower)
    return "▀", upper if lower is None else f"{upper} on {lower}"


def _png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
