"""Image files: tell them apart, decode them.

One decoder serves indexing, queries, figures and the web page, so that a picture looks the same to all of them:
upright (EXIF orientation applied), sRGB, and never larger than the pixel bound.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import logging
import os
import stat
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from imagesearch.errors import PictureError
from imagesearch.images.colour import is_large, mend, misread, shrinking, to_rgb
from imagesearch.images.damage import damage, what_it_is
from imagesearch.images.find import changed_ns, reason_of
from imagesearch.images.markers import clear_grey, jp2_profile, too_many_scans, without_profile
from imagesearch.images.metadata import camera, location, orientation, png_exif, time_taken, upright_size
from imagesearch.images.raw import TURNS, is_raw, open_raw
from imagesearch.records import ImageRecord

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

MAX_MEGAPIXELS = 200.0
# The largest valid file: 16 bits of red, green, blue and alpha per pixel, uncompressed; and metadata beside them.
_MOST_BYTES_A_PIXEL = 8
_METADATA_BYTES = 64 << 20

# Errors of the file system that may be gone at the next try; everything else is in the file's bytes.
RETRYABLE = frozenset(
    {errno.EACCES, errno.EPERM, errno.ENOENT, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE}
)

# The path of a picture that is no file.
IN_MEMORY = "<picture in memory>"

# Pillow knows more, among them formats that start other programs (EPS: Ghostscript) whatever the file is called.
_FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "TIFF", "GIF", "BMP", "DIB", "JPEG2000", "PPM", "ICO")
# Pillow keeps pixels in blocks, of 16 MB by itself. Blocks of more than 32 MB Linux gets back at once
# (M_MMAP_THRESHOLD in mallopt(3)); of smaller ones, two threads kept 500 MB after one large picture.
_BLOCK_BYTES = 64 << 20
# Files of more bytes than this are held in memory one at a time, like large pictures.
_LARGE_FILE = 100_000_000
# Bytes per call, where a file is not read in one.
_READ_AT_ONCE = 1 << 24
# Their header is that of a list of pictures, and may say less than the picture in it does.
_LISTS = ("ICO",)


class Gate:
    """Lets one thread at a time do what takes much memory: large pictures, large files, the conversion of a model.

    Who measures how long a thread works asks how much of it was waiting here (:meth:`waited`), and who gives a
    thread up opens the gate in its stead (:meth:`leave`): better two large pictures than none ever again.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside: threading.Thread | None = None
        self._since: dict[threading.Thread, float] = {}
        self._waited: weakref.WeakKeyDictionary[threading.Thread, float] = weakref.WeakKeyDictionary()

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Wait for the turn, and hold it; who has it already goes on with it."""
        thread = threading.current_thread()
        if self._inside is thread:
            yield
            return
        with self._changed:
            self._since[thread] = time.monotonic()
            try:
                self._changed.wait_for(lambda: self._inside is None)
            finally:
                waited = self._total(thread)
                del self._since[thread]
                self._waited[thread] = waited
            self._inside = thread
        try:
            yield
        finally:
            self.leave(thread)

    def leave(self, thread: threading.Thread) -> None:
        """Let the next one in, if it is this thread that is inside."""
        with self._changed:
            if self._inside is thread:
                self._inside = None
                self._changed.notify()

    def waited(self, thread: threading.Thread) -> float:
        """Seconds that a thread has waited here so far, in all."""
        with self._changed:
            return self._total(thread)

    def _total(self, thread: threading.Thread) -> float:
        now = time.monotonic()
        return self._waited.get(thread, 0.0) + now - self._since.get(thread, now)


LARGE_PICTURES = Gate()


def examine(path: str, root: str = "", max_megapixels: float = MAX_MEGAPIXELS) -> ImageRecord:
    """Read what identifies a file: size, time, content hash; and, from its header, pixels and EXIF data.

    Raises:
        PictureError: the file cannot be read, is no picture, or exceeds the bound.
    """
    with (
        file_content(path, max_megapixels) as (data, status),
        open_image(data, path, max_megapixels) as image,
    ):
        return describe(path, root, data, status, image)


def describe(path: str, root: str, data: bytes, status: os.stat_result, image: Image.Image) -> ImageRecord:
    """The :class:`ImageRecord` of a file already read (see :func:`file_content`) and its header already parsed.

    To be called before :func:`decode`, which may shrink the picture.
    """
    width, height = upright_size(image)
    latitude, longitude = location(image)
    return ImageRecord(
        path=path,
        root=root,
        content_hash=content_hash(data),
        size=status.st_size,
        mtime_ns=changed_ns(status),
        width=width,
        height=height,
        taken=time_taken(image),
        camera=camera(image),
        latitude=latitude,
        longitude=longitude,
    )


def content_hash(data: bytes) -> str:
    """BLAKE2b-128 of a file's bytes, hexadecimal: files with the same one are the same picture."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@contextlib.contextmanager
