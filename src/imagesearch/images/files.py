"""Picture files: find them, tell them apart, decode them.

One decoder serves indexing, queries, figures and the web page, so that a picture looks the same to all of them:
upright (EXIF orientation applied), RGB, and never larger than the pixel bound.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from imagesearch.errors import PictureError, UsageError
from imagesearch.records import Picture, Skipped

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

T = TypeVar("T")

EXTENSIONS = frozenset(
    ".apng .avif .bmp .dib .gif .heic .heif .hif .ico .j2k .jfif .jp2"  # noqa: SIM905 - one a line fills a page
    " .jpe .jpeg .jpg .jpx .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)

MAX_MEGAPIXELS = 200.0

# Errors of the file system that may be gone at the next try; everything else is in the file's bytes.
_RETRYABLE = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOENT, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
)

PictureSource: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[np.uint8]"

_ORIENTATION = 0x0112
# EXIF orientation -> PIL.Image.Transpose that turns the picture upright (EXIF 2.32, section 4.6.4).
_TURNS: dict[int, Any] = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_SIDEWAYS = (5, 6, 7, 8)
_EXIF_IFD, _DATETIME, _DATETIME_ORIGINAL, _DATETIME_DIGITIZED = 0x8769, 306, 36867, 36868


def find_pictures(
    root: str | os.PathLike[str],
    *,
    include_hidden: bool = False,
    on_skip: Callable[[Skipped], None] | None = None,
) -> Iterator[str]:
    """Walk a folder for files whose extension is a picture's, in sorted order, folder by folder.

    Symbolic links are followed; a folder that was already visited is not entered again, so loops end.

    Args:
        root: a folder, or one picture file (yielded whatever its extension).
        include_hidden: whether to enter folders, and yield files, whose name begins with a dot.
        on_skip: told of folders that cannot be read.

    Yields:
        Absolute paths, with bytes that are no text kept as :func:`os.fsdecode` keeps them.

    Raises:
        UsageError: the root does not exist or cannot be read.
    """
    start = os.path.abspath(os.fspath(root))
    try:
        mode = os.stat(start).st_mode
        if not stat.S_ISDIR(mode):
            yield start
            return
        os.scandir(start).close()
    except OSError as error:
        raise UsageError(f"cannot read {start!r}: {_reason(error)}") from error
    except ValueError as error:  # an embedded null byte
        raise UsageError(f"cannot read {start!r}: {error}") from error
    visited: set[tuple[int, int]] = set()
    pending = [start]
    while pending:
        folder = pending.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited and status.st_ino:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if on_skip is not None:
                on_skip(Skipped(folder, _reason(error), retryable=True))
            continue
        subfolders = []
        for entry in entries:
            if entry.name.startswith(".") and not include_hidden:
                continue
            if _is_folder(entry):
                subfolders.append(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                yield entry.path
        pending.extend(reversed(subfolders))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself, or into a folder that is closed to us; reading it will say which


def examine(path: str, root: str = "", max_megapixels: float = MAX_MEGAPIXELS) -> Picture:
    """Read what identifies a file: size, time, content hash; and, from its header, pixels and time taken.

    Raises:
        PictureError: the file cannot be read, is no picture, or exceeds the bound.
    """
    data, status = read_file(path)
    with open_picture(data, path, max_megapixels) as image:
        return describe(path, root, data, status, image)


def describe(path: str, root: str, data: bytes, status: os.stat_result, image: Image.Image) -> Picture:
    """The :class:`Picture` of a file already read (see :func:`read_file`) and its header already parsed."""
    width, height = image.size
    # Pillow turns TIFFs itself while decoding, and gives their upright size from the start.
    if _orientation(image) in _SIDEWAYS and image.format != "TIFF":
        width, height = height, width
    return Picture(
        path=path,
        root=root,
        content_hash=hashlib.blake2b(data, digest_size=16).hexdigest(),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        width=width,
        height=height,
        taken=_time_taken(image),
    )


def read_file(path: str) -> tuple[bytes, os.stat_result]:
    """A file's content, and its status from before it was read: a file replaced meanwhile shall look changed.

    Raises:
        PictureError: it cannot be read, is a folder, a device or a pipe, or is empty.
    """
    status = _attempt(path, os.stat)
    if not stat.S_ISREG(status.st_mode):
        raise PictureError(path, "is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
    data = _attempt(path, lambda name: Path(name).read_bytes())
    if not data:
        raise PictureError(path, "is empty (0 bytes)")
    return data, status


def open_picture(data: bytes, path: str, max_megapixels: float = MAX_MEGAPIXELS) -> Image.Image:
    """Parse a picture's header; pixels are not decoded yet.

    Raises:
        PictureError: the bytes are no picture that can be read here, or it exceeds the bound.
    """
    from PIL import Image, UnidentifiedImageError

    _prepare_pillow(max_megapixels)
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise PictureError(path, "is not a picture (or of an unknown format)") from error
    except Image.DecompressionBombError as error:  # more than twice the bound: Pillow keeps the size to itself
        raise _too_large(path, "its", max_megapixels) from error
    except Exception as error:
        raise PictureError(path, f"damaged: {_first_line(error)}") from error
    width, height = image.size
    if width * height > max_megapixels * 1e6:
        raise _too_large(path, f"{width}x{height}", max_megapixels)
    return image


def _too_large(path: str, size: str, max_megapixels: float) -> PictureError:
    bound = f"the bound of {max_megapixels:g} megapixels (data.max_megapixels)"
    return PictureError(path, f"{size} pixels exceed {bound}")


def decode(image: Image.Image, path: str) -> Image.Image:
    """Decode an opened picture: first frame, upright, RGB, transparency over white.

    Raises:
        PictureError: it is truncated or damaged.
    """
    try:
        image.load()
        turn = _TURNS.get(_orientation(image))
        rgb = _to_rgb(image)
        return rgb if turn is None else rgb.transpose(turn)
    except MemoryError as error:
        raise PictureError(path, "needs more memory than there is", retryable=True) from error
    except Exception as error:
        raise PictureError(path, f"damaged: {_first_line(error)}") from error


def load_picture(path: str | os.PathLike[str], max_megapixels: float = MAX_MEGAPIXELS) -> Image.Image:
    """Read and decode one file: see :func:`decode`.

    Raises:
        PictureError: it cannot be read or decoded, or exceeds the bound.
    """
    name = os.fsdecode(path)
    with open_picture(read_file(name)[0], name, max_megapixels) as image:
        return decode(image, name)


def to_picture(source: PictureSource, max_megapixels: float = MAX_MEGAPIXELS) -> Image.Image:
    """Any accepted form of a picture as an upright RGB :class:`PIL.Image.Image`.

    Args:
        source: a path, a Pillow image, or a uint8 array of shape (height, width) or (height, width, 3 or 4).

    Raises:
        PictureError: it cannot be read or decoded.
        UsageError: it is of another type, or an array of another type or shape.
    """
    import numpy as np
    from PIL import Image

    if isinstance(source, (str, os.PathLike)):
        return load_picture(source, max_megapixels)
    if isinstance(source, np.ndarray):
        shape_is_right = source.ndim in (2, 3) and source.shape[2:] in ((), (3,), (4,)) and source.size
        if source.dtype != np.uint8 or not shape_is_right:
            raise UsageError(
                f"expected a uint8 array of shape (height, width) or (height, width, 3 or 4), got {source.dtype}"
                f" {source.shape}"
            )
        source = Image.fromarray(source)
    if not isinstance(source, Image.Image):
        raise UsageError(f"expected a path, a Pillow image or a uint8 array, got {type(source).__name__}")
    return decode(source, "<picture in memory>")


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return _deep_to_rgb(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    rgb = Image.new("RGB", image.size, "white")
    rgb.paste(rgba, mask=rgba.getchannel("A"))
    return rgb


def _deep_to_rgb(image: Image.Image) -> Image.Image:
    """16- and 32-bit grey to 8 bits; Pillow's own conversion clips everything above 255 to white."""
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0.0, neginf=0.0)
    if image.mode.startswith("I;16") or (image.mode == "I" and values.max(initial=0) <= 65535):
        scaled = values / 257.0
    else:  # 32-bit and float files have no agreed white point: stretch what is there
        low, high = float(values.min(initial=0)), float(values.max(initial=0))
        scaled = (values - low) * (255.0 / (high - low)) if high > low else values * 0
    return Image.fromarray(scaled.clip(0, 255).round().astype(np.uint8)).convert("RGB")


