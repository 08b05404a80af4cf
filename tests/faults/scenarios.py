"""What is done to a database while faults are injected: seven small operations with all that large ones have.

What makes a large collection large is scaled down: rows become data files, files are merged, and indexes are built
after a few rows already. Pictures, vectors and databases are real, the network is not: see :class:`ToyEmbedder`.

Everything lies in one folder (the *lab*): the pictures, an export and features to read, and for each operation a
prepared folder of databases, which is copied for each case.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagesearch import ImageSearch
from imagesearch.records import Fingerprint
from imagesearch.stores.base import CollectionSpec

# Imported before the first fork.
WARM = (
    *("pandas", "pyarrow.parquet", "faiss", "milvus_lite.index.factory"),
    *("imagesearch.library.extraction", "imagesearch.library.refresh", "imagesearch.library.transfer"),
    *("imagesearch.stores.milvus.embedded", "tests.faults.cases"),
)

PICTURES = 40
DATABASE, TARGET = "photos.db", "target.db"
NAME, KEPT = "pictures", "kept"

# Where what is large begins: the constant's name -> its value here. Every module that has it gets it.
_SMALL = {
    "FLUSH_BYTES": 6_000,  # about 16 rows
    "MIN_CODED": 16,
    "LEAST_INDEXED": 16,
    "_ROW_GROUP": 16,
    "_MERGED_TOGETHER": 3,
    "_BUILD_BATCH": 8,
    "ROWS_AT_ONCE": 8,
}


class ToyEmbedder:
    """Makes vectors of pictures without a network: their colours at sixteen places."""

    fingerprint = Fingerprint("toy", "1", "none", (4, 4), 48)
    decode_side = None
    batch_size = 8

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """One picture's colours, shape (4, 4, 3)."""
        return np.asarray(image.convert("RGB").resize((4, 4), Image.Resampling.BOX))

    def encode(self, batch: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Vectors of unit length, float32, shape (n, 48)."""
        vectors = np.stack([pixels.reshape(-1) for pixels in batch]).astype(np.float32) - 127.0
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def scale_down() -> None:
    """Let what is large begin with a few rows, in this process.

    Raises:
        LookupError: one of the constants is gone.
    """
    for name, value in _SMALL.items():
        modules = [
            module
            for path, module in list(sys.modules.items())
            if path.startswith("imagesearch.") and hasattr(module, name)
        ]
        if not modules:
            raise LookupError(f"no module of imagesearch has {name} any more")
        for module in modules:
            setattr(module, name, value)


@dataclass(frozen=True, slots=True)
class Lab:
    """The folder with everything."""

    root: Path

    @property
    def pictures(self) -> Path:
        """Pictures as they are indexed at first."""
        return self.root / "pictures"

    @property
    def changing(self) -> Path:
        """Pictures that were indexed, and some of which have changed since."""
        return self.root / "changing"

    @property
    def export(self) -> Path:
        """A collection as Parquet."""
        return self.root / "export.parquet"

    @property
    def features(self) -> Path:
        """Features files, without what follows the prefix."""
        return self.root / "features"

    def prepared(self, operation: str) -> Path:
        """The databases that an operation begins with."""
        return self.root / "prepared" / operation


# --- the operations ---


@dataclass(frozen=True, slots=True)
class Operation:
    """One of the things that are done.

    Attributes:
        run: does it. prepare: what is in the database before, beside a collection that nobody touches; None: there
        is no database. index_type: of all collections. ends_it: whether it cannot be done again once it has been
        done, because its collection is gone then.
    """

    run: Callable[[ImageSearch, Lab, Path], Any]
    prepare: Callable[[ImageSearch, Lab], Any] | None = None
    index_type: str = "auto"
    ends_it: bool = False


def _index_pictures(images: ImageSearch, lab: Lab) -> None:
    images.index(lab.pictures)


def _index_then_change(images: ImageSearch, lab: Lab) -> None:
    draw(lab.changing, range(PICTURES))
    images.index(lab.changing)
    draw(lab.changing, range(5), seed=1)  # changed
    draw(lab.changing, range(PICTURES, PICTURES + 4))  # new
    for number in (*range(10, 15), 20):
        (lab.changing / f"{number}.png").unlink()
    (lab.changing / "21.png").rename(lab.changing / "moved.png")


def _nothing(images: ImageSearch, lab: Lab) -> None:
    pass


OPERATIONS: Mapping[str, Operation] = {
    "index": Operation(lambda images, lab, _: images.index(lab.pictures)),
    "update": Operation(lambda images, lab, _: images.index(lab.changing), _index_then_change, "HNSW"),
    "import": Operation(lambda images, lab, _: images.database.import_file(lab.export), _nothing, "IVF_FLAT"),
    "migrate": Operation(
        lambda images, lab, place: images.database.migrate(str(place / TARGET)), _index_pictures, "auto"
    ),
    "build": Operation(
        lambda images, lab, _: images.build(f"{lab.features}_features.npy", f"{lab.features}_paths.txt"),
        _nothing,
        "HNSW_SQ",
    ),
    "drop": Operation(lambda images, lab, _: images.database.drop(NAME), _index_pictures, "auto", ends_it=True),
    "rename": Operation(
        lambda images, lab, _: images.database.rename(NAME, "renamed"), _index_pictures, "HNSW", ends_it=True
    ),
}


def opened(operation: str, place: Path, name: str = NAME) -> ImageSearch:
    """The program as somebody uses it who has its database in a folder."""
    settings = {
        "milvus": {
            "uri": str(place / DATABASE),
            "collection_name": name,
            "index_type": OPERATIONS[operation].index_type,
        },
        "extraction": {"decode_threads": 2, "batch_size": 8},
    }
    return ImageSearch(settings, embedder=ToyEmbedder())


def spec_of(operation: str, name: str) -> CollectionSpec:
    """How the operation's collections are configured."""
    return CollectionSpec(name, index_type=OPERATIONS[operation].index_type)


# --- preparing ---


def draw(folder: Path, numbers: range, seed: int = 0) -> None:
    """Small pictures that all differ."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        colours = np.random.default_rng([seed, number]).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(colours).resize((16, 16), Image.Resampling.NEAREST)
        picture.save(folder / f"{number}.png")


def prepare_files(lab: Lab) -> None:
    """Pictures, and an export and features of them."""
    draw(lab.pictures, range(PICTURES))
    place = lab.root / "exported"
    place.mkdir()
    with opened("index", place) as images:
        images.index(lab.pictures)
        images.database.export(lab.export)
        images.extract(lab.pictures, lab.features)
    shutil.rmtree(place)


def prepare(lab: Lab, operation: str) -> None:
    """The databases that an operation begins with."""
    place = lab.prepared(operation)
    place.mkdir(parents=True)
    preparing = OPERATIONS[operation].prepare
    if preparing is None:
        return
    with opened(operation, place, KEPT) as images:
        images.index(lab.pictures / "1.png", lab.pictures / "2.png", lab.pictures / "3.png")
    with opened(operation, place) as images:
        preparing(images, lab)