def file_content(path: str, max_megapixels: float = MAX_MEGAPIXELS) -> Iterator[tuple[bytes, os.stat_result]]:
    """A file's content, and its status from before it was read: so a file that is replaced
    meanwhile looks changed.

    Large files are held in memory one at a time, like large pictures: the next one has to wait for the end of this
    context.

    Raises:
        PictureError: it cannot be read, is a folder, a device or a pipe, is empty, or is larger than any picture
            within the pixel bound can be.
    """
    status = _attempt(path, os.stat)
    if not stat.S_ISREG(status.st_mode):
        raise PictureError(path, "is a folder" if stat.S_ISDIR(status.st_mode) else "is not a regular file")
    most = most_bytes(max_megapixels)
    if status.st_size > most:
        raise PictureError(path, too_many_bytes(status.st_size, most, max_megapixels))
    with LARGE_PICTURES.passing() if status.st_size > _LARGE_FILE else contextlib.nullcontext():
        data = _attempt(path, lambda name: _read(name, status.st_size, most))
        if not data:
            raise PictureError(path, "is empty (0 bytes)")
        yield data, status


def _read(path: str, size: int, most: int) -> bytes:
    """A file's content in as few calls as can be: around each one, threads hand the interpreter to each other.

    Args:
        size: what is expected.
        most: of more bytes, there is no end in sight: an OSError.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        data = os.read(handle, size + 1)
        if len(data) == size:
            return data
        # It has grown or shrunk meanwhile, or is larger than one call reads (2 GB on Linux).
        parts, length = [data], len(data)
        while part := os.read(handle, _READ_AT_ONCE):
            parts.append(part)
            length += len(part)
            if length > most:
                raise OSError(errno.EFBIG, "is longer than it says, and than any picture in data.max_megapixels")
        return b"".join(parts)
    finally:
        os.close(handle)


def open_image(data: bytes, path: str, max_megapixels: float = MAX_MEGAPIXELS) -> Image.Image:
    """Parse a picture's header; pixels are not decoded yet. Of an animation or a list of pages: the first.

    Raises:
        PictureError: the bytes are no picture that can be read here, or it exceeds the bound.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image = _parsed(data, path, max_megapixels)
    except UnidentifiedImageError as error:
        raise PictureError(path, what_it_is(data)) from error
    except Image.DecompressionBombError as error:  # Pillow keeps the size to itself
        raise _too_large(path, "its", max_megapixels) from error
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(path, damage(error)) from error
    width, height = image.size
    if width * height > max_megapixels * 1e6:
        raise _too_large(path, f"{width}x{height}", max_megapixels)
    if scans := too_many_scans(data, width, height):
        raise PictureError(path, f"a JPEG of {scans:,} scans, which would take minutes to decode")
    if image.format == "TIFF" and (kind := misread(image)):
        raise PictureError(path, f"a TIFF {kind}, which cannot be read here")
    _complete(image, data)
    return image


def _complete(image: Image.Image, data: bytes) -> None:
    """Let a picture say what Pillow does not find in its file, or takes otherwise than its pixels."""
    if image.format == "PNG":
        if "exif" not in image.info and (exif := png_exif(data)):
            image.info["exif"] = exif
        if image.mode == "L" and isinstance(clear := image.info.get("transparency"), int):
            image.info["transparency"] = clear_grey(data, clear)
    elif image.format == "JPEG2000" and (profile := jp2_profile(data)):
        image.info["icc_profile"] = profile
    elif image.format == "TIFF":
        mend(image)


def _parsed(data: bytes, path: str, max_megapixels: float) -> Image.Image:
    """The picture with its header parsed; any error of the decoders comes through."""
    from PIL import Image

    formats = _prepare_pillow(max_megapixels)
    if is_raw(data, path):
        return open_raw(data, path)
    try:
        return Image.open(io.BytesIO(data), formats=formats)
    except Exception:
        without = without_profile(data)
        if without is None:
            raise
        return Image.open(io.BytesIO(without), formats=("PNG",))


