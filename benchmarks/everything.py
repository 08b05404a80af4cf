"""All benchmarks, one after the other, and the tables in ``benchmarks/README.md`` made of their figures.

    python benchmarks/everything.py --pictures PHOTOS --labels CHECKPOINT
    python benchmarks/everything.py --pictures PHOTOS --only search startup

The second runs some of them again; of the others, the last figures stay (``benchmarks/results/*.json``). All
of them take about an hour on two cores; use a machine that is otherwise idle.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from measuring import machine

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
README = HERE / "README.md"
BEGIN, END = "<!-- made by everything.py -->", "<!-- end of what everything.py made -->"

# --- from figures to Markdown ---


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [header, ["---"] + ["--:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rivals(figures: dict[str, Any]) -> str:
    header = [f"{figures['pictures']} pictures", "pictures/s", "ratio", "of its bound", "same labels"]
    rates = {side["side"]: side["pictures_per_second"] for side in figures["sides"]}
    rows = []
    for side in figures["sides"]:
        name = side["side"]
        bound = rates.get(f"{name.removeprefix('ours, ')} alone") if name.startswith("ours") else None
        share = f"{side['pictures_per_second'] / bound:.2f}" if bound else ""
        agree = f"{side['agree']:.1%}" if "agree" in side else ""
        rows.append([name, f"{side['pictures_per_second']:,.1f}", f"{side['ratio']:.2f}", share, agree])
    return table(header, rows)


def indexing(figures: dict[str, Any]) -> str:
    rates = figures["pictures_per_second"] | {"one after the other": figures["one_after_the_other"]}
    rows = [[name, f"{rate:,.0f}", f"{rates['indexing'] / rate:.2f}"] for name, rate in rates.items()]
    return table([f"{figures['pictures']} pictures", "pictures/s", "indexing / this"], rows)


def startup(figures: dict[str, Any]) -> str:
    rows = [[name, f"{value:.2f}"] for name, value in figures["seconds"].items()]
    rows.append(["search / bare", f"{figures['ratio']:.2f}"])
    return table([f"{figures['rows']:,} pictures in the library", "seconds"], rows) + f"\n\n`{figures['stages']}`"


def search(figures: list[dict[str, Any]]) -> str:
    header = ["rows x dimension", "", "p50 ms", "p95 ms", "batch ms", "recall", "ratio", "inserts/s", "build s"]
    return table(
        header,
        [
            [
                f"{row['rows']:,} x {row['dim']}",
                f"{row['name']}, {row['index']}",
                *(f"{row[name]:.2f}" for name in ("p50", "p95", "batch")),
                f"{row['recall']:.3f}",
                f"{row['ratio']:.1f}",
                f"{row['inserts_per_second']:,.0f}",
                f"{row['build_seconds']:.1f}",
            ]
            for row in figures
        ],
    )


def refresh(figures: dict[str, Any]) -> str:
    row = [f"{figures[name]:.1f}" for name in ("seconds", "start_seconds")]
    header = ["unchanged pictures", "seconds", "of which starting", "peak MB"]
    return table(header, [[f"{figures['rows']:,}", *row, f"{figures['peak_mb']:.0f}"]])


def memory(figures: list[dict[str, Any]]) -> str:
    rows = [
        [row["command"]]
        + [f"{peak:.0f} MB ({size:,})" for size, peak in zip(row["sizes"], row["peak_mb"], strict=True)]
        + [f"{row['ratio']:.2f}"]
        for row in figures
    ]
    return table(["peak of", "few", "many", "ratio"], rows)


def damaged(figures: dict[str, Any]) -> str:
    names = ["good_decoded", "bad_decoded", "bad_refused", "slowest_seconds"]
    names += ["peak_megabytes", "conversion_megabytes", "tracebacks"]
    header = [*(name.replace("_", " ") for name in names), "targets missed"]
    return table(header, [[*(f"{figures[name]:,}" for name in names), "; ".join(figures["missed"]) or "none"]])


def chaos(figures: dict[str, Any]) -> str:
    names = ["pictures", "kills", "encoded", "allowed", "missing", "double", "wrong_vectors"]
    moments = ", ".join(f"{count} {moment}" for moment, count in figures["killed_while"].items())
    header = [*(name.replace("_", " ") for name in names), "killed while"]
    return table(header, [[*(f"{figures[name]:,}" for name in names), moments]])


GPU_SIDES = ("decoding alone", "network alone", "files")


def gpu(figures: list[dict[str, Any]]) -> str:
    header = ["device", "batch", "threads", *(f"{name}, pictures/s" for name in GPU_SIDES), "limit"]
    return table(
        header,
        [
            [
                row["device"],
                str(row["batch"]),
                str(row["threads"]),
                *(f"{row[name]:,.0f}" for name in GPU_SIDES),
                row["limit"],
            ]
            for row in figures
        ],
    )


# Name of the results -> title, and what makes a table of the figures.
SECTIONS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "vit": ("Files to vectors: ViT-B/16 with random weights", rivals),
    "starter": ("Files to vectors and labels: the bundled model", rivals),
    "labels": ("Files to vectors and labels: MobileNetV2", rivals),
    "indexing": ("Files to rows in Milvus Lite: the bundled model", indexing),
    "enlarged": ("Files to rows in Milvus Lite: pictures of 12 megapixels", indexing),
    "startup": ("A search from a cold shell", startup),
    "search": ("Search among synthetic vectors, ten results", search),
    "million": ("Search among a million", search),
    "refresh": ("A second `imagesearch index`", refresh),
    "memory": ("Memory", memory),
    "damaged": ("300 damaged files among 300 good ones", damaged),
    "chaos": ("`kill -9` while indexing", chaos),
    "gpu": ("On a GPU: ViT-B/16 with random weights", gpu),
}
# Run only where it is named: an hour, and 16 GB of memory.
LONG = ("million",)
NEEDS = {"labels": "--pictures and --labels", "gpu": "--pictures and a GPU"}


def commands(pictures: str, labels: str | None) -> dict[str, list[str]]:
    """Name of the results -> script and flags, for what can be run here."""
    found = ["--pictures", pictures]
    steps = {
        "vit": ["rivals.py", "--checkpoint", "vit-random", *found, "--limit", "300", "--turns", "2"],
        "starter": ["rivals.py", "--checkpoint", "starter", *found, "--limit", "500"],
        "indexing": ["indexing.py", *found],
        "enlarged": ["indexing.py", *found, "--enlarged", "300", "--turns", "3"],
        "startup": ["startup.py"],
        "search": ["search.py", "--rows", "10000", "100000", "--dim", "320", "768", "--server", "start"],
        "million": ["search.py", "--rows", "1000000", "--dim", "320", "--server", "start"],
        "refresh": ["refresh.py"],
        "memory": ["memory.py"],
        "damaged": ["damaged.py", *found],
        "chaos": ["chaos.py"],
    }
    if labels:
        steps["labels"] = ["rivals.py", "--checkpoint", labels, *found, "--limit", "1000", "--turns", "1"]
    if has_gpu():
        steps["gpu"] = ["gpu.py", *found]
    return steps


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def run(name: str, command: Sequence[str]) -> bool:
    """Run one script and keep its figures, if there are any; False if there is none, or it missed a target."""
    print(f"\n== {name}: {' '.join(command)}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "figures.json")
        program = [sys.executable, str(HERE / command[0]), *command[1:], "--json", str(file)]
        code = subprocess.run(program, check=False).returncode
        if code:
            print(f"{name}: exit code {code}", flush=True)
        if file.exists():
            kept = {
                "date": time.strftime("%Y-%m-%d"),
                "machine": machine(),
                "figures": json.loads(file.read_text()),
            }
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
        return not code


def render() -> str:
    """The tables of all results that there are."""
    parts: list[str] = []
    where = ""
    for name, (title, make) in SECTIONS.items():
        file = RESULTS / f"{name}.json"
        if not file.exists():
            continue
        kept = json.loads(file.read_text())
        parts += [f"### {title}", ""]
        if where != (where := f"{kept['machine']}; {kept['date']}."):
            parts += [where, ""]
        parts += [make(kept["figures"]), ""]
    return "\n".join(parts)


def main() -> None:
    """Run what is asked for, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", help="a folder of at least 300 photographs; default: only write the tables")
    parser.add_argument("--labels", help="a checkpoint that labels pictures, such as MobileNetV2")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="run these")
    options = parser.parse_args()
    steps = commands(options.pictures, options.labels) if options.pictures else {}
    for name in set(options.only or ()) - set(steps):
        parser.error(f"{name} needs {NEEDS.get(name, '--pictures')}")
    wanted = options.only or [name for name in steps if name not in LONG]
    failed = [name for name in wanted if not run(name, steps[name])]
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n\n{render()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    if failed:
        sys.exit(f"failed, or missed a target: {', '.join(failed)}")


if __name__ == "__main__":
    main()