def _orientation(image: Image.Image) -> int:
    orientation = _exif(image).get(_ORIENTATION, 1)
    return orientation if isinstance(orientation, int) else 1


def _exif(image: Image.Image) -> Image.Exif:
    from PIL import Image

    try:
        return image.getexif()
    except Exception:  # noqa: BLE001 - damaged metadata, of whatever kind, is no reason to lose the picture
        return Image.Exif()


def _time_taken(image: Image.Image) -> str | None:
    """EXIF's DateTimeOriginal (or the next best) as ISO 8601, None if absent or nonsense."""
    import datetime

    exif = _exif(image)
    try:
        details = exif.get_ifd(_EXIF_IFD)
        text = details.get(_DATETIME_ORIGINAL) or details.get(_DATETIME_DIGITIZED) or exif.get(_DATETIME)
        return datetime.datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S").isoformat()
    except Exception:  # noqa: BLE001 - damaged metadata, of whatever kind, is no reason to lose the picture
        return None


@lru_cache
def _prepare_pillow(max_megapixels: float) -> None:
    """Teach Pillow HEIF, and let our pixel bound decide: Pillow refuses twice its own, 179 megapixels."""
    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener()
    # Pillow's remarks on odd files would only reach the terminal. Once for all threads: catch_warnings is not
    # made for several at a time.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    if Image.MAX_IMAGE_PIXELS is not None:
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, int(max_megapixels * 1e6))


def _attempt(path: str, action: Callable[[str], T]) -> T:
    try:
        return action(path)
    except OSError as error:
        raise PictureError(path, _reason(error), retryable=error.errno in _RETRYABLE) from error
    except ValueError as error:  # an embedded null byte
        raise PictureError(path, str(error)) from error


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
