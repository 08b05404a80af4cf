"""Colour profiles, transparency, deep grey, and pictures too large to copy."""

from __future__ import annotations

import io
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from imagesearch.images import colour
from imagesearch.images.colour import shrinking, to_rgb
from imagesearch.images.markers import jp2_profile
from imagesearch.images.sources import load_image

from .samples import (
    BLUE,
    GREEN,
    RED,
    STORED_AS,
    UPRIGHT,
    YELLOW,
    corners,
    encoded,
    middles,
    orientation_tag,
    quarters,
    write,
)

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
COLOURS = [RED, GREEN, BLUE, YELLOW]


def profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    """An ICC profile made by hand (ICC.1:2010, chapter 7)."""
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    header = struct.pack(">I4sI4s4s4s12x4s28x", start + len(body), b"lcms", 0x02100000, kind, space, pcs, b"acsp")
    white = struct.pack(">iii", 0xF6D6, 0x10000, 0xD32D)
    return (header + white).ljust(128, b"\0") + table + body


def xyz(x: float, y: float, z: float) -> bytes:
    return struct.pack(">4s4xiii", b"XYZ ", *(round(value * 65536) for value in (x, y, z)))


def gamma(value: float) -> bytes:
    return struct.pack(">4s4xIH", b"curv", 1, round(value * 256))


WHITE = xyz(0.9642, 1.0, 0.8249)
# sRGB with its red and green exchanged: nothing else gives itself away so plainly.
SWAPPED = profile(
    b"RGB ",
    {
        **{b"wtpt": WHITE, b"rXYZ": xyz(0.3851, 0.7169, 0.0971), b"gXYZ": xyz(0.4360, 0.2225, 0.0139)},
        **{b"bXYZ": xyz(0.1431, 0.0606, 0.7141), b"rTRC": gamma(2.2), b"gTRC": gamma(2.2), b"bTRC": gamma(2.2)},
    },
)
LINEAR_SRGB = profile(
    b"RGB ",
    {
        **{b"wtpt": WHITE, b"rXYZ": xyz(0.4360, 0.2225, 0.0139), b"gXYZ": xyz(0.3851, 0.7169, 0.0971)},
        **{b"bXYZ": xyz(0.1431, 0.0606, 0.7141), b"rTRC": gamma(1.0), b"gTRC": gamma(1.0), b"bTRC": gamma(1.0)},
    },
)
LINEAR_GREY = profile(b"GRAY", {b"wtpt": WHITE, b"kTRC": gamma(1.0)})
SWAPPED_QUARTERS = ["green", "red", "blue", "yellow"]


