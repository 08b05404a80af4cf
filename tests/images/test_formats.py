"""Every format and pixel layout gives the pixels that were put in, or is refused with its reason."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from imagesearch.errors import PictureError
from imagesearch.images.sources import load_image

from .samples import (
    BLACK_TO_WHITE,
    BLUE,
    GREEN,
    RED,
    UPRIGHT,
    YELLOW,
    corners,
    encoded,
    greys,
    middles,
    png,
    png_chunk,
    png_of,
    quarters,
    tiff_directories,
    write,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

COLOURS = np.asarray(corners())
ALPHA = np.full((40, 60, 1), 255, np.uint8)
# The upper half is transparent.
ALPHA[:20] = 0
WHITE_ABOVE = [(255, 255, 255), (255, 255, 255), BLUE, YELLOW]


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    """A TIFF as tifffile writes it; Pillow writes few of the kinds that it reads."""
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def deep(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.uint16) * 257


def pnm(kind: str, pixels: np.ndarray, most: int | float) -> bytes:
    height, width = pixels.shape[:2]
    return f"{kind}\n{width} {height}\n{most}\n".encode() + pixels.tobytes()


def rle_bmp() -> bytes:
    """8 bits a pixel, compressed by run lengths; rows from the bottom (BITMAPINFOHEADER, BI_RLE8)."""
    palette = b"".join(bytes((*colour[::-1], 0)) for colour in (RED, GREEN, BLUE, YELLOW))
    rows = [bytes((30, first, 30, first + 1, 0, 0)) for first in [2] * 20 + [0] * 20]
    pixels = b"".join(rows) + b"\0\1"
    start = 14 + 40 + len(palette)
    header = struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
    header += struct.pack("<IiiHHIIiiII", 40, 60, 40, 1, 8, 1, len(pixels), 2835, 2835, 4, 4)
    return header + palette + pixels


def bmp_with_alpha() -> bytes:
    """32 bits a pixel with a mask for alpha (BITMAPV4HEADER, BI_BITFIELDS)."""
    pixels = np.concatenate([COLOURS[..., ::-1], ALPHA], axis=2)[::-1].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, 60, 40, 1, 32, 3, len(pixels), 2835, 2835, 0, 0) + masks
    info = info.ljust(108, b"\0")
    return struct.pack("<2sIHHI", b"BM", 14 + 108 + len(pixels), 0, 0, 14 + 108) + info + pixels


def animation(format: str) -> bytes:
    others = [Image.new("RGB", (60, 40), "white"), Image.new("RGB", (60, 40), "black")]
    return encoded(corners(), format, save_all=True, append_images=others, duration=50)


def jpeg_in_tiff() -> bytes:
    return encoded(corners(), "TIFF", compression="jpeg")


COLOURED: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: encoded(corners(), "PNG"),
    "PNG of 16 bits": lambda: png_of(deep(COLOURS)),
    "PNG with a palette": lambda: encoded(corners().quantize(4), "PNG"),
    "PNG, animated": lambda: animation("PNG"),
    "GIF": lambda: encoded(corners(), "GIF"),
    "GIF, animated": lambda: animation("GIF"),
    "WebP": lambda: encoded(corners(), "WEBP"),
    "WebP without loss": lambda: encoded(corners(), "WEBP", lossless=True),
    "WebP, animated": lambda: animation("WEBP"),
    "AVIF": lambda: encoded(corners(), "AVIF"),
    "AVIF, animated": lambda: animation("AVIF"),
    "HEIC": lambda: encoded(corners(), "HEIF"),
    "HEIC of several": lambda: animation("HEIF"),
    "JPEG": lambda: encoded(corners(), "JPEG"),
    "JPEG, progressive": lambda: encoded(corners(), "JPEG", progressive=True),
    "JPEG of inks": lambda: encoded(corners().convert("CMYK"), "JPEG"),
    "JPEG of several": lambda: encoded(
        corners(), "MPO", save_all=True, append_images=[Image.new("RGB", (60, 40))]
    ),
    "JPEG 2000": lambda: encoded(corners(), "JPEG2000"),
    "JPEG 2000, codestream": lambda: encoded(corners(), "JPEG2000", no_jp2=True),
    "BMP": lambda: encoded(corners(), "BMP"),
    "BMP with run lengths": rle_bmp,
    "PPM": lambda: encoded(corners(), "PPM"),
    "PPM of 16 bits": lambda: pnm("P6", deep(COLOURS).astype(">u2"), 65535),
    "PPM as text": lambda: b"P3 60 40 255\n" + " ".join(map(str, COLOURS.ravel())).encode(),
    "ICO": lambda: encoded(corners((64, 64)), "ICO", sizes=[(16, 16), (64, 64)]),
    "TIFF": lambda: encoded(corners(), "TIFF"),
    "TIFF, big-endian": lambda: tiff(COLOURS, photometric="rgb", byteorder=">"),
    "TIFF of 16 bits": lambda: tiff(deep(COLOURS), photometric="rgb"),
    "TIFF of 16 bits, big-endian": lambda: tiff(deep(COLOURS), photometric="rgb", byteorder=">"),
    "TIFF in planes": lambda: tiff(COLOURS.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
    "TIFF of 16 bits in compressed planes": lambda: tiff(
        deep(COLOURS).transpose(2, 0, 1), photometric="rgb", planarconfig="separate", compression="zlib"
    ),
    "TIFF in tiles": lambda: tiff(COLOURS, photometric="rgb", tile=(16, 16)),
    "TIFF, LZW": lambda: encoded(corners(), "TIFF", compression="tiff_lzw"),
    "TIFF, deflate": lambda: encoded(corners(), "TIFF", compression="tiff_adobe_deflate"),
    "TIFF, JPEG": jpeg_in_tiff,
    "TIFF of inks": lambda: encoded(corners().convert("CMYK"), "TIFF"),
    "TIFF with a palette": lambda: encoded(corners().quantize(4), "TIFF"),
    "TIFF of several pages": lambda: encoded(
        corners(), "TIFF", save_all=True, append_images=[Image.new("RGB", (600, 400), "white")]
    ),
    "TIFF of more than 4 GB's kind": lambda: tiff(COLOURS, photometric="rgb", bigtiff=True),
}


@pytest.mark.parametrize("kind", COLOURED)
def test_coloured_quarters(tmp_path: Path, kind: str) -> None:
    if kind.startswith("AVIF") and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    picture = load_image(write(tmp_path / "p", COLOURED[kind]()))
    assert picture.size == ((64, 64) if kind == "ICO" else (60, 40))
    assert quarters(picture) == UPRIGHT
    assert np.abs(np.array(middles(picture)) - [RED, GREEN, BLUE, YELLOW]).max() <= 30


TRANSPARENT: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: png_of(np.concatenate([COLOURS, ALPHA], axis=2)),
    "PNG of 16 bits": lambda: png_of(deep(np.concatenate([COLOURS, ALPHA], axis=2))),
    "WebP": lambda: encoded(Image.fromarray(np.concatenate([COLOURS, ALPHA], axis=2)), "WEBP", lossless=True),
    "AVIF": lambda: encoded(Image.fromarray(np.concatenate([COLOURS, ALPHA], axis=2)), "AVIF", quality=100),
    "HEIC": lambda: encoded(Image.fromarray(np.concatenate([COLOURS, ALPHA], axis=2)), "HEIF", quality=100),
    "JPEG 2000": lambda: encoded(Image.fromarray(np.concatenate([COLOURS, ALPHA], axis=2)), "JPEG2000"),
    "BMP": bmp_with_alpha,
    "TIFF": lambda: tiff(np.concatenate([COLOURS, ALPHA], axis=2), photometric="rgb", extrasamples=["unassalpha"]),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
def test_transparency_is_white(tmp_path: Path, kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    picture = load_image(write(tmp_path / "p", TRANSPARENT[kind]()))
    assert np.abs(np.array(middles(picture)) - WHITE_ABOVE).max() <= 12


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
def test_alpha_in_between(tmp_path: Path, mode: str, colour: tuple[int, ...], expected: tuple[int, ...]) -> None:
    picture = Image.new(mode, (8, 8), colour)
    assert load_image(write(tmp_path / "p.png", encoded(picture, "PNG"))).getpixel((4, 4)) == expected


class TestTransparentColours:
    def test_of_a_palette(self, tmp_path: Path) -> None:
        picture = Image.new("P", (8, 8), 1)
        picture.putpalette([0, 0, 0, 10, 20, 30] + [0] * 762)
        picture.paste(0, (0, 0, 4, 8))
        for format in ("PNG", "GIF"):
            loaded = load_image(write(tmp_path / "p", encoded(picture, format, transparency=0)))
            assert (loaded.getpixel((1, 1)), loaded.getpixel((6, 1))) == ((255, 255, 255), (10, 20, 30))

    def test_of_an_rgb_file(self, tmp_path: Path) -> None:
        path = write(tmp_path / "p.png", encoded(corners(), "PNG", transparency=RED))
        assert load_image(path).getpixel((1, 1)) == (255, 255, 255)
        assert load_image(path).getpixel((50, 5)) == GREEN

    def test_of_16_bits_of_grey(self, tmp_path: Path) -> None:
        values = (greys() * 65535).round().astype(np.uint16)
        picture = Image.fromarray(values)
        path = write(tmp_path / "p.png", encoded(picture, "PNG", transparency=0))
        assert [pixel[0] for pixel in middles(load_image(path))] == [255, 85, 170, 255]

    @pytest.mark.parametrize("depth", [1, 2, 4, 8])
    def test_of_few_bits_of_grey(self, tmp_path: Path, depth: int) -> None:
        """The file names one of its own greys, of which two bits make four; the second darkest here."""
        values = (greys() * (2**depth - 1)).round().astype(np.uint8)
        bits = np.unpackbits(values[..., None], axis=2)[..., 8 - depth :].reshape(40, -1)
        rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(bits, axis=1))
        clear = png_chunk(b"tRNS", struct.pack(">H", values[0, -1]))
        path = write(tmp_path / "p.png", png(60, 40, depth=depth, colour_type=0, pixels=rows, more=clear))
        expected = [255, 255, 255, 255] if depth == 1 else [0, 255, 170, 255]
        assert [pixel[0] for pixel in middles(load_image(path))] == expected


def grey(kind: type, most: float) -> np.ndarray:
    values = greys() * most
    return (values.round() if np.issubdtype(kind, np.integer) else values).astype(kind)


def twelve_bit_tiff() -> bytes:
    """As microscopes and X-ray machines write them: two pixels in three bytes (TIFF 6.0, section 4)."""
    values = grey(np.uint16, 4095)
    bits = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(40, 60, 2), axis=2)[..., 4:]
    pixels = np.packbits(bits).tobytes()
    sizes = [(256, 4, 60), (257, 4, 40), (258, 3, 12), (277, 3, 1), (278, 4, 40), (279, 4, len(pixels))]
    return tiff_directories([[*sizes, (259, 3, 1), (262, 3, 1), (273, 4, ("payload", 0))]], [pixels])


def big_endian(pixels: np.ndarray) -> bytes:
    return tiff(pixels, photometric="minisblack", byteorder=">", compression="zlib")


def one_plane(bits: int, photometric: int, tiles: bool = False) -> bytes:
    """Grey whose single plane is said to be stored separately, as some programs write it."""
    values = greys((64, 48)) if tiles else greys()
    pixels = ((1 - values if photometric == 0 else values) * (2**bits - 1)).round().astype("<u2")
    if bits <= 8:
        stored = np.unpackbits(pixels.astype(np.uint8)[..., None], axis=2)[..., 8 - bits :]
        pixels = np.packbits(stored.reshape(len(pixels), -1), axis=1)
    tags = [
        (256, 4, 60),
        (257, 4, 40),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (277, 3, 1),
        (284, 3, 2),
    ]
    if tiles:
        tags += [(322, 4, 64), (323, 4, 48), (324, 4, ("payload", 0)), (325, 4, pixels.nbytes)]
    else:
        tags += [(273, 4, ("payload", 0)), (278, 4, 40), (279, 4, pixels.nbytes)]
    return tiff_directories([tags], [pixels.tobytes()])


GREY: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: encoded(Image.fromarray(grey(np.uint8, 255)), "JPEG"),
    "PNG": lambda: encoded(Image.fromarray(grey(np.uint8, 255)), "PNG"),
    "PNG of 2 bits": lambda: png(
        60,
        40,
        depth=2,
        colour_type=0,
        pixels=b"".join([b"\0" + b"\0" * 7 + b"\x05" + b"\x55" * 7] * 20)
        + b"".join([b"\0" + b"\xaa" * 7 + b"\xaf" + b"\xff" * 7] * 20),
    ),
    "PNG of 16 bits": lambda: encoded(Image.fromarray(grey(np.uint16, 65535)), "PNG"),
    "PNG of 16 bits and alpha": lambda: png_of(
        np.stack([grey(np.uint16, 65535), np.full((40, 60), 65535, np.uint16)], axis=2)
    ),
    "JPEG 2000 of 16 bits": lambda: encoded(Image.fromarray(grey(np.uint16, 65535)), "JPEG2000"),
    "PGM": lambda: pnm("P5", grey(np.uint8, 255), 255),
    "PGM of 16 bits": lambda: pnm("P5", grey(np.uint16, 65535).astype(">u2"), 65535),
    "PGM of 12 bits": lambda: pnm("P5", grey(np.uint16, 4095).astype(">u2"), 4095),
    "PFM": lambda: pnm("Pf", grey(np.float32, 1)[::-1], -1.0),
    "TIFF": lambda: tiff(grey(np.uint8, 255), photometric="minisblack"),
    "TIFF, white is zero": lambda: tiff(grey(np.uint8, 255)[::-1, ::-1], photometric="miniswhite"),
    "TIFF of 16 bits": lambda: tiff(grey(np.uint16, 65535), photometric="minisblack"),
    "TIFF of 16 bits, big-endian": lambda: tiff(grey(np.uint16, 65535), photometric="minisblack", byteorder=">"),
    "TIFF of 16 bits, white is zero": lambda: tiff(grey(np.uint16, 65535)[::-1, ::-1], photometric="miniswhite"),
    "TIFF in one plane": lambda: one_plane(8, 1),
    "TIFF in one plane, white is zero": lambda: one_plane(8, 0),
    "TIFF in one plane, of 4 bits": lambda: one_plane(4, 1),
    "TIFF in one plane, of 16 bits": lambda: one_plane(16, 1),
    "TIFF in one plane, of 16 bits, in tiles": lambda: one_plane(16, 1, tiles=True),
    "TIFF of 12 bits": twelve_bit_tiff,
    "TIFF of 16 bits, signed": lambda: tiff(grey(np.int16, 20000) - np.int16(9000), photometric="minisblack"),
    "TIFF of 32 bits": lambda: tiff(grey(np.uint32, 2**32 - 1), photometric="minisblack"),
    "TIFF of 32 bits, signed": lambda: tiff(grey(np.int32, 10**9) - 5 * 10**8, photometric="minisblack"),
    "TIFF of 32 bits, signed, big-endian": lambda: tiff(
        grey(np.int32, 10**9) - 5 * 10**8, photometric="minisblack", byteorder=">"
    ),
    "TIFF of 16 bits, signed, big-endian, deflate": lambda: big_endian(grey(np.int16, 20000)),
    "TIFF of 32 bits, signed, big-endian, deflate": lambda: big_endian(grey(np.int32, 10**9)),
    "TIFF of floats, big-endian, deflate": lambda: big_endian(grey(np.float32, 9)),
    "TIFF of floats": lambda: tiff(grey(np.float32, 1.5) - np.float32(0.5), photometric="minisblack"),
    "TIFF of floats, big-endian": lambda: tiff(grey(np.float32, 9), photometric="minisblack", byteorder=">"),
    "TIFF of large floats": lambda: tiff(grey(np.float32, 6e38 / 2) - np.float32(1e38), photometric="minisblack"),
}


@pytest.mark.parametrize("kind", GREY)
def test_grey_quarters(tmp_path: Path, kind: str) -> None:
    picture = load_image(write(tmp_path / "p", GREY[kind]()))
    assert picture.size == (60, 40)
    seen = np.array(middles(picture))
    assert (seen == seen[:, :1]).all()
    assert np.abs(seen[:, 0] - BLACK_TO_WHITE).max() <= 1


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_one_bit(tmp_path: Path, format: str) -> None:
    picture = Image.fromarray(greys() > 0.5)
    seen = middles(load_image(write(tmp_path / "p", encoded(picture, format))))
    assert [pixel[0] for pixel in seen] == [0, 0, 255, 255]


@pytest.mark.parametrize(("scale", "bits"), [(257, 8), (1, 8), (257, 4), (1, 4)])
def test_palettes_of_8_and_16_bits(tmp_path: Path, scale: int, bits: int) -> None:
    """TIFF 6.0 wants 16 bits a colour; programs that wrote 8 were so many that libtiff tells them apart."""
    colours = np.pad(np.array([RED, GREEN, BLUE, YELLOW]) * scale, ((0, 2**bits - 4), (0, 0)))
    places = np.repeat(np.repeat(np.arange(4, dtype=np.uint8).reshape(2, 2), 20, axis=0), 30, axis=1)
    pixels = (places if bits == 8 else places[:, ::2] << 4 | places[:, 1::2]).tobytes()
    tags = [(256, 4, 60), (257, 4, 40), (258, 3, bits), (259, 3, 1), (262, 3, 3), (273, 4, ("payload", 0))]
    tags += [(278, 4, 40), (279, 4, len(pixels)), (320, 3, colours.T.ravel().tolist())]
    picture = load_image(write(tmp_path / "p.tif", tiff_directories([tags], [pixels])))
    assert middles(picture) == [RED, GREEN, BLUE, YELLOW]


def test_floats_that_are_no_numbers(tmp_path: Path) -> None:
    """They neither stretch the rest nor are lost: infinity is white or black, and what is no number is black."""
    values = greys().astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    picture = load_image(write(tmp_path / "p.tif", encoded(Image.fromarray(values), "TIFF")))
    assert [pixel[0] for pixel in middles(picture)] == BLACK_TO_WHITE
    assert [picture.getpixel((x, 0))[0] for x in range(3)] == [0, 255, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, 0.0])
def test_floats_all_alike(tmp_path: Path, value: float) -> None:
    values = np.full((4, 4), value, np.float32)
    picture = load_image(write(tmp_path / "p.tif", encoded(Image.fromarray(values), "TIFF")))
    assert len(set(picture.get_flattened_data())) == 1


def test_formats_without_loss_give_the_same_pixels(tmp_path: Path) -> None:
    for format in ("PNG", "BMP", "TIFF", "PPM"):
        assert load_image(write(tmp_path / format, encoded(corners(), format))).tobytes() == corners().tobytes()


INKS = np.pad(255 - COLOURS, ((0, 0), (0, 0), (0, 1)))
GREY_AND_ALPHA = np.stack([np.asarray(corners().convert("L")), np.full((40, 60), 255, np.uint8)])


def in_planes(pixels: np.ndarray, photometric: str, **options: object) -> bytes:
    return tiff(pixels, photometric=photometric, planarconfig="separate", **options)


MISREAD: list[tuple[Callable[[], bytes], str]] = [
    (lambda: in_planes(deep(COLOURS).transpose(2, 0, 1), "rgb"), "with uncompressed planes of 16 bits"),
    (lambda: in_planes(deep(INKS).transpose(2, 0, 1), "separated"), "with uncompressed planes of 16 bits"),
    (
        lambda: in_planes(GREY_AND_ALPHA, "minisblack", extrasamples=["unassalpha"]),
        "with grey and alpha in planes",
    ),
    (
        lambda: in_planes(GREY_AND_ALPHA, "minisblack", extrasamples=["unassalpha"], compression="zlib"),
        "with grey and alpha in planes",
    ),
]


class TestRefused:
    def twelve_bits(self) -> bytes:
        data = bytearray(encoded(corners(), "JPEG"))
        frame = data.index(b"\xff\xc0")
        data[frame + 1], data[frame + 4] = 0xC1, 12  # extended sequential, 12 bits (ITU-T T.81, B.2.2)
        return bytes(data)

    def test_jpeg_of_12_bits(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError) as caught:
            load_image(write(tmp_path / "p.jpg", self.twelve_bits()))
        assert caught.value.reason == "a JPEG with 12 bits a sample, which cannot be read here"

    @pytest.mark.parametrize(
        ("pixels", "reason"),
        [
            (np.zeros((8, 8, 3), np.float32), "a TIFF with 3 x 32 bits a pixel (floating point)"),
            (np.zeros((8, 8, 3), np.uint32), "a TIFF with 3 x 32 bits a pixel (unsigned)"),
            (np.zeros((8, 8), np.float64), "a TIFF with 1 x 64 bits a pixel (floating point)"),
        ],
    )
    def test_tiffs_that_pillow_does_not_know(self, tmp_path: Path, pixels: np.ndarray, reason: str) -> None:
        photometric = "rgb" if pixels.ndim == 3 else "minisblack"
        with pytest.raises(PictureError) as caught:
            load_image(write(tmp_path / "p.tif", tiff(pixels, photometric=photometric)))
        assert caught.value.reason == f"{reason}, which cannot be read here"

    @pytest.mark.parametrize(("data", "kind"), MISREAD)
    def test_tiffs_that_pillow_reads_wrongly(self, tmp_path: Path, data: Callable[[], bytes], kind: str) -> None:
        with pytest.raises(PictureError) as caught:
            load_image(write(tmp_path / "p.tif", data()))
        assert caught.value.reason == f"a TIFF {kind}, which cannot be read here"

    def test_a_tiff_whose_pixels_are_elsewhere(self, tmp_path: Path) -> None:
        tags = [(256, 4, 60), (257, 4, 40), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 10**6), (279, 4, 2400)]
        with pytest.raises(PictureError, match="damaged: "):
            load_image(write(tmp_path / "p.tif", tiff_directories([[*tags, (278, 4, 40)]], [])))

    def test_formats_that_start_programs(self, tmp_path: Path) -> None:
        """Pillow would start Ghostscript for this one, whatever the file is called."""
        page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
        with pytest.raises(PictureError, match="is not a picture but a PostScript document"):
            load_image(write(tmp_path / "p.png", page))
