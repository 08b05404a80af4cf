"""Files that want more than their share: of bytes, pixels, memory; and those that lie about what they hold."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import GifImagePlugin, Image

from imagesearch.errors import PictureError
from imagesearch.images import colour, files
from imagesearch.images.files import LARGE_PICTURES, decode, examine, file_content, open_image
from imagesearch.images.sources import load_image

from .samples import UPRIGHT, corners, encoded, png, png_chunk, quarters, tiff_directories, write

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")


def icon(side: int, picture: bytes) -> bytes:
    """An icon file of one picture, which it says to be of ``side`` pixels."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, side % 256, side % 256, 0, 0, 1, 32, len(picture), 22) + picture


class TestFileSize:
    def test_no_picture_is_that_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "p.png"
        with path.open("wb") as file:
            file.truncate(40_000_000_000)  # a hole: takes no room on the disk
        monkeypatch.setattr(os, "open", lambda *_: pytest.fail("read"))
        for read in (load_image, examine):
            with pytest.raises(PictureError) as caught:
                read(str(path))
            assert caught.value.reason == (
                "40,000,000,000 bytes are more than the 1,667,108,864 that a picture of 200 megapixels"
                " (data.max_megapixels) can have"
            )

    def test_the_bound_follows_that_of_the_pixels(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "_METADATA_BYTES", 0)
        path = write(tmp_path / "p.bmp", encoded(corners(), "BMP"))  # 2,400 pixels, 7,254 bytes
        assert load_image(path, max_megapixels=0.0024).size == (60, 40)
        with pytest.raises(PictureError, match="bytes are more than the"):
            load_image(path, max_megapixels=0.0009)


def with_scans(data: bytes, times: int) -> bytes:
    """A progressive JPEG with one of its scans so many times more."""
    start = data.rindex(b"\xff\xda")
    end = data.rindex(b"\xff\xd9")
    return data[:end] + data[start:end] * times + data[end:]


class TestScans:
    @pytest.fixture
    def progressive(self) -> bytes:
        stream = io.BytesIO()
        corners((1500, 1000)).save(stream, "JPEG", progressive=True)
        return stream.getvalue()

    def test_thousands_are_refused_at_once(self, tmp_path: Path, progressive: bytes) -> None:
        path = write(tmp_path / "p.jpg", with_scans(progressive, 5_000))
        for read in (load_image, examine):
            with pytest.raises(PictureError, match=r"a JPEG of 5,\d+ scans") as caught:
                read(path)
            assert not caught.value.retryable

    def test_so_are_those_of_a_sequential_jpeg_with_a_scan_per_colour(self, tmp_path: Path) -> None:
        data = encoded(corners(), "JPEG")
        first = data.index(b"\xff\xda")
        spoilt = bytearray(with_scans(data, 600))
        spoilt[first + 4] = 1  # the first scan is of one component
        with pytest.raises(PictureError, match="scans"):
            load_image(write(tmp_path / "p.jpg", bytes(spoilt)))

    def test_usual_numbers_are_not(self, tmp_path: Path, progressive: bytes) -> None:
        assert load_image(write(tmp_path / "p.jpg", progressive)).size == (1500, 1000)
        assert load_image(write(tmp_path / "p.jpg", with_scans(progressive, 5))).size == (1500, 1000)

    def test_a_picture_whose_thumbnails_have_scans(self, tmp_path: Path) -> None:
        exif = b"Exif\0\0" + b"\xff\xda" * 1000
        path = write(tmp_path / "p.jpg", encoded(corners(), "JPEG", exif=exif))
        assert load_image(path).size == corners().size

    def test_what_lies_in_segments_or_behind_the_picture_has_none(
        self, tmp_path: Path, progressive: bytes
    ) -> None:
        film = b"ftypmp42" + b"\xff\xda" * 1000  # as phones put one behind a photograph
        segment = b"\xff\xe5" + struct.pack(">H", 2002) + b"\xff\xda" * 1000
        path = write(tmp_path / "p.jpg", progressive[:2] + segment + progressive[2:] + film)
        assert load_image(path).size == (1500, 1000)


@pytest.mark.parametrize(
    "profile",
    [
        b"icc\0\0" + zlib.compress(bytes(65 << 20)),  # larger than Pillow takes
        b"icc\0\0not compressed",
        b"icc\0\7" + zlib.compress(b"x" * 500),  # an unknown method
        b"no end of the name",
        b"icc\0\0" + zlib.compress(b"garbage" * 100),
    ],
)
@pytest.mark.parametrize("checksum", ["right", "wrong"])
def test_a_png_whose_only_fault_is_its_colour_profile(tmp_path: Path, profile: bytes, checksum: str) -> None:
    data = encoded(corners(), "PNG")
    crc = zlib.crc32(b"iCCP" + profile) ^ (checksum == "wrong")
    chunk = struct.pack(">I4s", len(profile), b"iCCP") + profile + struct.pack(">I", crc)
    spoilt = write(tmp_path / "p.png", data[:33] + chunk + data[33:])
    assert np.array_equal(np.asarray(load_image(spoilt)), np.asarray(corners()))


