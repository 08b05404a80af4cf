"""Index 300 good and 300 damaged pictures in a process of its own, and see that nothing but the damage is lost.

    python benchmarks/damaged.py [--pictures DIR] [--json FILE]

The good pictures come from DIR (real photographs, say) or are drawn; the damaged ones are made from them, always
the same: cut short, bits turned, headers swapped between formats, zeroed, wrongly named, of absurd shapes, and
bombs, whose headers or pixels want far more memory than the file has bytes. The exit code is 1 if a good picture
is refused, a bad one is neither decoded nor named with its reason, the process needs more than 1.5 GB, or one
file takes longer than 60 seconds.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import peaks

if TYPE_CHECKING:
    from imagesearch.models.preprocessing import Pixels
    from imagesearch.records import ImageRecord

COUNT = 300
MOST_MEGABYTES = 1500
MOST_SECONDS = 60
SEED = 7


def good_pictures(folder: Path, source: Path | None) -> None:
    """300 pictures: copies of those in a folder, or drawn ones, in turn in every common format."""
    import numpy as np
    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener()
    if source:
        found = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        if len(found) < COUNT:
            raise SystemExit(f"{source} holds {len(found)} pictures; {COUNT} are needed")
        for number, path in enumerate(random.Random(SEED).sample(found, COUNT)):
            (folder / f"{number:03}{path.suffix}").write_bytes(path.read_bytes())
        return
    generator = np.random.default_rng(SEED)
    formats = (
        ("JPEG", "jpg"),
        ("PNG", "png"),
        ("WEBP", "webp"),
        ("TIFF", "tif"),
        ("GIF", "gif"),
        ("HEIF", "heic"),
    )
    for number in range(COUNT):
        format, extension = formats[number % len(formats)]
        coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(folder / f"{number:03}.{extension}", format)


# Damage: each takes a good picture as bytes and gives the bad file's extension and content.
Damage = Callable[[bytes, str, random.Random], tuple[str, bytes]]


def cut_short(data: bytes, extension: str, chance: random.Random) -> tuple[str, bytes]:
    return extension, data[: chance.randrange(1, len(data))]


def bits_turned(data: bytes, extension: str, chance: random.Random) -> tuple[str, bytes]:
    content = bytearray(data)
    for _ in range(chance.choice((1, 10, 100))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return extension, bytes(content)


def header_turned(data: bytes, extension: str, chance: random.Random) -> tuple[str, bytes]:
    content = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        content[chance.randrange(min(200, len(content)))] = chance.randrange(256)
    return extension, bytes(content)


def header_swapped(data: bytes, extension: str, chance: random.Random) -> tuple[str, bytes]:
    other = chance.choice(("PNG", "GIF", "WEBP", "TIFF", "BMP", "HEIF", "JPEG2000", "JPEG"))
    length = chance.choice((4, 16, 64))
    return extension, converted(data, other)[:length] + data[length:]


def zeros_inside(data: bytes, extension: str, chance: random.Random) -> tuple[str, bytes]:
    start = chance.randrange(len(data))
    length = chance.randrange(1, len(data) - start + 1)
    return extension, data[:start] + bytes(length) + data[start + length :]


def only_zeros(data: bytes, extension: str, chance: random.Random) -> tuple[str, bytes]:
    return extension, bytes(chance.choice((0, 1, 1000, len(data))))


def wrong_extension(data: bytes, _: str, chance: random.Random) -> tuple[str, bytes]:
    return chance.choice((".png", ".gif", ".heic", ".tif", ".nef", ".dng", ".jp2")), data


def other_format_damaged(data: bytes, _: str, chance: random.Random) -> tuple[str, bytes]:
    other = chance.choice(("PNG", "GIF", "WEBP", "TIFF", "BMP", "HEIF", "JPEG2000", "AVIF", "PPM"))
    damage = chance.choice((cut_short, bits_turned, header_turned, zeros_inside))
    return damage(converted(data, other), "." + other.lower(), chance)


def converted(data: bytes, format: str) -> bytes:
    import pillow_heif
    from PIL import Image

    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(buffer, format)
    return buffer.getvalue()


DAMAGES: tuple[Damage, ...] = (
    *(cut_short, bits_turned, header_turned, header_swapped),
    *(zeros_inside, only_zeros, wrong_extension, other_format_damaged),
)


def png(width: int, height: int, colour_type: int, *, rows: int | None = None, depth: int = 8) -> bytes:
    """A PNG of zeros, written as a stream: small, whatever its size; with all its rows, or with fewer."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    squeeze = zlib.compressobj(9)
    row = bytes(1 + width * channels * depth // 8)
    packed = b"".join(squeeze.compress(row) for _ in range(height if rows is None else rows)) + squeeze.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    palette = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(256)) if colour_type == 3 else b""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def endless_gif(frames: int) -> bytes:
    """A GIF whose list of frames is long and never ends."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("P", (64, 48)).save(buffer, "GIF")
    whole = buffer.getvalue()
    start = whole.index(b"\x2c", 13 + 3 * 2 ** ((whole[10] & 7) + 1))
    return whole[:-1] + whole[start:-1] * frames


def icon_with(picture: bytes) -> bytes:
    """An icon that says 256 x 256 and holds another picture."""
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(picture), 22) + picture


def jpeg_that_says(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header says another size than its pixels have."""
    content = bytearray(converted(data, "JPEG"))
    struct.pack_into(">HH", content, content.index(b"\xff\xc0") + 5, height, width)
    return bytes(content)


