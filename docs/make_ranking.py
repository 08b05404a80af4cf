"""Measure every ranking method on folders of class folders, and write the tables of ``docs/ranking.md``.

    python docs/make_ranking.py --folder "Tiny ImageNet=DIR" --folder "photographs=DIR" --model starter --model DIR
    python docs/make_ranking.py --seen "photographs=DIR" --model starter --model DIR
    python docs/make_ranking.py --copies "photographs=DIR" --model starter --model DIR

``--seen`` asks in several views, and by patches; ``--copies`` looks for pictures from distorted copies of them.
Tables that are not asked for stay as they are. The same figures, for one folder and one model: ``imagesearch
evaluate DIR --rerank all --model MODEL``, and ``imagesearch evaluate DIR --copies --originals 200 --model MODEL``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from imagesearch.config import config_of
from imagesearch.evaluating import Evaluation, Request, evaluate
from imagesearch.frontends.evaluation_tables import tables
from imagesearch.search.image_encoding import VIEWS
from imagesearch.search.ranking import QUICK_METHODS, RECIPES

PAGE = Path(__file__).with_name("ranking.md")
# What stands between two such marks of the page is replaced.
METHODS_MARK, SEEN_MARK = "made by make_ranking.py --folder", "made by make_ranking.py --seen"
COPIES_MARK = "made by make_ranking.py --copies"


def measured(folder: str, model: str, queries: int) -> Evaluation:
    """Every ranking method on one folder, with one model."""
    settings = config_of({"model": {"name": model}})
    return evaluate(settings, Request(folders=(folder,), methods=QUICK_METHODS, queries=queries))


def seen_measured(folder: str, model: str, queries: int) -> Evaluation:
    """Queries in several views, by distance and with the default ranking, and patches, on one folder."""
    settings = config_of({"model": {"name": model}})
    methods = ("none", settings.search.rerank, "patches")
    return evaluate(settings, Request(folders=(folder,), methods=methods, views=VIEWS, queries=queries))


def section(name: str, found: Evaluation) -> str:
    """The table of methods, under a heading that says what they were measured on."""
    (model,) = found.models
    assert model.labels is not None, f"{name} has no class folders"
    report = model.labels
    (table,) = (table for table in tables(found) if table.title.endswith("ranking methods"))
    about = f"{report.rows:,} pictures of {report.classes:,} classes, {report.queries:,} of them asked for."
    return f"### {name}, {Path(model.model).name}\n\n{about}\n\n{table.markdown()}"


def summary(found: Sequence[tuple[str, Evaluation]]) -> str:
    """The gain of mAP of each method on everything, with what it does."""
    columns = [f"{name}, {Path(one.models[0].model).name}" for name, one in found]
    lines = [["method", "order", *columns], ["---", "---", *["---:"] * len(columns)]]
    for method in QUICK_METHODS[1:]:
        cells = []
        for _, one in found:
            report = one.models[0].labels
            assert report is not None
            gains = {result.method: result.gains for result in report.methods}
            cells.append(f"{gains[method]['mAP'].relative:+.1%}")
        lines.append([f"`{method}`", RECIPES[method].summary, *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def copies_measured(folder: str, model: str, originals: int) -> Evaluation:
    """Distorted copies of pictures of one folder, by distance, with the default ranking and by patches."""
    settings = config_of({"model": {"name": model}})
    methods = ("none", settings.search.rerank, "patches")
    request = Request(folders=(folder,), methods=methods, views=VIEWS, copies=True, originals=originals)
    return evaluate(settings, request)


def copies_section(name: str, found: Evaluation) -> str:
    """The tables of distortions and of rankings, under a heading that says what they were measured on."""
    (model,) = found.models
    report = model.copies
    assert report is not None
    *_, levels, rankings, distortions = tables(found)
    each = f"Copies of {report.originals:,} of {report.rows:,} pictures, {len(report.levels)} of each."
    parts = [f"### Copies of {name}, {Path(model.model).name}\n", f"{each}\n", levels.markdown()]
    parts += ["All copies together:\n", rankings.markdown()]
    return "\n".join([*parts, "recall@1 by distortion, all its levels together:\n", distortions.markdown()])


def main() -> None:
    """Measure, and replace what stands between the marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", action="append", default=[], metavar="NAME=DIR", help="of class folders")
    parser.add_argument("--seen", action="append", default=[], metavar="NAME=DIR", help="of class folders")
    parser.add_argument("--copies", action="append", default=[], metavar="NAME=DIR", help="of any pictures")
    parser.add_argument("--model", action="append", required=True, help="name or folder of a checkpoint")
    parser.add_argument("--queries", type=int, default=1000, help="at most so many per folder and model")
    parser.add_argument("--originals", type=int, default=200, help="at most so many pictures are distorted")
    given = parser.parse_args()
    if not given.folder and not given.seen and not given.copies:
        parser.error("nothing to measure: give --folder, --seen or --copies")
    # All of them take a while: what is measured is kept.
    found: list[tuple[str, Evaluation]] = []
    for model, (name, _, folder) in product(given.model, (named.partition("=") for named in given.folder)):
        found.append((name, measured(folder, model, given.queries)))
        sections = [section(name, one) for name, one in found]
        write(METHODS_MARK, ["Gains of mAP over `none`:\n", summary(found), *sections])
    sections = []
    for model, (name, _, folder) in product(given.model, (named.partition("=") for named in given.seen)):
        sections.append(section(name, seen_measured(folder, model, given.queries)))
        write(SEEN_MARK, sections)
    sections = []
    for model, (name, _, folder) in product(given.model, (named.partition("=") for named in given.copies)):
        sections.append(copies_section(name, copies_measured(folder, model, given.originals)))
        write(COPIES_MARK, sections)


def write(mark: str, parts: Sequence[str]) -> None:
    """Replace what stands between two marks of the page."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of what is {mark} -->\n"
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    after = rest.split(end)[1]
    PAGE.write_text(before + begin + "\n" + "\n".join(parts) + "\n" + end + after, encoding="utf-8")


if __name__ == "__main__":
    main()
