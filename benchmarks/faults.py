"""Let file calls fail while a Milvus Lite database is written, and kill the process, and see what that does to it.

    python benchmarks/faults.py [--first 500] [--kills 100] [--operations index drop] [--json FILE]

Each of the first calls that write, synchronise, rename, delete or open a file fails once with EIO, and the disk is
full from then on; or it fails and all is well again, and the operation is tried again in the same process; or the
disk takes half of a write before it is full. And ``kill -9`` before, within and after calls that are spread over
the operation. Then a fresh process looks at what is left, the operation is done once more, undisturbed, and another
process looks again. Lost is a row that was acknowledged and is not there; doubled, one that is there twice; wrong,
one with another content, or one that is not found by its own vector; wedged, a database with which the ordinary run
or what follows fails. Exit code 1 if there is any of these, or a traceback. The faults come from tests/faults/.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.faults.harness import Case
from tests.faults.shim import Mode

FAULTS = (Mode.FULL, Mode.ONCE, Mode.SHORT)


def cases(calls: dict[str, int], first: int, kills: int) -> Iterator[Case]:
    """Every fault at each of the first calls, and kills at calls that are spread over all of them."""
    for operation, count in calls.items():
        for mode in FAULTS:
            yield from (Case(operation, number, mode) for number in range(1, min(first, count) + 1))
        yield from killed(operation, count, kills)


def show(rows: list[dict[str, object]]) -> None:
    """The table as text."""
    widths = {name: max(len(name), *(len(f"{row[name]}") for row in rows)) for name in rows[0]}
    for row in [dict(zip(widths, widths, strict=True)), *rows]:
        print("  ".join(f"{row[name]:>{width}}" for name, width in widths.items()))


def main() -> None:
    """Parse the flags, run, print, and fail if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--first", type=int, default=500, help="calls of each operation that fail in turn")
    parser.add_argument("--kills", type=int, default=100, help="kills of each operation")