def _too_large(path: str, size: str, bound: float) -> PictureError:
    return PictureError(path, f"{size} pixels exceed the bound of {bound:g} megapixels (data.max_megapixels)")


def decode(image: Image.Image, path: str, shortest: int | None = None) -> Image.Image:
    """Decode an opened picture: first frame, upright, 8-bit sRGB, transparency over white.

    Args:
        image: see :func:`open_image`.
        path: for the error.
        shortest: for callers that shrink the picture anyway: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size
            (which is several times faster), as long as neither side becomes shorter than this, in pixels.

    A picture of more than 25 megapixels comes out smaller by a whole number (see :mod:`.colour`), is decoded
    while no other such picture is, and is closed then: its memory is needed for the next.

    Raises:
        PictureError: it is truncated or damaged.
    """
    if shortest is not None:
        image.draft(None, (shortest, shortest))  # does nothing to other formats than JPEG
    if not (is_large(image.size) or image.format in _LISTS):
        return upright_rgb(image, path)
    with LARGE_PICTURES.passing():
        factor = shrinking(image.size)
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size at once.
        image.draft(None, (image.width // factor, image.height // factor))
        rgb = None
        try:
            rgb = upright_rgb(image, path)
        finally:
            if rgb is not image:  # what was RGB and upright comes back itself
                image.close()
        return rgb


def upright_rgb(image: Image.Image, path: str) -> Image.Image:
    """Decode an opened picture of any size: first frame, upright, 8-bit sRGB, transparency over white.

    Raises:
        PictureError: it is truncated or damaged.
    """
    from PIL.Image import DecompressionBombError

    try:
        image.load()
        rgb = to_rgb(image)
        turn = TURNS.get(orientation(image))
        if turn is None:
            return rgb
        turned = rgb.transpose(turn)
        turned.info = {}  # says how to turn it: whoever is given it must not do that again
        return turned
    except MemoryError as error:
        raise PictureError(path, "needs more memory than there is", retryable=True) from error
    except DecompressionBombError as error:
        raise PictureError(path, "damaged: holds a far larger picture than its header says") from error
    except Exception as error:
        raise PictureError(path, damage(error)) from error


def most_bytes(max_megapixels: float) -> int:
    """What a file of a picture within the bound can have."""
    return int(max_megapixels * 1e6) * _MOST_BYTES_A_PIXEL + _METADATA_BYTES


def too_many_bytes(size: int, most: int, max_megapixels: float) -> str:
    """Why a larger file is refused."""
    return (
        f"{size:,} bytes are more than the {most:,} that a picture of {max_megapixels:g} megapixels"
        " (data.max_megapixels) can have"
    )


@lru_cache
def _prepare_pillow(max_megapixels: float) -> tuple[str, ...]:
    """Teach Pillow HEIF and our pixel bound; those of our formats that this Pillow was built with."""
    import pillow_heif
    from PIL import Image, PngImagePlugin, _imaging

    pillow_heif.register_heif_opener()
    Image.init()
    Image.core.set_block_size(_BLOCK_BYTES)  # type: ignore[attr-defined]
    # It refuses PNGs with a compressed text of more than 1 MB, which editors write; in all it takes 64 MB of them.
    PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)
    # Pillow's remarks on odd files would only reach the terminal. (catch_warnings is not thread-safe.)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    _silence_libtiff(_imaging.__file__)
    if Image.MAX_IMAGE_PIXELS is not None:  # it refuses twice that
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, int(max_megapixels * 1e6 / 2) + 1)
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _silence_libtiff(library: str) -> None:
    """Of damaged TIFFs, libtiff itself writes lines to the terminal, about a "tempfile.tif"; Pillow tells enough.

    Args:
        library: Pillow's, which brings it; where that does not let it be found, as on Windows, nothing changes.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(library).TIFFSetErrorHandler(None)


def _attempt(path: str, action: Callable[[str], T]) -> T:
    try:
        return action(path)
    except OSError as error:
        raise PictureError(path, reason_of(error), retryable=error.errno in RETRYABLE) from error
    except ValueError as error:  # an embedded null byte
        raise PictureError(path, str(error)) from error
