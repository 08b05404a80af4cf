"""Measure every ranking method on folders of class folders, and write the tables of ``docs/ranking.md``.

    python docs/make_ranking.py --folder "Tiny ImageNet=DIR" --folder "photographs=DIR" --model starter --model DIR

The same figures, for one folder and one model: ``imagesearch evaluate DIR --rerank all --model MODEL``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from imagesearch.config import config_of
from imagesearch.evaluating import Evaluation, Request, evaluate
from imagesearch.frontends.evaluation_tables import tables
from imagesearch.search.ranking import METHODS, RECIPES

PAGE = Path(__file__).with_name("ranking.md")
BEGIN, END = "<!-- made by make_ranking.py -->\n", "<!-- end of what make_ranking.py made -->\n"


def measured(folder: str, model: str, queries: int) -> Evaluation:
    """Every ranking method on one folder, with one model."""
    settings = config_of({"model": {"name": model}})
    return evaluate(settings, Request(folders=(folder,), methods=METHODS, queries=queries))


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
    for method in METHODS[1:]:
        cells = []
        for _, one in found:
            report = one.models[0].labels
            assert report is not None
            gains = {result.method: result.gains for result in report.methods}
            cells.append(f"{gains[method]['mAP'].relative:+.1%}")
        lines.append([f"`{method}`", RECIPES[method].summary, *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main() -> None:
    """Measure, and replace what stands between the marks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", action="append", required=True, metavar="NAME=DIR", help="of class folders")
    parser.add_argument("--model", action="append", required=True, help="name or folder of a checkpoint")
    parser.add_argument("--queries", type=int, default=1000, help="at most so many per folder and model")
    given = parser.parse_args()
    found: list[tuple[str, Evaluation]] = []
    for model in given.model:
        for named in given.folder:
            name, _, folder = named.partition("=")
            found.append((name, measured(folder, model, given.queries)))
            write(found)  # all of them take a while: what is measured is kept


def write(found: Sequence[tuple[str, Evaluation]]) -> None:
    """Replace what stands between the marks of the page."""
    parts = ["Gains of mAP over `none`:\n", summary(found), *(section(name, one) for name, one in found)]
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(parts) + "\n" + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
