"""Draw the picture of the layers in docs/architecture.md.

    python docs/make_layers.py

Writes docs/layers.svg. What a layer holds is read from the package, so the picture cannot name what is not there.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

import imagesearch

PACKAGE = Path(imagesearch.__file__).parent
HERE = Path(__file__).parent

# From the top: its title, what it does, and its rooms (folders or modules) with a word on each.
LAYERS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Front ends",
        "parse, call, print, exit code",
        (
            ("frontends/cli", "app, options, output,\ncommands/*"),
            ("frontends/figures.py", "results as pictures"),
            ("frontends/scripts.py", "the four scripts"),
        ),
    ),
    (
        "Service",
        "wires everything once",
        (
            ("service.py", "class ImageSearch:\nthe Python API"),
            ("managing.py", "collections as wholes"),
            ("networks.py", "loads models\nwhen first used"),
            ("config.py", "defaults < file <\nenvironment < flags"),
        ),
    ),
    (
        "Uses",
        "what the program is for",
        (
            ("library", "folders to collection:\nplan, refresh, ledger,\nfeatures, transfer"),
            ("search", "query to hits"),
        ),
    ),
    (
        "Models",
        "pixels to numbers",
        (
            ("models", "hub, preprocessing,\nnetwork, pooling,\nembedder, classifier"),
            ("models/runtimes", "PyTorch, OpenVINO,\nONNX Runtime"),
            ("models/starter", "the bundled model"),
        ),
    ),
    (
        "Sources and stores",
        "files in, rows out",
        (
            ("images", "find, decode: upright,\nsRGB, bounded"),
            ("stores", "contracts, address,\nengines, columns, memory"),
            ("stores/milvus", "Milvus Lite in this process;\nMilvus servers"),
        ),
    ),
    (
        "Values",
        "import nothing",
        (("records.py", "ImageRecord, Hit, Fingerprint, ..."), ("errors.py", "one tree of exceptions")),
    ),
)

WIDTH, LEFT, LINE, GAP = 11.8, 2.7, 1.22, 0.16
COLOURS = ("#dbe9f6", "#d9efe3", "#f4ead5", "#f3dfe0", "#e5e0f1", "#e8e8e8")


def draw_room(axes: Axes, place: tuple[float, float], width: float, colour: str, room: tuple[str, str]) -> None:
    """One box with a room's name and what it holds."""
    left, bottom = place
    height = LINE - GAP
    box = FancyBboxPatch((left, bottom), width, height, "round,pad=0,rounding_size=0.08", fc=colour, ec="#8a8f98")
    axes.add_patch(box)
    axes.text(left + 0.12, bottom + height - 0.13, room[0], va="top", weight="bold", size=9.5)
    axes.text(left + 0.12, bottom + height - 0.4, room[1], va="top", size=8.5, color="#333333", linespacing=1.2)


def main() -> None:
    """Draw the layers and write the file."""
    mpl.rcParams["svg.hashsalt"] = "layers"  # the same bytes every time
    mpl.rcParams["font.family"] = "DejaVu Sans"
    height = len(LAYERS) * LINE + 0.5
    figure, axes = plt.subplots(figsize=(WIDTH, height))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.axis("off")
    for level, ((title, does, rooms), colour) in enumerate(zip(LAYERS, COLOURS, strict=True)):
        bottom = height - (level + 1) * LINE
        axes.text(0.1, bottom + 0.62, title, weight="bold", size=12)
        axes.text(0.1, bottom + 0.36, does, size=9, color="#555555")
        width = (WIDTH - LEFT - 0.5) / len(rooms)
        for number, room in enumerate(rooms):
            if not (PACKAGE / room[0]).exists():
                raise SystemExit(f"there is no {room[0]} in the package")
            draw_room(axes, (LEFT + number * width, bottom), width - GAP, colour, room)
    arrow = {"arrowstyle": "-|>", "color": "#555555", "lw": 1.6}
    axes.annotate("", xy=(WIDTH - 0.25, 0.5), xytext=(WIDTH - 0.25, height - 0.2), arrowprops=arrow)
    axes.text(WIDTH - 0.1, height / 2, "imports", rotation=270, va="center", ha="center", size=9, color="#555555")
    rule = "A module imports only what is below it, or earlier in its own folder."
    axes.text(LEFT, 0.2, rule, size=9, color="#555555")
    figure.savefig(HERE / "layers.svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.05)


if __name__ == "__main__":
    main()
