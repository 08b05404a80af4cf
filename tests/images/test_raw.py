"""Raw files: told apart from finished ones, upright once, by preview or from the sensor."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest
from PIL import Image

from imagesearch.errors import PictureError
from imagesearch.images import raw
from imagesearch.images.files import IN_MEMORY, examine
from imagesearch.images.raw import is_raw
from imagesearch.images.sources import load_image

from .samples import STORED_AS, UPRIGHT, corners, dng, encoded, orientation_tag, quarters, write

pytest.importorskip("rawpy")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

SIZE = (64, 48)


def stored(orientation: int, size: tuple[int, int] = SIZE) -> Image.Image:
    turn = STORED_AS[orientation]
    return corners(size) if turn is None else corners(size).transpose(turn)


def with_preview(orientation: int, preview: Image.Image, own: int | None = None) -> bytes:
    """A raw file with a preview whose own EXIF data, if it has any, comes first, as cameras write it."""
    data = encoded(preview, "JPEG") if own is None else encoded(preview, "JPEG", exif=orientation_tag(own))
    if own is not None:
        jfif = 2 + 2 + int.from_bytes(data[4:6], "big")
        data = data[:2] + data[jfif:]
    return dng(stored(orientation), orientation=orientation, preview=data, preview_size=preview.size)


@pytest.mark.parametrize("orientation", range(1, 9))
class TestUpright:
    def test_from_the_sensor(self, tmp_path: Path, orientation: int) -> None:
        path = write(tmp_path / "p.dng", dng(stored(orientation), orientation=orientation))
        picture, row = load_image(path), examine(path)
        assert (picture.size, quarters(picture)) == ((32, 24), UPRIGHT)
        assert (row.width, row.height) == SIZE

    @pytest.mark.parametrize("says_so_itself", [True, False])
    def test_from_a_preview_as_the_sensor_saw_it(
        self, tmp_path: Path, orientation: int, says_so_itself: bool
    ) -> None:
        preview = stored(orientation, (56, 42))
        path = write(
            tmp_path / "p.dng", with_preview(orientation, preview, orientation if says_so_itself else None)
        )
        picture, row = load_image(path), examine(path)
        assert (picture.size, quarters(picture)) == ((56, 42), UPRIGHT)
        assert (row.width, row.height) == SIZE

    def test_from_a_preview_that_is_upright_and_says_so(self, tmp_path: Path, orientation: int) -> None:
        path = write(tmp_path / "p.dng", with_preview(orientation, corners((56, 42)), own=1))
        assert quarters(load_image(path)) == UPRIGHT


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_preview_that_wrongly_says_it_is_upright(tmp_path: Path, orientation: int) -> None:
    """Its shape gives it away."""
    path = write(tmp_path / "p.dng", with_preview(orientation, stored(orientation, (56, 42)), own=1))
    assert quarters(load_image(path)) == UPRIGHT


class TestPreviews:
    def test_small_ones_are_not_used(self, tmp_path: Path) -> None:
        path = write(tmp_path / "p.dng", with_preview(1, Image.new("RGB", (16, 12), "white")))
        assert quarters(load_image(path)) == UPRIGHT

    def test_ones_larger_than_the_picture_are_not_used(self, tmp_path: Path) -> None:
        path = write(tmp_path / "p.dng", with_preview(1, Image.new("RGB", (640, 480), "white")))
        assert quarters(load_image(path)) == UPRIGHT

    def test_damaged_ones_are_not_used(self, tmp_path: Path) -> None:
        whole = with_preview(1, Image.new("RGB", (60, 45), "white"))
        path = write(tmp_path / "p.dng", whole.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc3\x00\x11\x08"))
        assert quarters(load_image(path)) == UPRIGHT


def test_what_the_exif_data_says(tmp_path: Path) -> None:
    row = examine(write(tmp_path / "p.dng", dng(corners(SIZE))))
    assert (row.camera, row.taken) == ("ACME One", "2020-01-02T03:04:05")


class TestToldApart:
    @pytest.mark.parametrize("name", ["p.dng", "p.DNG", "p.tif", "p.jpg", "p"])
    def test_a_dng_is_one_whatever_its_name(self, tmp_path: Path, name: str) -> None:
        """Pillow would take the thumbnail that comes first for the picture."""
        data = with_preview(1, Image.new("RGB", (16, 12), "white"))
        path = write(tmp_path / name, data)
        assert (examine(path).width, examine(path).height) == SIZE
        assert quarters(load_image(path)) == UPRIGHT

    @pytest.mark.parametrize("name", ["p.nef", "p.tif", "p", IN_MEMORY])
    def test_so_is_a_tiff_of_a_camera_that_begins_with_a_small_copy(self, name: str) -> None:
        """As Nikon, Sony and others write them; uploads, bytes and open files have no name that tells."""
        version, subfile_type = struct.pack("<HH", 50706, 1), struct.pack("<HHII", 254, 4, 1, 1)
        data = with_preview(1, Image.new("RGB", (16, 12), "white")).replace(version, struct.pack("<HH", 50705, 1))
        assert is_raw(data, name)
        assert not is_raw(data.replace(subfile_type, struct.pack("<HHII", 254, 4, 1, 0)), "p.tif")

    @pytest.mark.parametrize("format", ["TIFF", "JPEG", "PNG", "GIF", "WEBP", "BMP"])
    def test_finished_pictures_with_a_raw_files_name(self, tmp_path: Path, format: str) -> None:
        path = write(tmp_path / "p.nef", encoded(corners(), format))
        assert load_image(path).size == (60, 40)
        assert quarters(load_image(path)) == UPRIGHT

    @pytest.mark.parametrize(
        "start",
        [
            b"II*\0\x10\0\0\0CR\x02\0",
            b"II\x1a\0\0\0HEAPCCDR",
            b"FUJIFILMCCD-RAW 0201",
            b"IIRO\x08\0\0\0",
            b"IIU\0\x18\0\0\0",
            b"\0MRM\0\0\0\0",
            b"FOVb\0\0\0\0",
            b"\0\0\0\x18ftypcrx \0\0\0\1",
        ],
    )
    def test_by_content(self, start: bytes) -> None:
        assert is_raw(start + bytes(100), "p.bin")

    def test_other_tiffs_are_none(self) -> None:
        data = encoded(corners(), "TIFF")
        assert not is_raw(data, "p.tif")
        assert not is_raw(data[:20], "p.tif")

    def test_a_tiff_of_a_camera_is_one_by_its_name(self) -> None:
        data = encoded(corners(), "TIFF", tiffinfo={271: "ACME"})
        assert is_raw(data, "p.nef")
        assert not is_raw(data, "p.tif")


class TestRefused:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (bytes(5000), "is no raw file, or of a camera that LibRaw does not know yet"),
            (b"dear diary " * 500, "is no raw file"),
            (b"II*\0\x08\0\0\0", "damaged: "),
            (dng(corners(SIZE))[:20], "damaged: "),
            (dng(corners(SIZE))[:300], "damaged: "),
        ],
    )
    def test_at_the_header(self, tmp_path: Path, content: bytes, reason: str) -> None:
        path = write(tmp_path / "p.dng", content)
        for read in (examine, load_image):
            with pytest.raises(PictureError) as caught:
                read(path)
            assert caught.value.reason.startswith(reason)
            assert not caught.value.retryable

    def test_without_its_second_half(self, tmp_path: Path) -> None:
        whole = dng(corners(SIZE))
        path = write(tmp_path / "p.dng", whole[: len(whole) // 2])
        assert examine(path).width == SIZE[0]
        with pytest.raises(PictureError, match="damaged: "):
            load_image(path)

    def test_the_bound_is_that_of_the_header(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path / "p.dng", dng(corners(SIZE)))
        monkeypatch.setattr(raw, "_pixels", lambda *_: pytest.fail("decoded"))
        with pytest.raises(PictureError, match=r"64x48 pixels exceed the bound of 0\.003 megapixels"):
            load_image(path, max_megapixels=0.003)

    def test_without_the_extra(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "rawpy", None)
        with pytest.raises(PictureError) as caught:
            load_image(write(tmp_path / "p.dng", dng(corners(SIZE))))
        assert caught.value.reason == "raw files need another package: pip install rawpy"
        assert not caught.value.retryable
