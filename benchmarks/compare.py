"""Did it become slower? The command line of the working tree beside that of an earlier commit.

    python benchmarks/compare.py --base HEAD~1

Both run the same commands on the same drawn pictures, alternately, each as a process of its own with a database of
its own; the best turn of each counts. A ratio above 1 means that the working tree is slower. Exit code 1 if one is
slower by more than --tolerance.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from chaos import draw
from measuring import environment

ROOT = Path(__file__).resolve().parents[1]


def seconds(tree: Path, arguments: list[str]) -> float:
    """How long ``imagesearch`` of a source tree takes."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "imagesearch", *arguments],
        env=environment(tree),
        check=True,
        capture_output=True,
        cwd=tree,
    )
    return time.perf_counter() - started


def commands(folder: Path, query: str, uri: str) -> dict[str, list[str]]:
    """What is measured, in this order: the later ones need what the first ones made."""
    return {
        "help": ["--help"],
        "index": ["index", str(folder), "--uri", uri],
        "index again": ["index", str(folder), "--uri", uri],
        "search": ["search", query, "--uri", uri],
        "classify": ["classify", str(folder / "000"), "--json"],
    }


def measure(base: Path, pictures: int, turns: int) -> dict[str, dict[str, float]]:
    """Best seconds of both trees for every command."""
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(os.path.realpath(temporary))
        paths = draw(place / "pictures", pictures)
        for turn in range(turns):
            for side, tree in (("base", base), ("now", ROOT)):
                uri = str(place / f"{side}{turn}.db")
                for name, arguments in commands(place / "pictures", paths[0], uri).items():
                    taken = seconds(tree, arguments)
                    row = best.setdefault(name, {})
                    row[side] = min(row.get(side, taken), taken)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="HEAD~1", help="the earlier commit")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=1.25)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "base")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(base), options.base], check=True)
        try:
            best = measure(base, options.pictures, options.turns)
        finally:
            subprocess.run([*git, "remove", "--force", str(base)], check=True)
    print(f"{'command':<12} {options.base:>10} {'now':>8} {'ratio':>6}")
    slower = False
    for name, row in best.items():
        ratio = row["now"] / row["base"]
        slower |= ratio > options.tolerance
        print(f"{name:<12} {row['base']:8.2f} s {row['now']:6.2f} s {ratio:6.2f}")
    if options.json:
        options.json.write_text(json.dumps(best, indent=2) + "\n")
    sys.exit(slower)


if __name__ == "__main__":
    main()
