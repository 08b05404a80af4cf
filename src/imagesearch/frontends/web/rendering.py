"""Pictures as browsers get them: decoded by the library's own decoder, in bounded time, and encoded again.

What was encoded here holds pixels and nothing else: no script, no markup, no place where a photograph was taken.
"""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING, TypeVar

from imagesearch.images.pipeline import decode_ahead
from imagesearch.images.sources import load_image
from imagesearch.records import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from imagesearch.images.sources import ImageSource

# Seconds that decoding one picture may take.
DECODE_SECONDS = 20.0
Loaded = TypeVar("Loaded")

THUMBNAIL_TYPE = "image/jpeg"
# Of Pillow, 1 to 95. Below, edges show; above, files grow faster than pictures get better.
_QUALITY = 80


def decoded(source: ImageSource, load: Callable[[ImageSource], Loaded], seconds: float = DECODE_SECONDS) -> Loaded:
    """What ``load`` makes of a picture.

    Raises:
        PictureError: it cannot be read, or not in that many seconds.
    """
    result = next(itertools.islice(decode_ahead([source], load, max_workers=1, timeout=seconds), 1))
    if isinstance(result, Skipped):
        raise result.error()
    return result


def as_jpeg(source: ImageSource, longest: int, max_megapixels: float) -> bytes:
    """A picture as a JPEG that fits into a square.

    Args:
        source: see :func:`imagesearch.images.sources.load_image`.
        longest: side of the square in pixels; smaller pictures keep their size.

    Raises:
        PictureError: it cannot be read.
    """

    def load(source: ImageSource) -> Image.Image:
        # Decoding to a fraction of the size is faster; of a panorama the shorter side is what gets small.
        image = load_image(source, max_megapixels, shortest=longest)
        image.thumbnail((longest, longest))
        image.info.clear()  # Pillow writes comments and XMP of the file that was read
        return image

    target = io.BytesIO()
    decoded(source, load).save(target, "JPEG", quality=_QUALITY, optimize=True, progressive=True)
    return target.getvalue()