@pytest.mark.parametrize("before_the_pixels", [True, False])
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_a_png_with_much_text(tmp_path: Path, kind: bytes, before_the_pixels: bool) -> None:
    """As editors write their history, and converters other formats' metadata: megabytes, compressed."""
    text = zlib.compress(b"edited; " * 400_000)
    chunk = png_chunk(kind, b"Comment\0" + (b"\0" if kind == b"zTXt" else b"\1\0\0\0") + text)
    data = encoded(corners(), "PNG")
    at = 33 if before_the_pixels else len(data) - 12
    picture = load_image(write(tmp_path / "p.png", data[:at] + chunk + data[at:]))
    assert np.array_equal(np.asarray(picture), np.asarray(corners()))


class TestLiars:
    @pytest.mark.parametrize("side", [14_000, 200])
    def test_png_with_fewer_rows_than_it_says(self, tmp_path: Path, side: int) -> None:
        with pytest.raises(PictureError, match="damaged: the file is cut short"):
            load_image(write(tmp_path / "p.png", png(side, side)))

    def test_jpeg_that_says_less_than_it_holds(self, tmp_path: Path) -> None:
        data = bytearray(encoded(corners(), "JPEG"))
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, 16, 16)
        assert load_image(write(tmp_path / "p.jpg", bytes(data))).size == (16, 16)

    def test_jpeg_that_says_far_more_than_the_bound(self, tmp_path: Path) -> None:
        data = bytearray(encoded(corners(), "JPEG"))
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, 60_000, 60_000)
        with pytest.raises(PictureError, match="pixels exceed the bound"):
            load_image(write(tmp_path / "p.jpg", bytes(data)))

    def test_gif_whose_screen_is_larger_than_the_bound(self, tmp_path: Path) -> None:
        data = bytearray(encoded(corners(), "GIF"))
        struct.pack_into("<HH", data, 6, 60_000, 60_000)
        with pytest.raises(PictureError, match="pixels exceed the bound"):
            load_image(write(tmp_path / "p.gif", bytes(data)))

    def test_gif_whose_list_of_frames_never_ends(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        data = encoded(corners(), "GIF")
        frame = data[data.index(b"\x2c", 13 + 3 * 2 ** ((data[10] & 7) + 1)) : -1]
        path = write(tmp_path / "p.gif", data[:-1] + frame * 20_000)
        monkeypatch.setattr(GifImagePlugin.GifImageFile, "seek", lambda *_: pytest.fail("looked at another frame"))
        assert quarters(load_image(path)) == UPRIGHT

    def test_webp_that_says_more_than_it_holds(self, tmp_path: Path) -> None:
        data = bytearray(encoded(corners(), "WEBP", lossless=True))
        bits = int.from_bytes(data[21:25], "little")
        data[21:25] = ((bits & ~0xFFFFFFF) | (8000 << 14) | 8000).to_bytes(4, "little")
        with pytest.raises(PictureError, match="damaged: "):
            load_image(write(tmp_path / "p.webp", bytes(data)))

    def test_tiff_that_says_more_than_it_holds(self, tmp_path: Path) -> None:
        tags = [
            (256, 4, 10_000),
            (257, 4, 10_000),
            (258, 3, 8),
            (259, 3, 1),
            (262, 3, 1),
            (273, 4, ("payload", 0)),
        ]
        data = tiff_directories([[*tags, (278, 4, 10_000), (279, 4, 100)]], [bytes(100)])
        with pytest.raises(PictureError, match="damaged: the file is cut short"):
            load_image(write(tmp_path / "p.tif", data))

    def test_tiff_whose_pages_are_a_circle(self, tmp_path: Path) -> None:
        data = bytearray(encoded(corners(), "TIFF"))
        start = int.from_bytes(data[4:8], "little")
        entries = int.from_bytes(data[start : start + 2], "little")
        struct.pack_into("<I", data, start + 2 + 12 * entries, start)
        assert quarters(load_image(write(tmp_path / "p.tif", bytes(data)))) == UPRIGHT

    def test_heic_that_says_more_than_it_holds(self, tmp_path: Path) -> None:
        data = bytearray(encoded(corners(), "HEIF"))
        struct.pack_into(">II", data, data.index(b"ispe") + 8, 60_000, 60_000)
        with pytest.raises(PictureError, match=r"damaged: |pixels exceed the bound"):
            load_image(write(tmp_path / "p.heic", bytes(data)))

    def test_icon_that_holds_a_bomb(self, tmp_path: Path) -> None:
        for side in (15_000, 60_000):
            with pytest.raises(PictureError) as caught:
                load_image(write(tmp_path / "p.ico", icon(32, png(side, side))))
            assert "pixels exceed the bound" in caught.value.reason or "larger picture than" in caught.value.reason


class TestGate:
    @pytest.fixture(autouse=True)
    def small_is_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(colour, "LARGE_MEGAPIXELS", 0.01)

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "HEIF", "ICO"])
    def test_large_pictures_are_decoded_one_at_a_time(self, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An icon's header says too little to know, so all of them wait."""
        held: list[bool] = []

        def convert(image: Image.Image) -> Image.Image:
            held.append(LARGE_PICTURES._inside is threading.current_thread())
            return image.convert("RGB")

        monkeypatch.setattr(files, "to_rgb", convert)
        large = encoded(corners((256, 200)), format)
        decode(open_image(large, "p"), "p")
        if format != "ICO":
            decode(open_image(encoded(corners(), format), "p"), "p")
        assert held == ([True] if format == "ICO" else [True, False])
        assert LARGE_PICTURES._inside is None

    def test_their_memory_is_free_again(self) -> None:
        image = open_image(encoded(corners((256, 200)).convert("L"), "PNG"), "p")
        assert decode(image, "p").mode == "RGB"
        with pytest.raises(ValueError, match="closed image"):
            image.getpixel((0, 0))

    def test_what_comes_back_itself_stays_open(self) -> None:
        """A JPEG of RGB that was shrunk while it was decoded needs no conversion."""
        for format in ("JPEG", "PNG"):
            assert quarters(decode(open_image(encoded(corners((256, 200)), format), "p"), "p")) == UPRIGHT

    def test_large_files_are_held_one_at_a_time(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "large.png"
        path.write_bytes(encoded(corners((256, 200)), "PNG"))
        with file_content(str(path)):
            assert LARGE_PICTURES._inside is None
        monkeypatch.setattr(files, "_LARGE_FILE", 100)
        with file_content(str(path)) as (data, status):
            assert LARGE_PICTURES._inside is threading.current_thread()
            assert len(data) == status.st_size
            decode(open_image(data, str(path)), str(path))  # which passes the gate itself
            assert LARGE_PICTURES._inside is threading.current_thread()
        assert LARGE_PICTURES._inside is None

    def test_damage_opens_it(self) -> None:
        data = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 256, 3), np.uint8)), "PNG")
        image = open_image(data[: len(data) // 2], "p")
        with pytest.raises(PictureError, match="cut short"):
            decode(image, "p")
        assert LARGE_PICTURES._inside is None


def tiff_that_pillow_remarks_on() -> bytes:
    """It logs an error; in a program without logging that would reach the terminal."""
    tags = [(256, 4, 60), (257, 4, 40), (258, 3, 8), (259, 3, 1), (262, 3, 2), (273, 4, 8), (277, 3, 131)]
    return tiff_directories([tags], [])


def tiff_that_libtiff_remarks_on() -> bytes:
    """It writes to the terminal itself."""
    data = encoded(corners(), "TIFF", compression="tiff_lzw")
    return data[:20] + bytes(range(40)) + data[60:]


@pytest.mark.parametrize("data", [tiff_that_pillow_remarks_on, tiff_that_libtiff_remarks_on])
def test_remarks_of_the_libraries_stay_inside(tmp_path: Path, data: Callable[[], bytes]) -> None:
    path = write(tmp_path / "p.tif", data())
    program = (
        "import sys; from imagesearch.images.sources import *\n"
        "try: load_image(sys.argv[1])\n"
        "except PictureError: print('refused')"
    )
    run = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("refused\n", "")


PROGRAM = """
import sys, threading
from imagesearch.images.sources import load_image

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

load_image(sys.argv[1])
before = peak()
threads = [threading.Thread(target=load_image, args=(path,)) for path in sys.argv[2:]]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux tells it")
def test_the_memory_of_large_pictures_does_not_add_up(tmp_path: Path) -> None:
    """Three pictures of 64 megapixels with alpha in three threads: 256 MB for one, and little more for all."""
    buffer = io.BytesIO()
    Image.new("RGBA", (8000, 8000), (1, 2, 3, 200)).save(buffer, "PNG", compress_level=1)
    large = [write(tmp_path / f"{number}.png", buffer.getvalue()) for number in range(3)]
    small = write(tmp_path / "small.png", encoded(corners(), "PNG"))
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, small, *large], capture_output=True, text=True, check=True
    )
    assert 200 < float(run.stdout) < 400, run.stdout


def test_reasons_are_for_people(tmp_path: Path) -> None:
    """What the library said comes in brackets behind it."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8))
    for format in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "HEIF", "JPEG2000", "AVIF", "PPM"):
        data = encoded(noise, format)
        path = write(tmp_path / f"p.{format}", data[: len(data) // 2])
        with pytest.raises(PictureError) as caught:
            load_image(path)
        assert caught.value.reason.startswith("damaged: "), (format, caught.value.reason)
        assert os.fspath(tmp_path) not in caught.value.reason
