"""One case, as forked children do it: let an operation meet a fault, look, do it again undisturbed, look again.

A case has a folder: ``databases``, in which faults happen, and beside it the history of its writes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from imagesearch.errors import CollectionNotFoundError, ImageSearchError

from . import checks, scenarios
from .history import Possible, note_everything, read_history
from .scenarios import OPERATIONS, Lab, ToyEmbedder, opened, spec_of
from .shim import ALL, Kind, Mode, Shim

pd.DataFrame()  # pyarrow imports all of pandas when it first needs to know what a DataFrame is
scenarios.scale_down()


class _Specs(dict[str, Any]):
    def __init__(self, operation: str) -> None:
        super().__init__()
        self._operation = operation

    def __missing__(self, name: str) -> Any:
        return spec_of(self._operation, name)


def prepare_files(root: str) -> None:
    """See :func:`scenarios.prepare_files`."""
    scenarios.prepare_files(Lab(Path(root)))


def prepare(root: str, operation: str) -> None:
    """See :func:`scenarios.prepare`."""
    scenarios.prepare(Lab(Path(root)), operation)


def run(root: str, operation: str, folder: str, first: int, mode: int, kinds: int = int(ALL)) -> dict[str, Any]:
    """The operation on a case's databases, with a fault.

    Returns:
        How it ended: ``"done"``, or an error that this package raised on purpose; and if the fault was passing and
        the operation failed: how it ended when it was tried again in the same process.
    """
    place, shim = Path(folder) / "databases", Shim()
    os.chdir(root)
    note_everything(Path(folder) / "history.jsonl")
    outcome: dict[str, Any] = {"ended": "done", "again": None}
    shim.arm(place, first, Mode(mode), Kind(kinds))
    try:
        with opened(operation, place) as images:
            try:
                OPERATIONS[operation].run(images, Lab(Path(root)), place)
            except ImageSearchError as error:
                outcome["ended"] = _said(error, root)
                if mode == Mode.ONCE:
                    outcome["again"] = _once_more(operation, images, root, place)
    except ImageSearchError as error:  # raised by closing
        outcome["ended"] = _said(error, root)
    finally:
        shim.disarm()
    return outcome


def _once_more(operation: str, images: Any, root: str, place: Path) -> str:
    try:
        OPERATIONS[operation].run(images, Lab(Path(root)), place)
    except ImageSearchError as error:
        return _said(error, root)
    return "done"


def _said(error: ImageSearchError, root: str) -> str:
    """The error without what differs from case to case."""
    text = re.sub(re.escape(root) + r"[\w./-]*/databases/", "", str(error))
    return f"{type(error).__name__}: {re.sub(r'[0-9a-f]{32}', '...', text)}"


def state(operation: str, folder: str) -> dict[str, Any]:
    """What a case's databases hold, in full, and what is wrong with that by itself."""
    place, specs = Path(folder) / "databases", _Specs(operation)
    rows, problems = checks.read_all(place, specs)
    return {"rows": rows, "problems": problems, "covered": checks.covered(place, specs)}


def look(operation: str, folder: str, before: str, wanted: str | None) -> list[checks.Problem]:
    """What is wrong after a fault; looks at a copy, because looking may mend things.

    Args:
        before: the file with the state before the case.
        wanted: the file with the state that the operation leaves, if it said that it had succeeded.
    """
    case = Path(folder)
    shutil.copytree(case / "databases", case / "copy")
    found, problems = checks.read_all(case / "copy", _Specs(operation))
    shutil.rmtree(case / "copy")
    possible = Possible.exactly(json.loads(Path(before).read_text())["rows"])
    problems += checks.compare(found, possible.after(read_history(case / "history.jsonl")))
    if wanted is not None:
        possible = Possible.exactly(json.loads(Path(wanted).read_text())["rows"])
        problems += checks.compare(found, possible)
    return problems


def run_undisturbed(root: str, operation: str, folder: str) -> str:
    """The operation once more, without faults; what it said if it cannot be done twice and has been done."""
    place = Path(folder) / "databases"
    os.chdir(root)
    note_everything(Path(folder) / "history.jsonl")
    with opened(operation, place) as images:
        try:
            OPERATIONS[operation].run(images, Lab(Path(root)), place)
        except CollectionNotFoundError as error:
            if not OPERATIONS[operation].ends_it:
                raise
            return _said(error, root)
    return "done"


def look_again(operation: str, folder: str, wanted: str) -> list[checks.Problem]:
    """What is wrong after the ordinary run: everything must be as if there had never been a fault."""
    found, expected = state(operation, folder), json.loads(Path(wanted).read_text())
    problems: list[checks.Problem] = [tuple(problem) for problem in found["problems"]]
    problems += checks.compare(found["rows"], Possible.exactly(expected["rows"]))
    if found["covered"] != expected["covered"]:
        problems.append((checks.WRONG, f"indexes are current: {found['covered']}, not {expected['covered']}"))
    return problems


def work_with(folder: str) -> None:
    """See :func:`checks.work_with`."""
    checks.work_with(Path(folder) / "databases", ToyEmbedder.fingerprint)
