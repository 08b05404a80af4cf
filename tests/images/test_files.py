"""Identifying and decoding picture files, and refusing what is none."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from imagesearch.errors import PictureError, UsageError
from imagesearch.images import files
from imagesearch.images.files import decode, describe, examine, open_image
from imagesearch.images.sources import load_image

from .samples import STORED_AS, UPRIGHT, corners, encoded, orientation_tag, png, quarters, write

# pytest resets the filter that the library sets; see test_no_remarks_reach_the_terminal.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")


def check_picture_or_picture_error(read: Callable[[str], object], path: str) -> None:
    """Anything but a PictureError fails the test."""
    with contextlib.suppress(PictureError):
        assert read(path) is not None


class TestUpright:
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_all_orientations_look_the_same(self, tmp_path: Path, format: str, orientation: int) -> None:
        if format == "AVIF" and not features.check("avif"):
            pytest.skip("this Pillow was built without AVIF")
        turn = STORED_AS[orientation]
        stored = corners() if turn is None else corners().transpose(turn)
        exif = orientation_tag(orientation)
        path = write(tmp_path / "p", encoded(stored, format, exif=exif))
        picture = load_image(path)
        assert picture.size == (60, 40)
        assert quarters(picture) == UPRIGHT
        row = examine(path)
        assert (row.width, row.height) == (60, 40)

    @pytest.mark.parametrize("value", [0, 9, 65535])
    def test_nonsense_orientations_are_ignored(self, tmp_path: Path, value: object) -> None:
        exif = orientation_tag(value)
        path = write(tmp_path / "p.jpg", encoded(corners(), "JPEG", exif=exif))
        assert quarters(load_image(path)) == UPRIGHT

    def test_pictures_in_memory_are_turned_too(self, tmp_path: Path) -> None:
        stored = corners().transpose(Image.Transpose.ROTATE_90)
        with Image.open(write(tmp_path / "p.jpg", encoded(stored, "JPEG", exif=orientation_tag(6)))) as opened:
            assert quarters(load_image(opened)) == UPRIGHT

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
    def test_they_are_turned_once(self, tmp_path: Path, format: str) -> None:
        stored = corners().transpose(Image.Transpose.ROTATE_90)
        read = load_image(write(tmp_path / "p", encoded(stored, format, exif=orientation_tag(6))))
        assert quarters(load_image(read)) == UPRIGHT
        assert quarters(load_image(read.crop((0, 0, *read.size)))) == UPRIGHT

    @given(garbage=st.binary(max_size=200), cut=st.integers(0, 60))
    @settings(max_examples=60, deadline=None)
    def test_damaged_exif_does_not_lose_the_picture(self, garbage: bytes, cut: int) -> None:
        whole = orientation_tag(6)
        whole[0x0132] = "2024:01:02 03:04:05"
        exif = (b"Exif\0\0" + whole.tobytes().removeprefix(b"Exif\0\0"))[: 10 + cut] + garbage
        data = encoded(corners(), "JPEG", exif=exif)
        with open_image(data, "p.jpg") as image:
            describe(__file__, "", data, os.stat(__file__), image)
            picture = decode(image, "p.jpg")
        assert sorted(picture.size) == [40, 60]


@pytest.mark.parametrize("expected", [0, 1, 9_999, 10_000, 10_001, 20_000])
def test_a_file_whose_size_changes_is_read_whole(tmp_path: Path, expected: int) -> None:
    data = os.urandom(10_000)
    assert files._read(str(write(tmp_path / "p", data)), expected, 10_000) == data


def test_a_file_without_end_is_left_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one that is swapped for a device after it was looked at, or that a file system makes up."""
    path = write(tmp_path / "p.jpg", b"a few bytes")
    left = iter(range(100))
    monkeypatch.setattr(os, "read", lambda _handle, size: bytes(size) if next(left, None) is not None else b"")
    with pytest.raises(PictureError, match=r"is longer than it says, and than any picture") as caught:
        load_image(path, max_megapixels=0.01)
    assert not caught.value.retryable
    assert next(left) < 20


