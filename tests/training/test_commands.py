"""The commands of ``training/README.md``, in their order, on a tiny data set and a teacher with random weights."""

from __future__ import annotations

import io
import json
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ..conftest import draw_picture

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "training" / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("#")[0].strip() for line in README.splitlines() if line.startswith("python -m training.")
]

# What makes a command quick; the last of equal flags counts.
TINY = {
    "training.train": ["--epochs", "10", "--views", "1", "--tune-epochs", "1", "--batch", "8"],
    "training.projection": ["--dims", "1"],
    "training.evaluate": ["--count", "20"],
    "training.contact_sheet": ["--count", "5000"],
    "training.confidence": ["--seeds", "1"],
}

CLASSES = [("n00000001", "a plain"), ("n00000002", "a hill"), ("n00000003", "a lake")]
PER_CLASS = 14


def write_data_set(folder: Path) -> None:
    """Parquet files with the columns of Tiny ImageNet's."""
    folder.mkdir()
    for part, first in (("train", 0), ("val", 100)):
        rows: list[dict[str, object]] = []
        for number in range(first, first + PER_CLASS * len(CLASSES)):
            label = number % len(CLASSES)
            blob = io.BytesIO()
            draw_picture(number, (64, 64)).save(blob, "JPEG")
            wnid, name = CLASSES[label]
            rows.append({"image": blob.getvalue(), "label": label, "wnid": wnid, "class_name": name})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"tiny_{part}.parquet")


def write_teacher(folder: Path) -> None:
    """A MobileNetV2 with few channels, which knows one class more than the data set has."""
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    wnids = ["n09999999", *(wnid for wnid, _ in CLASSES)]
    config = MobileNetV2Config(depth_multiplier=0.1, min_depth=4, num_labels=len(wnids), image_size=64)
    config.wnids = wnids
    MobileNetV2ForImageClassification(config).save_pretrained(folder)
    processor = {"image_processor_type": "MobileNetV2ImageProcessor", "size": {"shortest_edge": 64}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")


# What confidence is fitted on: the same pictures as classes and as photographs.
SETS = {"classes": "CLASS_FOLDERS", "copies": "PICTURES"}


def write_classes(folder: Path) -> None:
    """Eight folders of sixteen pictures, those of one folder alike."""
    random = np.random.default_rng(0)
    for number in range(8):
        (folder / str(number)).mkdir(parents=True)
        pixels = np.asarray(draw_picture(17 * number, (64, 64)), np.float32)
        for name in range(16):
            noisy = pixels + random.normal(0, 40, pixels.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / str(number) / f"{name}.png")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What stands for the README's names."""
    folder = tmp_path_factory.mktemp("training")
    write_data_set(folder / "parquet")
    write_teacher(folder / "teacher")
    (folder / "photos").mkdir()
    for number in range(14):
        draw_picture(number).save(folder / "photos" / f"{number}.png")
    write_classes(folder / "classes")
    names = {"TINY_IMAGENET_PARQUET": "parquet", "MOBILENET": "teacher", "PHOTOS": "photos"}
    files = ["packed", "run", "run/log.csv", "run/learning-curve.png", "run/model", "sheet.png"]
    places = {name: str(folder / place) for name, place in (names | dict(zip(files, files, strict=True))).items()}
    sets = {f"{name}={what}": f"{name}={folder / 'classes'}" for name, what in SETS.items()}
    return places | sets


def run(command: str, world: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As from the command line, in this process: PyTorch is imported once."""
    module, *words = shlex.split(command.removeprefix("python -m "))
    monkeypatch.setattr(sys, "argv", [module, *(world.get(word, word) for word in words), *TINY.get(module, [])])
    monkeypatch.delitem(sys.modules, module, raising=False)  # another command may have imported it
    runpy.run_module(module, run_name="__main__")


@pytest.mark.xdist_group("training")
def test_the_readmes_commands_run_in_their_order(
    world: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [command.split()[2] for command in COMMANDS] == [
        f"training.{name}"
        for name in ("data", "train", "plot", "graph", "evaluate", "projection", "contact_sheet", "confidence")
    ]
    for command in COMMANDS:
        run(command, world, monkeypatch)
    said = capsys.readouterr().out
    assert "step 50 of 50" in said
    assert "| starter |" in said
    assert "| model |" in said
    assert "| PCA whitened, 1 |" in said
    assert "| copies | starter | without it |" in said
    for picture in ("run/learning-curve.png", "sheet.png"):
        with Image.open(world[picture]) as image:
            assert image.width > 300
