"""All benchmarks, one after the other, and the tables in ``benchmarks/README.md`` made of their figures.

    python benchmarks/everything.py --pictures PHOTOS --labels CHECKPOINT
    python benchmarks/everything.py --pictures PHOTOS --only search startup
    git worktree add FOLDER REV; python benchmarks/everything.py --pictures PHOTOS --before FOLDER

The second runs some of them again; of the others, the last figures stay (``benchmarks/results/*.json``). All
of them take about two hours on two cores; use a machine that is otherwise idle.
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
    made = table([f"{figures['pictures']} pictures", "pictures/s", "indexing / this"], rows)
    if "beside_before" in figures:
        beside = figures["beside_before"]
        now, before = (beside["pictures_per_second"][side] for side in ("now", "before"))
        made += f"\n\nIn a new process: {now:,.0f} pictures/s; before: {before:,.0f}; ratio {beside['ratio']:.2f}."
    return made


def plain(figures: dict[str, Any]) -> str:
    """A plain installation beside one with all extras."""
    return table(
        ["installation", "first search ever s", "next s", "`import torch` s", "indexed/s, start included"],
        [
            [
                {"plain": "`pip install .`", "extras": "with all extras"}[name],
                f"{figures['first_search'][name]:.2f}",
                f"{taken['search']:.2f}",
                f"{taken['torch']:.2f}",
                f"{figures['pictures'] / taken['index']:,.0f}",
            ]
            for name, taken in figures["seconds"].items()
        ],
    )


def each_size(figures: Any) -> list[dict[str, Any]]:
    """The figures of each size; results that were kept earlier have one, by itself."""
    return figures if isinstance(figures, list) else [figures]


def startup(figures: Any) -> str:
    figures = each_size(figures)
    sides = list(dict.fromkeys(name for row in figures for name in row["seconds"]))
    header = [
        "pictures in the library",
        *(f"{name} s" for name in sides),
        "search / bare",
        "search / before",
        "peak MB",
    ]
    rows = [
        [
            f"{row['rows']:,}",
            *(optional(row["seconds"], name, ".2f") for name in sides),
            f"{row['ratio']:.2f}",
            optional(row, "to_before", ".2f"),
            optional(row.get("peak_mb", {}), "search", ",.0f"),
        ]
        for row in figures
    ]
    return "\n".join([table(header, rows), "", *(f"`{row['rows']:,}: {row['stages']}`  " for row in figures)])


# Key of a figure -> title and format; one that was not measured is left out.
SEARCH = {
    "p50": ("p50 ms", ".2f"),
    "p95": ("p95 ms", ".2f"),
    "batch": ("batch ms", ".2f"),
    "recall": ("recall@10", ".3f"),
    "recall_100": ("recall@100", ".3f"),
    "ratio": ("ratio", ".1f"),
    "inserts_per_second": ("inserts/s", ",.0f"),
    "build_seconds": ("build s", ".1f"),
    "cold": ("cold s", ".2f"),
    "disk": ("disk MB", ",.0f"),
    "memory": ("memory MB", ",.0f"),
}


def search(figures: list[dict[str, Any]]) -> str:
    rows = [
        [
            f"{row['rows']:,} x {row['dim']}",
            f"{row['name']}, {row['index']}",
            *(optional(row, name, form) for name, (_, form) in SEARCH.items()),
        ]
        for row in figures
    ]
    return table(["rows x dimension", "", *(title for title, _ in SEARCH.values())], rows)


def optional(figures: dict[str, Any], name: str, form: str) -> str:
    """A figure, or nothing where it was not measured."""
    return format(figures[name], form) if name in figures else ""


def refresh(figures: Any) -> str:
    header = [
        "unchanged pictures",
        "seconds",
        "of which starting",
        "peak MB",
        "before: seconds",
        "peak MB",
        "ratio",
    ]
    rows = []
    for row in each_size(figures):
        before = row.get("before", {})
        texts = [
            f"{row['rows']:,}",
            f"{row['seconds']:.1f}",
            f"{row['start_seconds']:.1f}",
            f"{row['peak_mb']:,.0f}",
        ]
        texts += [optional(before, "seconds", ".1f"), optional(before, "peak_mb", ",.0f")]
        rows.append([*texts, optional(row, "ratio", ".2f")])
    return table(header, rows)


def faults(figures: dict[str, Any]) -> str:
    header = list(figures["rows"][0])
    return table(
        header,
        [[f"{row[name]:,}" if name != "operation" else row[name] for name in header] for row in figures["rows"]],
    )


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


def threads(figures: list[dict[str, Any]]) -> str:
    header = ["", "threads", "seconds", "right answers", "refused", "early", "problems", "stuck"]
    rows = []
    for row in figures:
        calls = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in row["calls"].items())
        counts = [f"{row[name]:,}" for name in ("refused", "early", "problems")]
        stuck = "yes" if row["stuck"] else "no"
        rows.append([row["side"], str(row["threads"]), f"{row['seconds']:.0f}", calls, *counts, stuck])
    return table(header, rows)


def mcp(figures: dict[str, Any]) -> str:
    header = [f"{figures['rows']:,} pictures", "seconds", "times the search"]
    ratios = figures["ratios"]
    return table(
        header,
        [
            [name, f"{value:.3f}", f"{ratios[name]:.2f}" if name in ratios else ""]
            for name, value in figures["seconds"].items()
        ],
    )


def serving(figures: dict[str, Any]) -> str:
    few = figures["equal_p95"]["clients"]
    sides = {
        "batched": f"{figures['clients']} clients that upload, batched",
        "one by one": f"{figures['clients']} clients that upload, one by one",
        "equal_p95": f"{few} clients that upload, one by one",
        "quiet": "one client, by id",
        "scrolling": "the same, while another one scrolls",
    }
    rows = []
    for side, name in sides.items():
        one = figures[side]
        numbers = (f"{one[key]:.0f}" for key in ("requests_per_second", "p50_ms", "p95_ms"))
        others = ", ".join(f"{count} x {status}" for status, count in one["statuses"].items() if status != "200")
        rows.append([name, *numbers, others or "none"])
    ratios = f"{figures['ratio']:.2f} times as many; at equal p95 {figures['ratio_at_equal_p95']:.2f}"
    memory = " and ".join(f"{megabytes:.0f} MB" for megabytes in figures["memory_mb"])
    said = f"\n\nBatches answer {ratios}. Memory of the server before and after: {memory}."
    return table(["searches", "requests/s", "p50 ms", "p95 ms", "other answers"], rows) + said


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
    "plain": ("A plain installation", plain),
    "search": ("Search among synthetic vectors, ten results", search),
    "million": ("Search among a million", search),
    "refresh": ("A second `imagesearch index`", refresh),
    "million-startup": ("A search from a cold shell among a million", startup),
    "million-refresh": ("A second `imagesearch index` of a million", refresh),
    "memory": ("Memory", memory),
    "damaged": ("300 damaged files among 300 good ones", damaged),
    "chaos": ("`kill -9` while indexing", chaos),
    "faults": ("File calls that fail, and kills at chosen calls", faults),
    "threads": ("Threads that do everything at once", threads),
    "mcp": ("The first answer to a language model", mcp),
    "serving": ("The HTTP API under load", serving),
    "serving-many": ("The HTTP API under load, among 100,000 pictures", serving),
    "gpu": ("On a GPU: ViT-B/16 with random weights", gpu),
}
# Run only where they are named: an hour and 20 GB of memory, or millions of files.
LONG = ("million", "million-startup", "million-refresh")
NEEDS = {
    "labels": "--pictures and --labels",
    "plain": "--pictures and --plain",
    "gpu": "--pictures and a GPU",
}


def commands(
    pictures: str, labels: str | None, before: str | None = None, plain_python: str | None = None
) -> dict[str, list[str]]:
    """Name of the results -> script and flags, for what can be run here."""
    found = ["--pictures", pictures]
    beside = ["--before", before] if before else []
    steps = {
        "vit": ["rivals.py", "--checkpoint", "vit-random", *found, "--limit", "300", "--turns", "2"],
        "starter": ["rivals.py", "--checkpoint", "starter", *found, "--limit", "500"],
        "indexing": ["indexing.py", *found, *beside],
        "enlarged": ["indexing.py", *found, "--enlarged", "300", "--turns", "3"],
        "startup": ["startup.py", *beside],
        "search": ["search.py", "--rows", "10000", "100000", "--dim", "320", "768", "--server", "start", *beside],
        "million": ["search.py", "--rows", "1000000", "--dim", "320", "--server", "start"],
        "refresh": ["refresh.py", *beside],
        "million-startup": ["startup.py", "--rows", "1000000", "--turns", "3", *beside],
        "million-refresh": ["refresh.py", "--rows", "1000000", "--repeat", "1", *beside],
        "memory": ["memory.py"],
        "damaged": ["damaged.py", *found],
        "chaos": ["chaos.py"],
        "faults": ["faults.py"],
        "threads": ["threads.py"],
        "mcp": ["mcp_server.py"],
        "serving": ["serving.py", *found],
        "serving-many": ["serving.py", *found, "--rows", "100000", "--seconds", "20"],
    }
    if plain_python:
        steps["plain"] = ["plain.py", "--plain", plain_python, *found]
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
    parser.add_argument(
        "--before", metavar="FOLDER", help="the source tree of an earlier commit, to be measured beside"
    )
    parser.add_argument("--plain", metavar="PYTHON", help="of an environment with nothing but 'pip install .'")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="run these")
    options = parser.parse_args()
    steps = commands(options.pictures, options.labels, options.before, options.plain) if options.pictures else {}
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
