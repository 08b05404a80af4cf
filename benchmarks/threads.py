"""Eight threads that do everything at once with one database in Milvus Lite, until it is closed beneath them.

    python benchmarks/threads.py [--seconds 60] [--threads 8] [--sides program database] [--json FILE]

program    one ``ImageSearch`` with the bundled model: search, index, classify, embed, read, release
database   one database without a network: search, insert, delete, read, build, create, rename, drop

Each answer is compared with that of a single thread. The mix comes from tests/stores/. "Refused" are calls that
were told that the database is closed: all are once it is being closed. "Early" are those before that, which a
release may cut short in the program, and nothing in the database. Exit code 1 if an answer or an error is another
one, or if threads are stuck.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.stores.thread_mix import Action, Outcome, database_actions, fill, run_mix, service_actions

from imagesearch import ImageSearch
from imagesearch.errors import ImageSearchError
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec

SEED = 0


def program(place: Path) -> tuple[Mapping[str, Action], Callable[[], None]]:
    """What is done with the whole program, and how it is closed."""
    images = ImageSearch({"model": {"name": "starter"}, "milvus": {"uri": str(place / "library.db")}})
    return service_actions(images, place), images.close


def database(place: Path) -> tuple[Mapping[str, Action], Callable[[], None]]:
    """What is done with a bare database, and how it is closed."""
    opened, spec = DatabaseAddress.parse(str(place / "library.db")).open(), CollectionSpec("mixed")
    fill(opened, spec)
    return database_actions(opened, spec), opened.close


SIDES = {"program": program, "database": database}


class _Closing:
    """Knows which errors came before the database began to be closed."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self._begun = False
        self.early: list[str] = []

    def close(self) -> None:
        """Close it."""
        self._begun = True
        self._close()

    def watched(self, action: Action) -> Action:
        """The same action; an error that it raises is noted if it is early."""

        def run(chance: random.Random) -> None:
            try:
                action(chance)
            except ImageSearchError as error:
                if not self._begun:  # read after the call: one that close() overtakes is not early
                    self.early.append(str(error))
                raise

        return run


def measure(side: str, threads: int, seconds: float) -> tuple[dict[str, Any], Outcome]:
    """Let the threads run, and count."""
    with tempfile.TemporaryDirectory() as temporary:
        actions, close = SIDES[side](Path(temporary).resolve())
        closing = _Closing(close)
        watched = {name: closing.watched(action) for name, action in actions.items()}
        started = time.monotonic()
        outcome = run_mix(watched, closing.close, threads=threads, seconds=seconds, seed=SEED)
        spent = time.monotonic() - started
    if side == "database":
        outcome.problems += [f"before it was closed: {text}" for text in closing.early]
    return {
        "side": side,
        "threads": threads,
        "seconds": round(spent, 1),
        "calls": dict(sorted(outcome.calls.items())),
        "refused": outcome.refused.total(),
        "early": len(closing.early),
        "problems": len(outcome.problems),
        "stuck": bool(outcome.stuck),
    }, outcome


def show(figures: dict[str, Any], outcome: Outcome) -> None:
    """The figures as text, and what was wrong."""
    calls = ", ".join(f"{count:,} {name}" for name, count in figures["calls"].items())
    print(f"{figures['side']}: {figures['threads']} threads, {figures['seconds']:.0f} s: {calls}")
    print(f"  {figures['refused']:,} refused ({figures['early']:,} of them early),", end=" ")
    print(f"{figures['problems']:,} problems, stuck: {figures['stuck']}")
    for problem in outcome.problems:
        print(f"  {problem}")
    if outcome.stuck:
        print(outcome.stuck)
    sys.stdout.flush()


def main() -> None:
    """Parse the flags, run, print, and fail if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--seconds", type=float, default=60.0, help="of each side")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    every = []
    for side in options.sides:
        figures, outcome = measure(side, options.threads, options.seconds)
        every.append(figures)
        show(figures, outcome)
    if options.json:
        options.json.write_text(json.dumps(every, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(row["problems"] or row["stuck"] for row in every))


if __name__ == "__main__":
    main()