def inverted_ink() -> bytes:
    """A CMYK profile (lut8Type, ICC.1:2010, 10.9) whose first three inks are red, green and blue light."""
    grid = np.stack(np.meshgrid(*[[0, 255]] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    lights = Image.fromarray(grid[None, :, :3].astype(np.uint8))
    lab = ImageCms.profileToProfile(
        lights, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    # Pillow hands a and b out as signed numbers, and ICC profiles add 128.
    values = np.asarray(lab).reshape(-1, 3) ^ np.array([0, 128, 128], np.uint8)
    identity = bytes(range(256))
    matrix = struct.pack(">9i", *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    lut = struct.pack(">4s4xBBBx", b"mft1", 4, 3, 2) + matrix + identity * 4 + values.tobytes()
    return profile(b"CMYK", {b"wtpt": WHITE, b"A2B0": lut + identity * 3}, b"prtr", b"Lab ")


class TestProfiles:
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
    def test_every_format_that_has_them(self, tmp_path: Path, format: str) -> None:
        path = write(tmp_path / "p", encoded(corners(), format, icc_profile=SWAPPED))
        assert quarters(load_image(path)) == SWAPPED_QUARTERS

    @pytest.mark.parametrize("long", [False, True])
    def test_jpeg_2000(self, tmp_path: Path, long: bool) -> None:
        """As archives and scanners write them; Pillow neither reads nor writes profiles there."""
        data = encoded(corners(), "JPEG2000")
        header, start = data.index(b"jp2h") - 4, data.index(b"colr") - 4
        old = int.from_bytes(data[start : start + 4], "big")
        box = struct.pack(">I4sBBB", 11 + len(SWAPPED), b"colr", 2, 0, 0) + SWAPPED
        size = int.from_bytes(data[header : header + 4], "big") - old + len(box)
        data = data[:header] + struct.pack(">I", size) + data[header + 4 : start] + box + data[start + old :]
        if long:  # as a box may be that says its length in 64 bits
            data = data[:header] + struct.pack(">I4sQ", 1, b"jp2h", size + 8) + data[header + 8 :]
        assert quarters(load_image(write(tmp_path / "p.jp2", data))) == SWAPPED_QUARTERS

    @pytest.mark.parametrize("cut", [0, 3, 7, 11, 15, 200])
    def test_damaged_boxes_of_jpeg_2000_have_no_profile(self, cut: int) -> None:
        colr = struct.pack(">I4sBBB", 400, b"colr", 2, 0, 0) + SWAPPED
        header = struct.pack(">I4s", 8 + len(colr), b"jp2h") + colr
        assert jp2_profile(header[: len(header) - cut] if cut else struct.pack(">I", 3) + header[4:]) is None

    def test_one_photograph_in_two_colour_spaces_gives_the_same_pixels(self, tmp_path: Path) -> None:
        wide = profile(
            b"RGB ",
            {  # Display P3, adapted to D50
                **{
                    b"wtpt": WHITE,
                    b"rXYZ": xyz(0.51512, 0.2412, -0.00105),
                    b"gXYZ": xyz(0.29198, 0.69225, 0.04189),
                },
                **{b"bXYZ": xyz(0.1571, 0.06657, 0.78407)},
                **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), gamma(2.2)),
            },
        )
        stored = ImageCms.profileToProfile(
            corners(), ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(wide))
        )
        assert stored is not None
        assert np.abs(np.array(middles(stored)) - COLOURS).max() > 20
        seen = middles(load_image(write(tmp_path / "p.png", encoded(stored, "PNG", icc_profile=wide))))
        assert np.abs(np.array(seen) - COLOURS).max() <= 6

    def test_srgb_is_left_alone(self, tmp_path: Path) -> None:
        path = write(tmp_path / "p.png", encoded(corners(), "PNG", icc_profile=SRGB))
        assert load_image(path).tobytes() == corners().tobytes()
        assert colour._transform(SRGB, "RGB") is None
        assert colour._transform(SWAPPED, "RGB") is not None

    @pytest.mark.parametrize("mode", ["P", "L", "LA", "1"])
    def test_indexed_and_grey_pictures(self, tmp_path: Path, mode: str) -> None:
        picture = (
            corners().quantize(8) if mode == "P" else Image.new(mode, (8, 8), 128 if mode != "LA" else (128, 255))
        )
        icc = SWAPPED if mode == "P" else LINEAR_GREY
        seen = load_image(write(tmp_path / "p.png", encoded(picture, "PNG", icc_profile=icc)))
        if mode == "P":
            assert quarters(seen) == SWAPPED_QUARTERS
        else:  # half the light is 188 of 255 in sRGB (IEC 61966-2-1)
            assert abs(middles(seen)[0][0] - (255 if mode == "1" else 188)) <= 1

    def test_deep_grey(self, tmp_path: Path) -> None:
        half = Image.fromarray(np.full((8, 8), 32768, np.uint16))
        seen = load_image(write(tmp_path / "p.png", encoded(half, "PNG", icc_profile=LINEAR_GREY)))
        assert abs(middles(seen)[0][0] - 188) <= 1

    def test_transparency_lies_over_white_afterwards(self, tmp_path: Path) -> None:
        """White is white, whatever the profile says of the picture's own colours."""
        picture = corners()
        picture.putalpha(
            Image.linear_gradient("L").resize((60, 40)).point(lambda value: 255 if value > 127 else 0)
        )
        seen = middles(load_image(write(tmp_path / "p.png", encoded(picture, "PNG", icc_profile=SWAPPED))))
        assert seen[:2] == [(255, 255, 255)] * 2
        assert np.abs(np.array(seen[2:]) - [BLUE, YELLOW]).max() <= 12

    def test_cmyk(self, tmp_path: Path) -> None:
        """An Adobe JPEG keeps inks inverted; Pillow turns them back, and the profile is for what they are."""
        inks = Image.merge("CMYK", (*corners().split(), Image.new("L", (60, 40))))
        plain = load_image(write(tmp_path / "plain.jpg", encoded(inks, "JPEG", quality=95)))
        assert quarters(plain) != UPRIGHT
        path = write(tmp_path / "p.jpg", encoded(inks, "JPEG", quality=95, icc_profile=inverted_ink()))
        assert quarters(load_image(path)) == UPRIGHT

    @pytest.mark.parametrize(
        "icc",
        [b"", b"nonsense", SWAPPED[:200], b"\xff" * 600, LINEAR_GREY, SWAPPED + bytes(5 << 20)],
        ids=["empty", "text", "cut short", "noise", "of another colour space", "far too large"],
    )
    def test_unusable_ones_are_ignored(self, tmp_path: Path, icc: bytes) -> None:
        path = write(tmp_path / "p.tif", encoded(corners(), "TIFF", icc_profile=icc))
        assert load_image(path).tobytes() == corners().tobytes()

    @pytest.mark.parametrize("mode", ["L", "CMYK"])
    def test_what_does_not_fit_the_file_is_not_used_later(self, tmp_path: Path, mode: str) -> None:
        """A grey JPEG with the profile of the coloured one that it was made from is common."""
        picture = Image.linear_gradient("L").convert(mode)
        read = load_image(write(tmp_path / "p.tif", encoded(picture, "TIFF", icc_profile=LINEAR_SRGB)))
        assert read.tobytes() == picture.convert("RGB").tobytes()
        assert load_image(read).tobytes() == read.tobytes()

    def test_many_threads_may_use_one(self) -> None:
        picture = Image.effect_noise((800, 600), 80).convert("RGB")
        picture.info["icc_profile"] = SWAPPED
        expected = to_rgb(picture).tobytes()
        seen: list[bool] = []

        def work() -> None:
            seen.extend(to_rgb(picture).tobytes() == expected for _ in range(5))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [True] * 20

    def test_lab(self, tmp_path: Path) -> None:
        lab = ImageCms.profileToProfile(
            corners(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
        assert lab is not None
        seen = middles(load_image(write(tmp_path / "p.tif", encoded(lab, "TIFF"))))
        assert np.abs(np.array(seen) - COLOURS).max() <= 6


class TestLarge:
    """With the bound for "large" lowered to 0.02 megapixels: the same code, without the gigabytes."""

    @pytest.fixture(autouse=True)
    def small_is_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(colour, "LARGE_MEGAPIXELS", 0.02)
        monkeypatch.setattr(colour, "_SHRUNK_MEGAPIXELS", 0.01)
        monkeypatch.setattr(colour, "_SHORTEST_SIDE", 10)
        monkeypatch.setattr(colour, "_STRIP_PIXELS", 3000)

    @pytest.mark.parametrize("orientation", [1, 6])
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF"])
    def test_they_come_out_smaller_and_alike(self, tmp_path: Path, format: str, orientation: int) -> None:
        turn = STORED_AS[orientation]
        stored = corners((303, 202)) if turn is None else corners((303, 202)).transpose(turn)
        data = encoded(stored, format, exif=orientation_tag(orientation))
        seen = load_image(write(tmp_path / "p", data))
        assert 0.005e6 < seen.width * seen.height < 0.02e6
        assert seen.width / seen.height == pytest.approx(1.5, rel=0.03)
        assert quarters(seen) == UPRIGHT

    @pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16", "F", "LAB", "1"])
    def test_strips_give_what_the_whole_gives(self, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
        noise = Image.effect_noise((310, 190), 120)
        if mode in ("I;16", "F"):
            kind = np.uint16 if mode == "I;16" else np.float32
            picture = Image.fromarray(np.asarray(noise).astype(kind) * 257)
        else:
            rgb = Image.merge("RGB", (noise, noise.rotate(180), noise.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
            picture = Image.new("LAB", rgb.size, (120, 30, 200)) if mode == "LAB" else rgb.convert(mode)
        if mode == "RGBA":
            picture.putalpha(noise.rotate(180))
        in_strips = to_rgb(picture)
        monkeypatch.setattr(colour, "LARGE_MEGAPIXELS", 25.0)
        whole = to_rgb(picture).reduce(3)
        assert in_strips.size == (104, 64)
        assert np.array_equal(np.asarray(in_strips), np.asarray(whole))

    def test_panoramas_keep_their_height(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert to_rgb(Image.new("L", (5000, 15), 7)).size == (5000, 15)
        assert shrinking((5000, 45)) == 4

    def test_a_picture_in_memory_is_not_closed(self) -> None:
        picture = corners((303, 202)).convert("RGBA")
        assert load_image(picture).size == (101, 68)
        assert picture.getpixel((0, 0)) == (*RED, 255)
