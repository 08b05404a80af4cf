"""Let file calls fail while a Milvus Lite database is written, and kill the process, and see what that does to it.

    python benchmarks/faults.py [--first 500] [--kills 100] [--operations index drop] [--json FILE]

Each of the first calls that write, synchronise, rename, delete or open a file fails once with EIO, and the disk is
full from then on; or it fails and all is well again, and the operation is tried again in the same process; or the
disk takes half of a write before it is full. And ``kill -9`` before, within and after calls that are spread over
the operation. Then a fresh process looks at what is left, the operation is done once more, undisturbed, and
another process looks again. The faults come from tests/faults/. Exit code 1 if a case is bad:

lost         a row was acknowledged and is not there
doubled      a row is there twice
wrong        a row has another content, or is not found by its own vector
wedged       the ordinary run fails, or what follows
tracebacks   an error of another kind than this package's
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.faults.harness import BAD, KILLS, Case, Harness, Result, spread, started, table
from tests.faults.scenarios import OPERATIONS
from tests.faults.shim import Mode, why_not

FAULTS = (Mode.FULL, Mode.ONCE, Mode.SHORT)

# Results between two lines of progress.
_TOLD_EVERY = 500


def cases(calls: dict[str, int], first: int, kills: int, modes: Sequence[Mode] = FAULTS) -> Iterator[Case]:
    """Every fault at each of the first calls, and kills at calls that are spread over all of them."""
    for operation, count in calls.items():
        for mode in modes:
            yield from (Case(operation, number, mode) for number in range(1, min(first, count) + 1))
        yield from killed(operation, count, kills)


def killed(operation: str, count: int, kills: int) -> Iterator[Case]:
    """Kills before, within and after calls, in turn, spread over an operation that makes ``count`` of them."""
    for place, first in enumerate(spread(count, kills)):
        yield Case(operation, first, KILLS[place % len(KILLS)])


def run(harness: Harness, options: argparse.Namespace) -> tuple[list[Result], dict[str, int]]:
    """All cases; the bad ones are printed as they come."""
    # The update's pictures are drawn again, unchanged, with whatever is prepared after it; so it comes last.
    harness.prepare(sorted(options.operations, key=lambda name: name == "update"))
    calls = {name: len(harness.calls[name]) for name in options.operations}
    chosen = list(cases(calls, options.first, options.kills, [Mode[name] for name in options.modes]))
    results: list[Result] = []
    began = time.monotonic()
    for result in harness.run(chosen):
        results.append(result)
        if result.problems:
            print(result, flush=True)
        if not len(results) % _TOLD_EVERY:
            spent = time.monotonic() - began
            print(f"{len(results):,} of {len(chosen):,} cases in {spent:.0f} s", file=sys.stderr, flush=True)
    return results, calls


def show(rows: Sequence[Mapping[str, object]]) -> None:
    """The table as text."""
    widths = {name: max(len(name), *(len(f"{row[name]}") for row in rows)) for name in rows[0]}
    titles: Mapping[str, object] = {name: name for name in widths}
    for row in [titles, *rows]:
        print("  ".join(f"{row[name]:>{width}}" for name, width in widths.items()))


def main() -> None:
    """Parse the flags, run, print, and fail if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=500, help="calls of each operation that fail in turn")
    parser.add_argument("--kills", type=int, default=100, help="kills of each operation")
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=list(OPERATIONS))
    parser.add_argument(
        "--modes", nargs="+", choices=[mode.name for mode in FAULTS], default=[m.name for m in FAULTS]
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="cases at the same time")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    if (reason := why_not()) is not None:
        parser.exit(1, f"faults cannot be injected here: {reason}\n")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, started(Path(folder), options.workers) as harness:
        results, calls = run(harness, options)
    rows = table(results, calls)
    bad = [result for result in results if result.problems]
    show(rows)
    print(f"{len(results):,} cases, {len(bad):,} of them bad, in {time.monotonic() - began:.0f} s")
    if options.json:
        figures = {"cases": len(results), "rows": rows, "bad": [str(result) for result in bad]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(row[kind] for row in rows for kind in BAD))


if __name__ == "__main__":
    main()
