"""Time, camera and place from EXIF data; and nothing from garbage."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from imagesearch.images.files import describe, examine, open_image
from imagesearch.images.metadata import location
from imagesearch.records import ImageRecord

from .samples import corners, encoded, orientation_tag, png_chunk, png_of, tiff_directories, write

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

Place = tuple[object, object, object, object]


def exif_of(main: dict[int, object], *, gps: dict[int, object] | None = None, **details: object) -> Image.Exif:
    exif = Image.Exif()
    for tag, value in main.items():
        exif[tag] = value
    if gps:
        exif[0x8825] = gps
    if details:
        exif[0x8769] = {int(name.lstrip("_")): value for name, value in details.items()}
    return exif


def row(tmp_path: Path, exif: Image.Exif, format: str = "JPEG") -> ImageRecord:
    return examine(write(tmp_path / "p", encoded(corners(), format, exif=exif)))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_every_format_that_has_exif(tmp_path: Path, format: str) -> None:
    gps = {1: "N", 2: (52.0, 31.0, 12.0), 3: "W", 4: (13.0, 24.0, 36.0)}
    exif = exif_of({0x010F: "ACME", 0x0110: "One", 306: "2019:07:21 13:05:59"}, gps=gps)
    seen = row(tmp_path, exif, format)
    assert (seen.taken, seen.camera) == ("2019-07-21T13:05:59", "ACME One")
    assert seen.latitude == pytest.approx(52.52)
    assert seen.longitude == pytest.approx(-13.41)


def test_tiff(tmp_path: Path) -> None:
    """Made by hand: Pillow does not write places into a TIFF."""
    main = [
        *((256, 4, 4), (257, 4, 2), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, ("payload", 0)), (278, 4, 2)),
        *((271, 2, b"ACME\0"), (306, 2, b"2019:07:21 13:05:59\0"), (279, 4, 8), (34853, 4, ("directory", 1))),
    ]
    gps = [
        (1, 2, b"S\0"),
        (2, 5, [(52, 1), (31, 1), (12, 1)]),
        (3, 2, b"E\0"),
        (4, 5, [(13, 1), (24, 1), (36, 1)]),
    ]
    seen = examine(write(tmp_path / "p.tif", tiff_directories([main, gps], [bytes(8)])))
    assert (seen.width, seen.height, seen.taken, seen.camera) == (4, 2, "2019-07-21T13:05:59", "ACME")
    assert (seen.latitude, seen.longitude) == pytest.approx((-52.52, 13.41))


def test_no_exif_says_nothing(tmp_path: Path) -> None:
    seen = examine(write(tmp_path / "p.png", encoded(corners(), "PNG")))
    assert (seen.taken, seen.camera, seen.latitude, seen.longitude) == (None, None, None, None)


class TestTime:
    @pytest.mark.parametrize("tag", [36867, 36868, 306])
    def test_the_next_best_counts(self, tmp_path: Path, tag: int) -> None:
        text = "2019:07:21 13:05:59"
        exif = exif_of({306: text}) if tag == 306 else exif_of({}, **{f"_{tag}": text})
        assert row(tmp_path, exif).taken == "2019-07-21T13:05:59"

    def test_blanks_give_way_to_the_next(self, tmp_path: Path) -> None:
        exif = exif_of({306: "2019:07:21 13:05:59"}, _36867="    :  :     :  :  ")
        assert row(tmp_path, exif).taken == "2019-07-21T13:05:59"

    @pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", ""])
    def test_nonsense_is_left_out(self, tmp_path: Path, text: str) -> None:
        assert row(tmp_path, exif_of({306: text})).taken is None


class TestCamera:
    @pytest.mark.parametrize(
        ("make", "model", "expected"),
        [
            ("Canon", "Canon EOS 5D", "Canon EOS 5D"),
            ("NIKON CORPORATION", "NIKON D70", "NIKON D70"),
            ("EASTMAN KODAK COMPANY", "KODAK DC240", "KODAK DC240"),
            ("Apple", "iPhone 15", "Apple iPhone 15"),
            ("SONY\0\0\0", "  ILCE-7M3 \0junk", "SONY ILCE-7M3"),
            ("ACME\n\tOptics", "", "ACME Optics"),
            ("", "One", "One"),
            ("  ", "\0", None),
            ("A" * 90, "B" * 90, "A" * 90 + " " + "B" * 9),
        ],
    )
    def test_one_tidy_line(self, tmp_path: Path, make: str, model: str, expected: str | None) -> None:
        assert row(tmp_path, exif_of({0x010F: make, 0x0110: model})).camera == expected


class TestPlace:
    @pytest.mark.parametrize(
        ("place", "expected"),
        [
            (("N", (10.0, 30.0, 0.0), "E", (20.0, 0.0, 36.0)), (10.5, 20.01)),
            (("S", (10.0, 30.0, 0.0), "W", (20.0, 0.0, 36.0)), (-10.5, -20.01)),
            (("s\0", (10.0, 30.0), "w", (20.01,)), (-10.5, -20.01)),
            (("N", (90.0, 0.0, 0.0), "E", (180.0, 0.0, 0.0)), (90.0, 180.0)),
        ],
    )
    def test_signed_degrees(self, tmp_path: Path, place: Place, expected: tuple[float, float]) -> None:
        seen = row(tmp_path, exif_of({}, gps=dict(enumerate(place, 1))))
        assert (seen.latitude, seen.longitude) == pytest.approx(expected)

    @pytest.mark.parametrize(
        "place",
        [
            ("N", (IFDRational(0, 0),) * 3, "E", (IFDRational(0, 0),) * 3),
            ("N", (10.0, 0.0, IFDRational(1, 0)), "E", (20.0, 0.0, 0.0)),
            ("N", (90.0, 0.0, 1.0), "E", (20.0, 0.0, 0.0)),
            ("N", (10.0, 0.0, 0.0), "E", (181.0, 0.0, 0.0)),
            ("N", (10.0, 0.0, 0.0), "", (20.0, 0.0, 0.0)),
            ("X", (10.0, 0.0, 0.0), "E", (20.0, 0.0, 0.0)),
            ("NS", (10.0, 0.0, 0.0), "E", (20.0, 0.0, 0.0)),
            ("N", (10.0, 0.0, 0.0, 0.0), "E", (20.0, 0.0, 0.0)),
        ],
        ids=str,
    )
    def test_half_or_impossible_places_are_none(self, tmp_path: Path, place: Place) -> None:
        seen = row(tmp_path, exif_of({}, gps=dict(enumerate(place, 1))))
        assert (seen.latitude, seen.longitude) == (None, None)

    @pytest.mark.parametrize(("text", "expected"), [(b"48\0", 48.0), (b"8.5\0", 8.5), (b"48N\0", None)])
    def test_degrees_as_text_are_one_number(self, text: bytes, expected: float | None) -> None:
        """Letter by letter, 48 would be 4 degrees and 8 minutes."""
        gps = [(1, 2, b"N\0"), (2, 2, text), (3, 2, b"E\0"), (4, 5, [(20, 1), (0, 1), (0, 1)])]
        exif = b"Exif\0\0" + tiff_directories([[(34853, 4, ("directory", 1))], gps], [])
        place = location(open_image(encoded(corners(), "JPEG", exif=exif), "p"))
        assert place == ((None, None) if expected is None else (expected, 20.0))


class TestPng:
    def test_exif_behind_the_pixels_counts_before_they_are_decoded(self, tmp_path: Path) -> None:
        exif = orientation_tag(6)
        exif[0x0110] = "One"
        data = png_of(np.asarray(corners()))
        chunk = png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
        seen = examine(write(tmp_path / "p.png", data[:-12] + chunk + data[-12:]))
        assert (seen.width, seen.height, seen.camera) == (40, 60, "One")

    def test_describing_decodes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = encoded(corners(), "PNG")
        with open_image(data, "p.png") as image:
            monkeypatch.setattr(type(image), "load", lambda self: pytest.fail("decoded"))
            assert describe(__file__, "", data, os.stat(__file__), image).width == 60


@given(garbage=st.binary(max_size=300), cut=st.integers(0, 250))
@settings(max_examples=150, deadline=None)
def test_garbage_neither_raises_nor_invents_places(garbage: bytes, cut: int) -> None:
    gps = {1: "N", 2: (52.0, 31.0, 12.0), 3: "W", 4: (13.0, 24.0, 36.0)}
    whole = exif_of({0x010F: "ACME"}, gps=gps, _36867="2019:07:21 13:05:59").tobytes()
    data = encoded(corners(), "JPEG", exif=whole[: 8 + cut] + garbage)
    with open_image(data, "p.jpg") as image:
        seen = describe(__file__, "", data, os.stat(__file__), image)
    assert (seen.latitude is None) == (seen.longitude is None)
    assert seen.latitude is None or (abs(seen.latitude) <= 90 and abs(seen.longitude or 0) <= 180)
    assert seen.camera is None or (seen.camera.isprintable() and len(seen.camera) <= 100)
