"""What a training found, as one self-contained HTML page and as PNG files beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from imagesearch.errors import UsageError
from imagesearch.frontends import pages
from imagesearch.frontends.evaluation_page import figure, small_picture
from imagesearch.frontends.pages import breaking, link, picture_box, text
from imagesearch.frontends.panels import Panel, as_png
from imagesearch.frontends.text import shortest_names
from imagesearch.frontends.training_figures import training_panels
from imagesearch.frontends.training_tables import remarks, report_tables, training_tables, verdict
from imagesearch.images.pipeline import decode_ahead
from imagesearch.learning.mistakes import Mistake, worst_mistakes
from imagesearch.records import Skipped

if TYPE_CHECKING:
    from imagesearch.frontends.pages import Thumbnail
    from imagesearch.training import Training

# In the folder of the model.
REPORT, FIGURES = "report.html", "figures"
# Pictures of the contact sheet.
_MISTAKES = 40
_STYLE = pages.STYLE + pages.REPORT_STYLE


def write_training(found: Training, max_megapixels: float) -> Path:
    """Write page and figures into the folder of the model.

    Returns:
        The page.

    Raises:
        UsageError: they cannot be written.
    """
    folder = Path(found.out)
    drawn = _drawn(found)
    try:
        (folder / FIGURES).mkdir(exist_ok=True)
        for panel, png in drawn:
            (folder / FIGURES / f"{panel.name}.png").write_bytes(png)
    except OSError as error:
        raise UsageError(f"cannot write {str(folder)!r}: {(error.strerror or str(error)).lower()}") from error
    return pages.write(_page(found, max_megapixels, drawn), folder / REPORT)


def write_training_page(found: Training, file: str | os.PathLike[str], max_megapixels: float) -> Path:
    """Write the page; it needs no other file and no network.

    Returns:
        The file, with ``.html`` added if the name had no ending.

    Raises:
        UsageError: it cannot be written.
    """
    return pages.write(_page(found, max_megapixels, _drawn(found)), file)


def _drawn(found: Training) -> list[tuple[Panel, bytes]]:
    """Panels, and their PNG files for light pages: to draw one takes longer than all the rest of the page."""
    return [(panel, as_png(panel)) for panel in training_panels(found)]


def _page(found: Training, max_megapixels: float, drawn: Sequence[tuple[Panel, bytes]]) -> Iterator[str]:
    """The page, part by part."""
    title = f"Training of {Path(found.out).name}"
    yield f"{pages.head(title, _STYLE)}<header>\n<h1>{text(title)}</h1>\n"
    yield f'<p class="about">{text(_summary(found))}</p>\n</header>\n<main>\n'
    said = verdict(found).replace(found.out, Path(found.out).name)
    yield f'<p class="note">{text(said[0].upper() + said[1:])}.</p>\n'
    yield pages.table(training_tables(found)[0])
    yield "<h2>Figures</h2>\n"
    yield from (figure(panel, png) for panel, png in drawn)
    yield from map(pages.table, report_tables(found))
    yield from _mistakes(found, max_megapixels)
    yield from _about_pictures(found)
    yield "</main>\n</body>\n</html>\n"


def _summary(found: Training) -> str:
    several = ", several labels each" if found.several else ""
    return (
        f"{found.model} for {found.classes:,} labels of {found.pictures:,} pictures{several}:"
        f" {found.split.training:,} learnt from, {found.split.held_out:,} set aside. All figures are of those set"
        " aside."
    )


def _mistakes(found: Training, max_megapixels: float) -> Iterator[str]:
    worst = worst_mistakes(found.examination, _MISTAKES)
    wrong = int((found.examination.truth != found.examination.predictions).any(axis=1).sum())
    yield "<h2>Worst mistakes</h2>\n"
    if not worst:
        yield '<p class="about">No picture that was set aside has a wrong label.</p>\n'
        return
    shown = f"the {len(worst):,} of {wrong:,}" if wrong > len(worst) else f"all {wrong:,}"
    yield (
        f'<p class="about">Of the pictures set aside, {shown} with wrong labels, those first where'
        f" {text(found.winner.name)} was surest. A label may be wrong in the folder, too.</p>\n"
    )
    paths = [mistake.path for mistake in worst]
    load = partial(small_picture, max_megapixels=max_megapixels)
    thumbnails = decode_ahead(iter(paths), load, max_workers=0)
    yield '<ul class="strip">\n'
    for mistake, name, shown_as in zip(worst, shortest_names(paths), thumbnails, strict=True):
        yield _mistake(mistake, name, shown_as)
    yield "</ul>\n"


def _mistake(mistake: Mistake, name: str, shown: Thumbnail | Skipped) -> str:
    true, said = (", ".join(labels) or "nothing more" for labels in (mistake.missed, mistake.added))
    box = picture_box(shown, f"{name}: {true}, taken for {said}")
    scores = f"{mistake.score:.0%} sure; the true one {mistake.true_score:.1%}"
    return (
        f'<li class="wrong"><figure>{box}<figcaption class="name">{breaking(true)}<br>taken for'
        f" <strong>{breaking(said)}</strong><br>{text(scores)}<br>{link(mistake.path, name)}</figcaption>"
        "</figure></li>\n"
    )


def _about_pictures(found: Training) -> Iterator[str]:
    said = list(remarks(found))
    if said:
        items = "\n".join(f"<li>{text(remark)}</li>" for remark in said)
        yield f"<h2>Remarks</h2>\n<ul>\n{items}\n</ul>\n"
