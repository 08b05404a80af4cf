"""What figures show, with texts that fit, whatever the names."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from imagesearch.errors import UsageError
from imagesearch.frontends import figures
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.records import Hit, ImageRecord, Metric, Prediction, Skipped

if TYPE_CHECKING:  # not while tests are collected, which every process does
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

RED, GREEN, BLUE = (220, 20, 30), (20, 180, 40), (30, 60, 220)


@pytest.fixture
def plain(tmp_path: Path) -> list[str]:
    """A red, a green and a blue picture: landscape, portrait, square."""
    paths = []
    for name, colour, size in (
        ("red", RED, (300, 200)),
        ("green", GREEN, (200, 300)),
        ("blue", BLUE, (3000, 3000)),
    ):
        Image.new("RGB", size, colour).save(tmp_path / f"{name}.png")
        paths.append(str(tmp_path / f"{name}.png"))
    return paths


def hits_of(paths: list[str]) -> list[Hit]:
    return [Hit(rank, 1 - rank / 10, ImageRecord(path)) for rank, path in enumerate(paths, start=1)]


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for text in figure.texts]
    return found + [text.get_text() for axes in figure.axes for text in axes.texts]


def agg(figure: Figure) -> FigureCanvasAgg:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    return FigureCanvasAgg(figure)


def pixels(figure: Figure) -> np.ndarray:
    canvas = agg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def share(image: np.ndarray, colour: tuple[int, ...]) -> float:
    return float((abs(image - np.array(colour)).max(axis=-1) < 8).mean())


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    renderer = agg(figure).get_renderer()
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts]
    page = figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 for _, box in boxes)
    return [(a, b) for i, (a, one) in enumerate(boxes) for b, other in boxes[:i] if one.overlaps(other)]


def test_results_show_query_and_ranked_hits(plain: list[str]) -> None:
    figure = figures.results_figure(plain[0], hits_of(plain[1:]), Metric.COSINE)
    shown = texts(figure)
    assert {"red.png", "green.png", "blue.png", "0.900", "0.800", "1", "2", "2 most similar pictures"} <= set(
        shown
    )
    assert any("cosine" in text for text in shown)
    image = pixels(figure)
    assert share(image, RED) > share(image, BLUE) > share(image, GREEN) > 0.02
    assert share(image, (228, 87, 46)) > 0.005  # the query's frame


def test_large_pictures_are_drawn_small(plain: list[str]) -> None:
    figure = figures.results_figure(plain[2], hits_of(plain[2:]), Metric.L2)
    drawn = [image.get_array().shape for axes in figure.axes for image in axes.images]
    assert drawn == [(figures.MAX_PIXELS, figures.MAX_PIXELS, 3)] * 2


def test_files_that_are_gone_are_grey_boxes_with_the_reason(plain: list[str]) -> None:
    figure = figures.results_figure(plain[0], hits_of(["/nowhere/gone.png"]), Metric.IP)
    assert "no such file or\ndirectory" in texts(figure)
    assert share(pixels(figure), (238, 240, 243)) > 0.05


def test_no_results_is_a_figure_too(plain: list[str]) -> None:
    assert "No similar pictures" in texts(figures.results_figure(plain[0], [], Metric.COSINE))


def test_odd_names_are_literal_quiet_and_fit(tmp_path: Path) -> None:
    names = [
        "$x^2_1$.png",
        "$broken{.png",
        "new\nline.png",
        "caf\udce9.png",
        "写真の長い長い長い長い長い名前です.png",
        "😀" * 40,
    ]
    names += ["W" * 200 + ".JPEG", "i" * 200 + ".jpeg", "n01629819_European_fire_salamander.JPEG"]
    hits = hits_of([f"/nowhere/{name}" for name in names])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.results_figure(f"/nowhere/{names[6]}", hits, Metric.COSINE)
        assert figures.save_figure(figure, tmp_path / "odd.png").stat().st_size > 10_000
    shown = texts(figure)
    assert {"$x^2_1$.png", "$broken{.png", "new\\nline.png", "caf\\udce9.png"} <= set(shown)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert overlapping(figure) == []


def test_extreme_shapes_can_be_drawn(tmp_path: Path) -> None:
    for name, size in (("wide", (5000, 1)), ("high", (1, 5000))):
        Image.new("RGB", size, RED).save(tmp_path / f"{name}.png")
    paths = [str(tmp_path / "wide.png"), str(tmp_path / "high.png")]
    assert share(pixels(figures.results_figure(paths[0], hits_of(paths), Metric.COSINE)), RED) > 0


def test_labels_are_bars_of_their_probability(plain: list[str]) -> None:
    predictions = [Prediction("goldfish, Carassius auratus", 0.75, 1), Prediction("a, " * 80 + "b", 0.25, 2)]
    figure = figures.labels_figure([(plain[0], predictions), ("/nowhere/x.png", Skipped("x", "is empty"))])
    shown = texts(figure)
    assert {"goldfish, Carassius auratus", "75.0%", "25.0%", "red.png", "is empty"} <= set(shown)
    assert overlapping(figure) == []
    bars = [patch.get_width() for axes in figure.axes for patch in axes.patches]
    assert bars == [1, 0.75, 1, 0.25]
    image = pixels(figure)
    assert share(image, (228, 87, 46)) == pytest.approx(3 * share(image, (42, 127, 158)), rel=0.1)


def test_saving(plain: list[str], tmp_path: Path) -> None:
    figure = figures.labels_figure([(plain[0], [Prediction("red", 1.0, 0)])])
    assert figures.save_figure(figure, tmp_path / "none") == tmp_path / "none.png"
    for ending, start in ((".jpg", b"\xff\xd8"), (".pdf", b"%PDF"), (".webp", b"RIFF"), (".svg", b"<?xml")):
        path = figures.save_figure(figure, tmp_path / "new" / f"figure{ending}")
        assert path.read_bytes().startswith(start)
    with pytest.raises(WrongUsageError, match=r"figure\.gif"):
        figures.save_figure(figure, "figure.gif")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"):
        figures.save_figure(figure, tmp_path / "file" / "figure.png")


def test_a_full_disk_leaves_the_earlier_figure(plain: list[str], tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    figure = figures.labels_figure([(plain[0], [Prediction("red", 1.0, 0)])])
    (tmp_path / "figure.png").write_bytes(b"earlier")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(UsageError, match="file too large"):
            figures.save_figure(figure, tmp_path / "figure.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.read_bytes() for file in tmp_path.glob("figure*")] == [b"earlier"]


def test_a_display_opens_a_window(plain: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    shown = []
    plt.switch_backend("agg")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(sys, "platform", "linux")
    # Stands for a toolkit's canvas; there is no display where tests run.
    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", "none", raising=False)
    monkeypatch.setattr(plt, "show", lambda block: shown.append(plt.get_fignums()))
    figure = figures.labels_figure([(plain[0], [Prediction("red", 1.0, 0)])])
    assert figures.show_or_save(figure, "unused.png") is None
    assert shown == [[1]]
    assert not Path("unused.png").exists()
    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", None, raising=False)
    assert figures.show_or_save(figure, "used.png") == Path("used.png")
    assert plt.get_fignums() == []


def test_default_names_of_long_names_can_be_written(tmp_path: Path) -> None:
    name = figures.default_name("classify", str(tmp_path / ("\u732b" * 83 + ".jpg")))
    assert name == "imagesearch-classify-" + "\u732b" * 60 + ".png"


def test_a_second_figure_of_the_same_name_does_not_replace_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "show", lambda figure: False)
    page = figures.labels_figure([])
    saved = [figures.show_or_save(page, "imagesearch-search-1.png") for _ in range(3)]
    assert [str(path) for path in saved] == [
        "imagesearch-search-1.png",
        "imagesearch-search-1-2.png",
        "imagesearch-search-1-3.png",
    ]
