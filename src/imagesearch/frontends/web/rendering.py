"""Pictures as browsers get them: decoded by the library's own decoder, in bounded time, and encoded again.

What was encoded here holds pixels and nothing else: no script, no markup, no place where a photograph was taken.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from imagesearch.frontends.web.decoding import decoded
from imagesearch.images.sources import load_image

if TYPE_CHECKING:
    from PIL import Image

    from imagesearch.images.sources import ImageSource

THUMBNAIL_TYPE = "image/jpeg"
# Of Pillow, 1 to 95. Below, edges show; above, files grow faster than pictures get better.
_QUALITY = 80


def as_jpeg(source: ImageSource, longest: int, max_megapixels: float, name: str | None = None) -> bytes:
    """A picture as a JPEG that fits into a square.

    Args:
        source: see :func:`imagesearch.images.sources.load_image`.
        longest: side of the square in pixels; smaller pictures keep their size.
        name: see :func:`~imagesearch.frontends.web.decoding.decoded`.

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
    decoded(source, load, name).save(target, "JPEG", quality=_QUALITY, optimize=True, progressive=True)
    return target.getvalue()
