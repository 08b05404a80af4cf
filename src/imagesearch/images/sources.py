"""Pictures in every form that is accepted: paths, bytes, open files, Pillow images, arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeVar

from imagesearch.errors import PictureError, UsageError
from imagesearch.images.files import (
    IN_MEMORY,
    MAX_MEGAPIXELS,
    RETRYABLE,
    decode,
    file_content,
    most_bytes,
    open_image,
    too_many_bytes,
    upright_rgb,
)
from imagesearch.images.find import reason_of
from imagesearch.images.metadata import upright_size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

Source = TypeVar("Source")
ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | BinaryIO | Image.Image | NDArray[np.uint8]"


def load_image(
    source: ImageSource, max_megapixels: float = MAX_MEGAPIXELS, shortest: int | None = None
) -> Image.Image:
    """A picture, in any form that is accepted, as an upright RGB :class:`PIL.Image.Image`.

    Large ones come out smaller, see :func:`decode`.

    Args:
        source: a path, the bytes of a file, a file open for reading bytes, a Pillow image (these stay open), or a
            uint8 array of shape (height, width) or (height, width, 3 or 4).
        max_megapixels: larger files are refused.
        shortest: for files: see :func:`decode`.

    Raises:
        PictureError: it cannot be read or decoded, has no pixels, or the file exceeds the bound.
        UsageError: it is of another type, or an array of another type or shape.
    """
    return load_with_size(source, max_megapixels, shortest)[0]


def load_with_size(
    source: ImageSource, max_megapixels: float = MAX_MEGAPIXELS, shortest: int | None = None
) -> tuple[Image.Image, tuple[int, int]]:
    """:func:`load_image`, and the picture's width and height in pixels before anything made it smaller."""
    import numpy as np
    from PIL import Image

    if isinstance(source, (str, os.PathLike)):
        name = os.fsdecode(source)
        with file_content(name, max_megapixels) as (data, _), open_image(data, name, max_megapixels) as image:
            size = upright_size(image)
            return decode(image, name, shortest), size
    if isinstance(source, (bytes, bytearray, memoryview)) or callable(getattr(source, "read", None)):
        data = bytes_of(source, max_megapixels)
        with open_image(data, IN_MEMORY, max_megapixels) as image:
            size = upright_size(image)
            return decode(image, IN_MEMORY, shortest), size
    if isinstance(source, np.ndarray):
        shape_is_right = source.ndim in (2, 3) and source.shape[2:] in ((), (3,), (4,)) and source.size
        if source.dtype != np.uint8 or not shape_is_right:
            raise UsageError(
                f"expected a uint8 array of shape (height, width) or (height, width, 3 or 4), got {source.dtype}"
                f" {source.shape}"
            )
        source = Image.fromarray(source)
    if not isinstance(source, Image.Image):
        raise UsageError(
            f"expected a path, bytes, an open file, a Pillow image or a uint8 array, got {type(source).__name__}"
        )
    if not (source.width and source.height):
        raise PictureError(IN_MEMORY, f"has no pixels ({source.width} x {source.height})")
    return upright_rgb(source, IN_MEMORY), upright_size(source)


def several(images: Iterable[Source]) -> Iterable[Source]:
    """The same, if it is not a single picture, of which some could be iterated over, too.

    Raises:
        UsageError: it is one, or nothing to iterate over.
    """
    from PIL import Image

    one = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)
    is_array = 0 < getattr(images, "ndim", 0) < 4
    if isinstance(images, one) or is_array or hasattr(images, "read") or not isinstance(images, Iterable):
        kind = type(images).__name__
        raise UsageError(f"expected a list of pictures, got a single {kind}: put it into brackets")
    return images


def bytes_of(source: Any, max_megapixels: float) -> bytes:
    """The bytes of a file in memory, or of an open one.

    Raises:
        PictureError: there are none, more than a picture within the bound can have, or they cannot be read.
        UsageError: the file is open for reading text.
    """
    most = most_bytes(max_megapixels)
    if hasattr(source, "read"):
        try:
            source = source.read(most + 1)
        except OSError as error:
            raise PictureError(IN_MEMORY, reason_of(error), retryable=error.errno in RETRYABLE) from error
    if isinstance(source, str):
        raise UsageError("expected a file that is open for reading bytes (mode 'rb'), got one of text")
    data = bytes(source)
    if not data:
        raise PictureError(IN_MEMORY, "is empty (0 bytes)")
    if len(data) > most:
        raise PictureError(IN_MEMORY, too_many_bytes(len(data), most, max_megapixels))
    return data