def still(format: str, side: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (side, side), "navy").save(buffer, format)
    return buffer.getvalue()


def bombs(sample: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of files that want more than they have."""
    yield "pixel.png", png(1, 1, 2)
    yield "line.png", png(65_000, 1, 2)
    yield "column.png", png(1, 65_000, 2)
    yield "bomb-grey.png", png(30_000, 30_000, 0)
    yield "bomb-rgb.png", png(30_000, 30_000, 2, rows=3000)
    yield "bomb-huge.png", png(2_000_000_000, 2_000_000_000, 0, rows=0)
    yield "bound-rgb.png", png(14_000, 14_000, 2)
    yield "bound-rgba.png", png(14_000, 14_000, 6)
    yield "bound-palette.png", png(14_000, 14_000, 3)
    yield "bound-grey16.png", png(14_000, 14_000, 0, depth=16)
    yield "bound-again.png", png(14_100, 14_100, 2)
    yield "bound-empty.png", png(14_000, 14_000, 2, rows=10)
    yield "bound.jpg", still("JPEG", 14_000)
    yield "endless.gif", endless_gif(200_000)
    yield "endless-again.gif", endless_gif(20) + b"\x21\xf9\x04"
    yield "liar.ico", icon_with(png(14_000, 14_000, 0))
    yield "bomb.ico", icon_with(png(30_000, 30_000, 0, rows=0))
    yield "liar.jpg", jpeg_that_says(sample, 14_000, 14_000)
    yield "bomb.jpg", jpeg_that_says(sample, 65_000, 65_000)
    yield "liar-small.jpg", jpeg_that_says(sample, 16, 16)


def bad_pictures(folder: Path, good: Path) -> None:
    """300 damaged pictures, the same in every run."""
    chance = random.Random(SEED)
    originals = sorted(good.iterdir())
    for name, content in bombs(originals[0].read_bytes()):
        (folder / name).write_bytes(content)
    for number in range(COUNT - len(list(folder.iterdir()))):
        original = chance.choice(originals)
        damage = DAMAGES[number % len(DAMAGES)]
        extension, content = damage(original.read_bytes(), original.suffix, chance)
        (folder / f"{number:03}-{damage.__name__}{extension}").write_bytes(content)


def index(folders: list[str]) -> None:
    """What the child process does: read, decode and embed all files as indexing does; a line of JSON for each."""
    from imagesearch.images.files import decode, describe, file_content, open_image
    from imagesearch.images.pipeline import batches, decode_ahead
    from imagesearch.models import catalogue
    from imagesearch.models.hub import find_checkpoint
    from imagesearch.models.runtimes.base import RuntimeOptions
    from imagesearch.models.runtimes.selection import open_embedder
    from imagesearch.records import Skipped

    checkpoint = find_checkpoint(catalogue.features_checkpoint("starter"))
    embedder = open_embedder(checkpoint, RuntimeOptions("cpu", "float32"))
    seconds: dict[str, float] = {}

    def load(path: str) -> tuple[ImageRecord, Pixels]:
        started = time.monotonic()
        try:
            with file_content(path) as (data, status), open_image(data, path) as image:
                return describe(path, "", data, status, image), embedder.preprocess(decode(image, path))
        finally:
            seconds[path] = time.monotonic() - started

    paths = [str(path) for folder in folders for path in sorted(Path(folder).iterdir())]
    for batch in batches(decode_ahead(paths, load, ahead=64), 32):
        good = [item for item in batch if not isinstance(item, Skipped)]
        if good:
            embedder.encode([pixels for _, pixels in good])
        for item in batch:
            path, reason = (item.path, item.reason) if isinstance(item, Skipped) else (item[0].path, None)
            print(json.dumps({"path": path, "reason": reason, "seconds": seconds.get(path, 0.0)}), flush=True)
    own, child = peaks()
    print(json.dumps({"megabytes": own, "child_megabytes": child}), flush=True)


def in_words(reason: str) -> str:
    """A reason without its numbers and the library's own words, to count equal ones."""
    return re.sub(r"\d+(?:[.,]\d+)*", "n", re.sub(r" \(.*\)$", "", reason))


def report(lines: list[dict[str, Any]], stderr: str, good: Path, bad: Path) -> dict[str, Any]:
    """The figures, and which targets were missed."""
    rows: dict[str, dict[str, Any]] = {line["path"]: line for line in lines if "path" in line}
    reasons = [rows[path]["reason"] for path in rows if Path(path).parent == bad]
    nothing: dict[str, Any] = {"seconds": 0.0, "path": ""}
    slowest = max(rows.values(), key=lambda row: row["seconds"], default=nothing)
    figures: dict[str, Any] = {
        "good_decoded": sum(Path(path).parent == good and rows[path]["reason"] is None for path in rows),
        "bad_decoded": sum(reason is None for reason in reasons),
        "bad_refused": sum(bool(reason) for reason in reasons),
        "reasons": dict(collections.Counter(in_words(reason) for reason in reasons if reason).most_common()),
        "slowest_file": Path(slowest["path"]).name,
        "slowest_seconds": round(slowest["seconds"], 2),
        "peak_megabytes": round(next((line["megabytes"] for line in lines if "megabytes" in line), 0)),
        "conversion_megabytes": round(
            next((line["child_megabytes"] for line in lines if "child_megabytes" in line), 0)
        ),
        "tracebacks": stderr.count("Traceback"),
    }
    targets = {
        "all good pictures decoded": figures["good_decoded"] == COUNT,
        "each bad picture decoded or named": figures["bad_decoded"] + figures["bad_refused"] == COUNT,
        f"less than {MOST_MEGABYTES} MB": 0 < figures["peak_megabytes"] < MOST_MEGABYTES,
        f"each file in less than {MOST_SECONDS} s": figures["slowest_seconds"] < MOST_SECONDS,
        "no traceback": not figures["tracebacks"],
    }
    return figures | {"missed": [name for name, met in targets.items() if not met]}


def show(figures: dict[str, Any]) -> None:
    print(f"good decoded   {figures['good_decoded']:4} of {COUNT}")
    print(f"bad decoded    {figures['bad_decoded']:4} of {COUNT}")
    print(f"bad refused    {figures['bad_refused']:4} of {COUNT}")
    for reason, count in figures["reasons"].items():
        print(f"          {count:9}  {reason}")
    print(f"slowest file   {figures['slowest_seconds']:7.2f} s  {figures['slowest_file']}")
    print(f"peak memory    {figures['peak_megabytes']:4} MB")
    print(f"conversion     {figures['conversion_megabytes']:4} MB in a process of its own, before")
    print(f"tracebacks     {figures['tracebacks']:4}")
    print("missed: " + "; ".join(figures["missed"]) if figures["missed"] else "all targets met")


def main() -> int:
    parser = argparse.ArgumentParser(description="Index 300 good and 300 damaged pictures.")
    parser.add_argument("--pictures", type=Path, help="a folder of at least 300 photographs; default: drawn ones")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--make", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--index", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        good_pictures(arguments.make[0], arguments.pictures)
        bad_pictures(arguments.make[1], arguments.make[0])
        return 0
    if arguments.index:
        index(arguments.index)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        good, bad = Path(folder, "good"), Path(folder, "bad")
        good.mkdir()
        bad.mkdir()
        # Each in a process of its own: on Linux a process begins with the peak memory of the one that started it.
        make = [sys.executable, __file__, "--make", str(good), str(bad)]
        make += ["--pictures", str(arguments.pictures)] if arguments.pictures else []
        if code := subprocess.run(make, check=False).returncode:
            return code
        command = [sys.executable, __file__, "--index", str(good), str(bad)]
        # Nothing is cached: as in a first run, the model is converted, if a runtime for that is installed.
        environment = {**os.environ, "XDG_CACHE_HOME": str(Path(folder, "cache"))}
        child = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        figures = report([json.loads(line) for line in child.stdout.splitlines()], child.stderr, good, bad)
    if child.stderr:
        print(child.stderr, file=sys.stderr)
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 1 if figures["missed"] or child.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