class TestRefused:
    """Every one of these is a PictureError that says why, never another exception."""

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "HEIF", "JPEG2000"])
    @pytest.mark.parametrize("part", [0.3, 0.8])
    def test_truncated(self, tmp_path: Path, format: str, part: float) -> None:
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8))
        data = encoded(noise, format)
        path = write(tmp_path / "p", data[: int(len(data) * part)])
        with pytest.raises(PictureError) as caught:
            load_image(path)
        assert caught.value.path == path
        assert not caught.value.retryable

    @pytest.mark.parametrize("format", ["JPEG", "PNG"])
    def test_truncated_stays_truncated_after_its_header_was_read(self, tmp_path: Path, format: str) -> None:
        """Asking for metadata may decode a PNG; a second attempt must not take half a picture for whole."""
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8))
        data = encoded(noise, format)
        data = data[: len(data) // 2]
        with open_image(data, "p") as image:
            path = write(tmp_path / "p", data)
            describe(path, "", data, os.stat(path), image)
            with pytest.raises(PictureError, match="truncated"):
                decode(image, "p")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "is empty (0 bytes)"),
            (b"just some text\n" * 10, "is not a picture"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture but an SVG drawing"),
            (b"\n<!DOCTYPE html><html>404</html>", "is not a picture but a web page"),
            (b"%PDF-1.7", "is not a picture but a PDF document"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not a picture but a PostScript document"),
            (b"PF\n2 1\n-1.0\n" + bytes(24), "a PFM in colour, which cannot be read here"),
            (b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nENDHDR\n", "a PAM, which cannot be read here"),
            (b"\xff\x0a" + bytes(range(99)), "a JPEG XL, which cannot be read here"),
            (bytes(4096), "damaged: holds nothing but zero bytes"),
            (b"\xff\xd8\xff", "damaged: begins like JPEG, but its header makes no sense"),
            (b"\x89PNG\r\n\x1a\n" + bytes(50), "damaged: begins like PNG, but its header makes no sense"),
        ],
    )
    def test_no_picture(self, tmp_path: Path, content: bytes, reason: str) -> None:
        with pytest.raises(PictureError) as caught:
            load_image(write(tmp_path / "p.jpg", content))
        assert reason in caught.value.reason

    @pytest.mark.parametrize("side", [15_000, 25_000, 100_000, 2_000_000_000])
    def test_bombs_are_refused_from_their_header(self, tmp_path: Path, side: int) -> None:
        path = write(tmp_path / "bomb.png", png(side, side))
        started = time.monotonic()
        for read in (load_image, examine):
            with pytest.raises(PictureError, match=r"pixels exceed the bound of 200 megapixels.*max_megapixels"):
                read(path)
        assert time.monotonic() - started < 1

    def test_the_bound_is_configurable(self, tmp_path: Path) -> None:
        path = write(tmp_path / "p.png", encoded(Image.new("RGB", (200, 100)), "PNG"))
        assert load_image(path, max_megapixels=0.02).size == (200, 100)
        with pytest.raises(PictureError, match=r"200x100 pixels exceed the bound of 0.0199 megapixels"):
            load_image(path, max_megapixels=0.0199)

    def test_no_remarks_reach_the_terminal(self, tmp_path: Path) -> None:
        files._prepare_pillow.cache_clear()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            with pytest.raises(PictureError):
                load_image(write(tmp_path / "bomb.png", png(15_000, 15_000)))
            load_image(write(tmp_path / "p.jpg", encoded(corners(), "JPEG", exif=b"Exif\0\0II*\0\xff\0\0\0")))
        files._prepare_pillow.cache_clear()
        assert [str(warning.message) for warning in seen] == []

    def test_folder_pipe_and_missing(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match="is a folder"):
            load_image(tmp_path)
        with pytest.raises(PictureError, match="no such file") as caught:
            load_image(tmp_path / "missing.jpg")
        assert caught.value.retryable
        os.mkfifo(tmp_path / "pipe.jpg")
        with pytest.raises(PictureError, match="not a regular file"):
            load_image(tmp_path / "pipe.jpg")

    def test_permission(self, picture_folder: Path, closed: Callable[[Path], None]) -> None:
        closed(picture_folder / "0.png")
        with pytest.raises(PictureError, match="permission denied") as caught:
            load_image(picture_folder / "0.png")
        assert caught.value.retryable

    def test_null_byte_in_the_path(self) -> None:
        with pytest.raises(PictureError, match="null"):
            load_image("a\0b.jpg")

    @given(
        data=st.binary(max_size=300), head=st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"RIFF"])
    )
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_random_bytes(self, tmp_path: Path, data: bytes, head: bytes) -> None:
        path = write(tmp_path / "p.jpg", head + data)
        check_picture_or_picture_error(load_image, path)

    @given(
        format=st.sampled_from(
            ["JPEG", "JPEG2000", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "HEIF", "PPM", "ICO"]
        ),
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
        for read in (load_image, examine):
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


class TestInMemory:
    def test_arrays(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 255, (10, 20, 3), dtype=np.uint8)
        assert np.array_equal(np.asarray(load_image(pixels)), pixels)
        assert np.array_equal(np.asarray(load_image(pixels[..., 0]))[..., 2], pixels[..., 0])
        clear = np.concatenate([pixels, np.zeros((10, 20, 1), np.uint8)], axis=2)
        assert np.asarray(load_image(clear)).min() == 255

    @pytest.mark.parametrize(
        "wrong",
        [
            np.zeros((4, 4, 3), np.float32),
            np.zeros((4, 4, 2), np.uint8),
            np.zeros((4,), np.uint8),
            np.zeros((1, 4, 4, 3), np.uint8),
            np.zeros((0, 4, 3), np.uint8),
            None,
            [[1, 2]],
        ],
        ids=str,
    )
    def test_other_things_are_refused(self, wrong: object) -> None:
        with pytest.raises(UsageError, match="expected a"):
            load_image(wrong)  # type: ignore[arg-type]

    @pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
    def test_an_image_without_pixels_is_none(self, size: tuple[int, int]) -> None:
        with pytest.raises(PictureError, match="has no pixels"):
            load_image(Image.new("RGB", size))

    def test_path_text_and_image_agree(self, picture_folder: Path) -> None:
        path = picture_folder / "0.png"
        with Image.open(path) as opened:
            same = [load_image(path), load_image(str(path)), load_image(opened)]
        assert len({picture.tobytes() for picture in same}) == 1


class TestFraction:
    """JPEG decoded at a fraction of its size, for who needs no more."""

    @pytest.mark.parametrize(
        ("shortest", "size"), [(None, (800, 400)), (100, (200, 100)), (101, (400, 200)), (401, (800, 400))]
    )
    def test_both_sides_stay_long_enough(
        self, tmp_path: Path, shortest: int | None, size: tuple[int, int]
    ) -> None:
        path = write(tmp_path / "a.jpg", encoded(corners().resize((800, 400)), "JPEG", quality=95))
        picture = load_image(path, shortest=shortest)
        assert picture.size == size
        assert quarters(picture) == ["red", "green", "blue", "yellow"]

    def test_other_formats_are_decoded_whole(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.png", encoded(corners().resize((800, 400)), "PNG"))
        assert load_image(path, shortest=100).size == (800, 400)

    def test_turned_pictures_are_upright(self, tmp_path: Path) -> None:
        exif = orientation_tag(6)
        path = write(tmp_path / "a.jpg", encoded(corners().resize((800, 400)), "JPEG", quality=95, exif=exif))
        assert load_image(path, shortest=100).size == (100, 200)
