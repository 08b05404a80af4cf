"""What all tests share: a world of their own, pictures, and the bundled model loaded once."""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image, ImageDraw

from .stores.milvus_server import milvus_server, milvus_servers, needs_milvus_server, needs_server

if TYPE_CHECKING:
    from imagesearch.models.embedder import Embedder
    from imagesearch.models.runtimes.conversion import Source

__all__ = ["milvus_server", "needs_milvus_server"]

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"

# Read when huggingface_hub is first imported, so it has to be set before any test runs.
_CACHES = tempfile.TemporaryDirectory(prefix="imagesearch-tests-")
os.environ["HF_HOME"] = str(Path(_CACHES.name, "huggingface"))
# Fixtures of a module or a session run outside the worlds of single tests: not in the user's own, either.
for _kind in ("CONFIG", "CACHE", "DATA", "STATE"):
    os.environ[f"XDG_{_kind}_HOME"] = str(Path(_CACHES.name, _kind.lower()))
# matplotlib builds its list of fonts once a session, not once a test.
os.environ["MPLCONFIGDIR"] = str(Path(_CACHES.name, "matplotlib"))
# The networks of most tests are so small that a second thread only waits; and other tests may run beside.
os.environ.setdefault("OMP_NUM_THREADS", "1")
for _name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN", "HF_ENDPOINT"):
    os.environ.pop(_name, None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: those with a browser or a database server often wait for it."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Which process runs which tests."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from .distribution import ByFile

    return ByFile(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tell the scheduler of groups."""
    if getattr(config.option, "loadgroup", False):
        from .distribution import name_groups

        name_groups(items)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Where its tests follow each other, the Milvus server ends with the last of them: waiting keeps it busy."""
    if getattr(item.config.option, "loadgroup", False) and not needs_server(nextitem):
        milvus_servers.stop()


def pytest_sessionfinish() -> None:
    milvus_servers.stop()


def skip_without(*packages: str) -> None:
    """Skip a module where packages are not installed. They are not imported: every process collects all tests."""
    for name in packages:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed", allow_module_level=True)


_frozen_modules = 0


def pytest_runtest_setup() -> None:
    """What was imported stays: to search it for garbage, as PyTorch's helpers do, takes a third of a second."""
    global _frozen_modules  # noqa: PLW0603
    if len(sys.modules) > _frozen_modules + 300:
        gc.collect()
        gc.freeze()
        _frozen_modules = len(sys.modules)


@pytest.fixture(autouse=True)
def private_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts in an empty folder of its own, with an empty home and no settings in the environment."""
    home = tmp_path / "home"
    work = tmp_path / "work"
    for folder in (home, work):
        folder.mkdir()
    for variable in [name for name in os.environ if name.startswith("IMAGESEARCH_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    for kind in ("CONFIG", "CACHE", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
    monkeypatch.chdir(work)


_precisions: dict[tuple[str, ...], str] = {}


@pytest.fixture(autouse=True)
def known_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """In which precision this machine runs the bundled model is found out once, not in every test's empty cache.

    Everything else is as with an empty cache. ``test_bundled.py`` does without.
    """
    from imagesearch.models.runtimes import bundled

    find_out = bundled._choose_precision

    def choose(source: Source, precision: str, folder: Path) -> str:
        key = (source.checkpoint.revision, source.task, source.pooling, precision)
        if key not in _precisions:
            _precisions[key] = find_out(source, precision, folder)
        return _precisions[key]

    monkeypatch.setattr(bundled, "_choose_precision", choose)


@pytest.fixture(scope="session")
def photos() -> Path:
    """A thousand real photographs, one of each ImageNet class, where they are at hand."""
    folder = SHARED / "data" / "photos"
    if not folder.is_dir():
        pytest.skip("the folder of real photographs is not here")
    return folder


@pytest.fixture(scope="session")
def mobilenet() -> Path:
    """A real ImageNet classifier as a local folder, where it is at hand."""
    folder = SHARED / "models" / "mobilenet_v2_imagenet"
    if not folder.is_dir():
        pytest.skip("the MobileNetV2 checkpoint is not here")
    return folder


def draw_picture(number: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """A picture unlike those of other numbers: two shapes over a gradient."""
    width, height = size
    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    draw = ImageDraw.Draw(picture)
    colour = tuple((number * step + 40) % 256 for step in (67, 151, 211))
    left, top = (number * 13) % (width // 2), (number * 29) % (height // 2)
    draw.ellipse((left, top, left + width // 2, top + height // 2), fill=colour)
    draw.rectangle((width - left - 20, height // 3, width - left - 4, height - 4), fill=colour[::-1])
    return picture


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """Six drawn pictures, one of them in a subfolder."""
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for number in range(5):
        draw_picture(number).save(folder / f"{number}.png")
    draw_picture(5).save(folder / "sub" / "5.jpg", quality=95)
    return folder


@pytest.fixture(scope="session")
def starter() -> Embedder:
    """The bundled model, in float32."""
    from imagesearch.models import catalogue
    from imagesearch.models.embedder import Embedder
    from imagesearch.models.hub import find_checkpoint
    from imagesearch.models.network import Network

    checkpoint = find_checkpoint(catalogue.features_checkpoint("starter"))
    return Embedder.of_network(Network.load(checkpoint, "features", device="cpu", precision="float32"))


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Takes away the permission to read a file or folder; for the administrator too, who may read everything."""
    shut: set[str] = set()

    def refusing(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: str | os.PathLike[str] = ".", *options: Any, **more: Any) -> Any:
            if os.fspath(path) in shut:
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return original(path, *options, **more)

        return call

    def close(path: Path) -> None:
        path.chmod(0)
        if os.access(path, os.R_OK):
            shut.add(str(path))
            for name in ("scandir", "open"):
                monkeypatch.setattr(os, name, refusing(getattr(os, name)))

    return close
