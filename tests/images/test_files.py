"""Finding, identifying and decoding picture files."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import io
import os
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from imagesearch.errors import PictureError, UsageError
from imagesearch.images import files
from imagesearch.images.files import (
    EXTENSIONS,
    decode,
    describe,
    examine,
    find_pictures,
    load_picture,
    open_picture,
    to_picture,
)
from imagesearch.records import Skipped

# pytest resets the filter that the library sets; see test_no_remarks_reach_the_terminal.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")

# The corners tell the eight orientations apart.
RED, GREEN, BLUE, YELLOW = (230, 20, 20), (20, 200, 20), (20, 20, 220), (230, 220, 20)


def corners() -> Image.Image:
    """60 x 40, a colour in each quarter: red green / blue yellow."""
    picture = Image.new("RGB", (60, 40), RED)
    picture.paste(GREEN, (30, 0, 60, 20))
    picture.paste(BLUE, (0, 20, 30, 40))
    picture.paste(YELLOW, (30, 20, 60, 40))
    return picture


def quarters(picture: Image.Image) -> list[str]:
    """The colours of a picture's quarters, row by row, by name."""
    names = {"red": RED, "green": GREEN, "blue": BLUE, "yellow": YELLOW}
    width, height = picture.size
    seen = [
        np.array(picture.getpixel((x, y)))
        for y in (height // 4, 3 * height // 4)
        for x in (width // 4, 3 * width // 4)
    ]
    return [min(names, key=lambda name: int(np.abs(colour - names[name]).sum())) for colour in seen]


UPRIGHT = ["red", "green", "blue", "yellow"]

# EXIF 2.32, section 4.6.4: how the camera's sensor was turned, undone.
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def orientation_tag(value: object) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def encoded(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    if format == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def png(width: int, height: int, *, colour_type: int = 2, pixels: bytes = bytes(100)) -> bytes:
    """A PNG made by hand, so that its header may lie."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def check_picture_or_picture_error(read: Callable[[str], object], path: str) -> None:
    """Anything but a PictureError fails the test."""
    with contextlib.suppress(PictureError):
        assert read(path) is not None


class TestFind:
    def test_sorted_folder_by_folder_with_extensions_of_any_case(self, tmp_path: Path) -> None:
        for name in ("b.JPG", "a.png", "notes.txt", "z/1.webp", "m/2.HEIC", "m/k/3.tif"):
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        found = [str(Path(path).relative_to(tmp_path / "in")) for path in find_pictures(tmp_path / "in")]
        assert found == ["a.png", "b.JPG", "m/2.HEIC", "m/k/3.tif", "z/1.webp"]

    def test_relative_roots_give_absolute_paths(self, tmp_path: Path) -> None:
        Path("here").mkdir()
        Path("here/a.jpg").touch()
        assert list(find_pictures("here")) == [os.path.abspath("here/a.jpg")]

    def test_hidden_files_and_folders_on_request_only(self, tmp_path: Path) -> None:
        root = tmp_path / "in"
        (root / ".cache").mkdir(parents=True)
        for name in (".a.jpg", ".cache/b.jpg", "c.jpg"):
            (root / name).touch()
        assert list(find_pictures(root)) == [str(root / "c.jpg")]
        assert len(list(find_pictures(root, include_hidden=True))) == 3

    def test_a_hidden_root_is_entered(self, tmp_path: Path) -> None:
        (tmp_path / ".hidden").mkdir()
        (tmp_path / ".hidden" / "a.jpg").touch()
        assert len(list(find_pictures(tmp_path / ".hidden"))) == 1

    def test_loops_of_symbolic_links_end(self, tmp_path: Path) -> None:
        root = tmp_path / "in"
        (root / "sub").mkdir(parents=True)
        (root / "sub" / "a.jpg").touch()
        (root / "sub" / "up").symlink_to(root, target_is_directory=True)
        (root / "again").symlink_to(root / "sub", target_is_directory=True)
        assert len(list(find_pictures(root))) == 1

    def test_a_link_to_itself_or_to_nothing_is_found_and_then_skipped(self, tmp_path: Path) -> None:
        root = tmp_path / "in"
        root.mkdir()
        (root / "self.jpg").symlink_to(root / "self.jpg")
        (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
        (root / "loop").symlink_to(root / "loop")
        paths = list(find_pictures(root))
        assert [os.path.basename(path) for path in paths] == ["gone.jpg", "self.jpg"]
        for path in paths:
            with pytest.raises(PictureError):
                load_picture(path)

    def test_linked_files_are_found(self, tmp_path: Path) -> None:
        (tmp_path / "real.jpg").touch()
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "link.jpg").symlink_to(tmp_path / "real.jpg")
        assert list(find_pictures(tmp_path / "in")) == [str(tmp_path / "in" / "link.jpg")]

    def test_closed_folders_are_told_and_the_rest_goes_on(
        self, picture_folder: Path, closed: Callable[[Path], None]
    ) -> None:
        closed(picture_folder / "sub")
        skipped: list[Skipped] = []
        try:
            found = list(find_pictures(picture_folder, on_skip=skipped.append))
        finally:
            (picture_folder / "sub").chmod(0o700)
        assert len(found) == 5
        assert skipped == [Skipped(str(picture_folder / "sub"), "permission denied", retryable=True)]

    @pytest.mark.skipif(sys.platform != "linux", reason="file names are any bytes on Linux only")
    def test_names_that_are_no_text(self, tmp_path: Path) -> None:
        root = tmp_path / "in"
        root.mkdir()
        raw = os.fsencode(root) + b"/caf\xe9\n'\" \xf0\x9f\x90\xb1.png"
        with open(raw, "wb") as file:
            file.write(encoded(corners(), "PNG"))
        (found,) = find_pictures(root)
        assert os.fsencode(found) == raw
        assert load_picture(found).size == (60, 40)
        assert examine(found).id == examine(found).id

    def test_a_file_as_root_is_yielded_whatever_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "scan").touch()
        assert list(find_pictures(tmp_path / "scan")) == [str(tmp_path / "scan")]

    @pytest.mark.parametrize("root", ["missing", "a\0b", "file.txt/below"])
    def test_roots_that_are_not_there(self, root: str) -> None:
        Path("file.txt").touch()
        with pytest.raises(UsageError, match="cannot read"):
            list(find_pictures(root))

    def test_every_extension_can_be_read_or_refused(self, tmp_path: Path) -> None:
        assert all(extension == extension.lower() and extension[0] == "." for extension in EXTENSIONS)


class TestUpright:
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_all_orientations_look_the_same(self, tmp_path: Path, format: str, orientation: int) -> None:
        if format == "AVIF" and not features.check("avif"):
            pytest.skip("this Pillow was built without AVIF")
        turn = STORED_AS[orientation]
        stored = corners() if turn is None else corners().transpose(turn)
        exif = orientation_tag(orientation)
        path = write(tmp_path / "p", encoded(stored, format, exif=exif))
        picture = load_picture(path)
        assert picture.size == (60, 40)
        assert quarters(picture) == UPRIGHT
        row = examine(path)
        assert (row.width, row.height) == (60, 40)

    @pytest.mark.parametrize("value", [0, 9, 65535])
    def test_nonsense_orientations_are_ignored(self, tmp_path: Path, value: object) -> None:
        exif = orientation_tag(value)
        path = write(tmp_path / "p.jpg", encoded(corners(), "JPEG", exif=exif))
        assert quarters(load_picture(path)) == UPRIGHT

    def test_pictures_in_memory_are_turned_too(self, tmp_path: Path) -> None:
        stored = corners().transpose(Image.Transpose.ROTATE_90)
        with Image.open(write(tmp_path / "p.jpg", encoded(stored, "JPEG", exif=orientation_tag(6)))) as opened:
            assert quarters(to_picture(opened)) == UPRIGHT

    @given(garbage=st.binary(max_size=200), cut=st.integers(0, 60))
    @settings(max_examples=60, deadline=None)
    def test_damaged_exif_does_not_lose_the_picture(self, garbage: bytes, cut: int) -> None:
        whole = orientation_tag(6)
        whole[0x0132] = "2024:01:02 03:04:05"
        exif = (b"Exif\0\0" + whole.tobytes().removeprefix(b"Exif\0\0"))[: 10 + cut] + garbage
        data = encoded(corners(), "JPEG", exif=exif)
        with open_picture(data, "p.jpg") as image:
            describe(__file__, "", data, os.stat(__file__), image)
            picture = decode(image, "p.jpg")
        assert sorted(picture.size) == [40, 60]


class TestColours:
    def test_formats_without_loss_give_the_same_pixels(self, tmp_path: Path) -> None:
        for format in ("PNG", "BMP", "TIFF", "PPM"):
            picture = load_picture(write(tmp_path / format, encoded(corners(), format)))
            assert np.array_equal(np.asarray(picture), np.asarray(corners())), format

    @pytest.mark.parametrize("format", ["JPEG", "WEBP", "JPEG2000", "HEIF", "AVIF", "GIF"])
    def test_formats_with_loss_look_the_same(self, tmp_path: Path, format: str) -> None:
        if format == "AVIF" and not features.check("avif"):
            pytest.skip("this Pillow was built without AVIF")
        picture = load_picture(write(tmp_path / "p", encoded(corners(), format)))
        assert picture.mode == "RGB"
        assert quarters(picture) == UPRIGHT

    def test_cmyk(self, tmp_path: Path) -> None:
        picture = load_picture(write(tmp_path / "p.jpg", encoded(corners().convert("CMYK"), "JPEG")))
        assert quarters(picture) == UPRIGHT

    @pytest.mark.parametrize("mode", ["1", "L"])
    def test_grey(self, tmp_path: Path, mode: str) -> None:
        grey = Image.new(mode, (8, 8), 255)
        assert load_picture(write(tmp_path / "p.png", encoded(grey, "PNG"))).getpixel((0, 0)) == (255, 255, 255)

    @pytest.mark.parametrize(
        ("mode", "colour", "expected"),
        [
            ("LA", (0, 0), (255, 255, 255)),
            ("LA", (100, 255), (100, 100, 100)),
            ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
            ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
            ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ],
    )
    def test_alpha_lies_over_white(
        self, tmp_path: Path, mode: str, colour: tuple[int, ...], expected: tuple[int, ...]
    ) -> None:
        picture = Image.new(mode, (8, 8), colour)
        assert load_picture(write(tmp_path / "p.png", encoded(picture, "PNG"))).getpixel((4, 4)) == expected

    def test_a_transparent_palette_entry_is_white(self, tmp_path: Path) -> None:
        picture = Image.new("P", (8, 8), 1)
        picture.putpalette([0, 0, 0, 10, 20, 30] + [0] * 762)
        picture.paste(0, (0, 0, 4, 8))
        loaded = load_picture(write(tmp_path / "p.png", encoded(picture, "PNG", transparency=0)))
        assert loaded.getpixel((1, 1)) == (255, 255, 255)
        assert loaded.getpixel((6, 1)) == (10, 20, 30)

    def test_a_transparent_colour_of_an_rgb_file_is_white(self, tmp_path: Path) -> None:
        path = write(tmp_path / "p.png", encoded(corners(), "PNG", transparency=RED))
        assert load_picture(path).getpixel((1, 1)) == (255, 255, 255)
        assert load_picture(path).getpixel((50, 5)) == GREEN

    def test_16_bits_a_pixel_become_8_and_not_white(self, tmp_path: Path) -> None:
        ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None, :].repeat(4, axis=0)
        picture = load_picture(write(tmp_path / "p.png", encoded(Image.fromarray(ramp), "PNG")))
        assert np.abs(np.asarray(picture)[0, :, 0].astype(int) - np.arange(256)).max() <= 1

    def test_float_tiff_is_stretched(self, tmp_path: Path) -> None:
        values = np.linspace(-2, 6, 64, dtype=np.float32).reshape(8, 8)
        picture = np.asarray(load_picture(write(tmp_path / "p.tif", encoded(Image.fromarray(values), "TIFF"))))
        assert (picture.min(), picture.max()) == (0, 255)
        assert (np.diff(picture[..., 0].ravel().astype(int)) >= 0).all()

    @pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, 0.0])
    def test_float_tiff_of_odd_values(self, tmp_path: Path, value: float) -> None:
        values = np.full((4, 4), value, np.float32)
        assert load_picture(write(tmp_path / "p.tif", encoded(Image.fromarray(values), "TIFF"))).mode == "RGB"

    @pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
    def test_animations_show_their_first_frame(self, tmp_path: Path, format: str) -> None:
        frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=50)
        colour = load_picture(write(tmp_path / "p", data)).getpixel((8, 8))
        assert np.abs(np.array(colour) - RED).max() < 25


class TestRefused:
    """Every one of these is a PictureError that says why, never another exception."""

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "HEIF", "JPEG2000"])
    @pytest.mark.parametrize("part", [0.3, 0.8])
    def test_truncated(self, tmp_path: Path, format: str, part: float) -> None:
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8))
        data = encoded(noise, format)
        path = write(tmp_path / "p", data[: int(len(data) * part)])
        with pytest.raises(PictureError) as caught:
            load_picture(path)
        assert caught.value.path == path
        assert not caught.value.retryable

    @pytest.mark.parametrize("format", ["JPEG", "PNG"])
    def test_truncated_stays_truncated_after_its_header_was_read(self, tmp_path: Path, format: str) -> None:
        """Asking for metadata may decode a PNG; a second attempt must not take half a picture for whole."""
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8))
        data = encoded(noise, format)
        data = data[: len(data) // 2]
        with open_picture(data, "p") as image:
            path = write(tmp_path / "p", data)
            describe(path, "", data, os.stat(path), image)
            with pytest.raises(PictureError, match="truncated"):
                decode(image, "p")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "is empty (0 bytes)"),
            (b"just some text\n" * 10, "is not a picture"),
            (b"\xff\xd8\xff", "is not a picture"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
            (b"\x89PNG\r\n\x1a\n" + bytes(50), "is not a picture"),
        ],
    )
    def test_no_picture(self, tmp_path: Path, content: bytes, reason: str) -> None:
        with pytest.raises(PictureError) as caught:
            load_picture(write(tmp_path / "p.jpg", content))
        assert reason in caught.value.reason

    @pytest.mark.parametrize("side", [15_000, 25_000, 100_000, 2_000_000_000])
    def test_bombs_are_refused_from_their_header(self, tmp_path: Path, side: int) -> None:
        path = write(tmp_path / "bomb.png", png(side, side))
        started = time.monotonic()
        for read in (load_picture, examine):
            with pytest.raises(PictureError, match=r"pixels exceed the bound of 200 megapixels.*max_megapixels"):
                read(path)
        assert time.monotonic() - started < 1

    def test_the_bound_is_configurable(self, tmp_path: Path) -> None:
        path = write(tmp_path / "p.png", encoded(Image.new("RGB", (200, 100)), "PNG"))
        assert load_picture(path, max_megapixels=0.02).size == (200, 100)
        with pytest.raises(PictureError, match=r"200x100 pixels exceed the bound of 0.0199 megapixels"):
            load_picture(path, max_megapixels=0.0199)

    def test_no_remarks_reach_the_terminal(self, tmp_path: Path) -> None:
        files._prepare_pillow.cache_clear()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with pytest.raises(PictureError):
                load_picture(write(tmp_path / "bomb.png", png(15_000, 15_000)))
            load_picture(write(tmp_path / "p.jpg", encoded(corners(), "JPEG", exif=b"Exif\0\0II*\0\xff\0\0\0")))
        files._prepare_pillow.cache_clear()
        assert [str(warning.message) for warning in seen] == []

    def test_folder_pipe_and_missing(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match="is a folder"):
            load_picture(tmp_path)
        with pytest.raises(PictureError, match="no such file") as caught:
            load_picture(tmp_path / "missing.jpg")
        assert caught.value.retryable
        os.mkfifo(tmp_path / "pipe.jpg")
        with pytest.raises(PictureError, match="not a regular file"):
            load_picture(tmp_path / "pipe.jpg")

    def test_permission(self, picture_folder: Path, closed: Callable[[Path], None]) -> None:
        closed(picture_folder / "0.png")
        with pytest.raises(PictureError, match="permission denied") as caught:
            load_picture(picture_folder / "0.png")
        assert caught.value.retryable

    def test_null_byte_in_the_path(self) -> None:
        with pytest.raises(PictureError, match="null"):
            load_picture("a\0b.jpg")

    @given(
        data=st.binary(max_size=300), head=st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"RIFF"])
    )
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_random_bytes(self, tmp_path: Path, data: bytes, head: bytes) -> None:
        path = write(tmp_path / "p.jpg", head + data)
        check_picture_or_picture_error(load_picture, path)

    @given(
        format=st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "HEIF", "PPM", "ICO"]),
        changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    )
    @settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_real_files_with_changed_bytes(
        self, tmp_path: Path, format: str, changes: list[tuple[float, int]]
    ) -> None:
        data = bytearray(encoded(corners(), format))
        for where, value in changes:
            data[int(where * len(data))] = value
        path = write(tmp_path / "p", bytes(data))
        for read in (load_picture, examine):
            check_picture_or_picture_error(read, path)


class TestExamine:
    def test_what_identifies_a_file(self, tmp_path: Path) -> None:
        data = encoded(corners(), "PNG")
        path = write(tmp_path / "p.png", data)
        os.utime(path, ns=(1, 1_700_000_000_123_456_789))
        row = examine(path, root=str(tmp_path))
        assert (row.path, row.root, row.size) == (path, str(tmp_path), len(data))
        assert row.mtime_ns == 1_700_000_000_123_456_789
        assert row.content_hash == hashlib.blake2b(data, digest_size=16).hexdigest()
        assert (row.width, row.height, row.taken) == (60, 40, None)

    def test_copies_share_their_hash_and_not_their_id(self, tmp_path: Path) -> None:
        data = encoded(corners(), "PNG")
        one, two = examine(write(tmp_path / "a.png", data)), examine(write(tmp_path / "b.png", data))
        assert one.content_hash == two.content_hash
        assert one.id != two.id

    @pytest.mark.parametrize("tag", [36867, 36868, 306])
    def test_time_taken(self, tmp_path: Path, tag: int) -> None:
        exif = Image.Exif()
        (exif if tag == 306 else exif.get_ifd(0x8769))[tag] = "2019:07:21 13:05:59"
        row = examine(write(tmp_path / "p.jpg", encoded(corners(), "JPEG", exif=exif)))
        assert row.taken == datetime.datetime(2019, 7, 21, 13, 5, 59).isoformat()

    @pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", ""])
    def test_nonsense_times_are_left_out(self, tmp_path: Path, text: str) -> None:
        exif = Image.Exif()
        exif[306] = text
        assert examine(write(tmp_path / "p.jpg", encoded(corners(), "JPEG", exif=exif))).taken is None


class TestInMemory:
    def test_arrays(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 255, (10, 20, 3), dtype=np.uint8)
        assert np.array_equal(np.asarray(to_picture(pixels)), pixels)
        assert np.array_equal(np.asarray(to_picture(pixels[..., 0]))[..., 2], pixels[..., 0])
        clear = np.concatenate([pixels, np.zeros((10, 20, 1), np.uint8)], axis=2)
        assert np.asarray(to_picture(clear)).min() == 255

    @pytest.mark.parametrize(
        "wrong",
        [
            np.zeros((4, 4, 3), np.float32),
            np.zeros((4, 4, 2), np.uint8),
            np.zeros((4,), np.uint8),
            np.zeros((1, 4, 4, 3), np.uint8),
            np.zeros((0, 4, 3), np.uint8),
            None,
            b"bytes",
            [[1, 2]],
        ],
        ids=str,
    )
    def test_other_things_are_refused(self, wrong: object) -> None:
        with pytest.raises(UsageError, match="expected a"):
            to_picture(wrong)  # type: ignore[arg-type]

    def test_path_text_and_image_agree(self, picture_folder: Path) -> None:
        path = picture_folder / "0.png"
        with Image.open(path) as opened:
            same = [to_picture(path), to_picture(str(path)), to_picture(opened)]
        assert len({picture.tobytes() for picture in same}) == 1
