"""How each result looks on stdout: for people, as JSON, as CSV."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import typer

from imagesearch.frontends import console as con
from imagesearch.frontends.text import counted, printable
from imagesearch.records import (
    CollectionInfo,
    ExtractReport,
    Hit,
    IndexReport,
    Metric,
    OfflineRoot,
    Prediction,
    Skipped,
    TransferReport,
)

if TYPE_CHECKING:
    from imagesearch.config import Config
    from imagesearch.models.catalogue import ModelSpec

METRIC_MEANING = {
    Metric.COSINE: "cosine similarity, higher is closer, 1 is equal",
    Metric.IP: "inner product, higher is closer",
    Metric.L2: "squared L2 distance, lower is closer, 0 is equal",
}

_FOREIGN = "not made by imagesearch"

_RETRIED = "tried again at every run"

# Sizes and the like in a reason, which would make every file a kind of its own.
_NUMBERS = re.compile(r"\d+(?:[.,x]\d+)*")

Labelled = tuple[str, "list[Prediction] | Skipped"]


def print_indexed(report: IndexReport, database: str, *, as_json: bool) -> None:
    """What ``index`` and ``build`` did, or what a dry run would do."""
    if as_json:
        con.print_json({**report.to_dict(), "database": database})
        return
    con.print_skipped(report.skipped, "imagesearch info --skipped")
    for folder in report.offline:
        con.note(offline_text(folder, "plug the disk in and run this again, or remove them with --prune"))
    out = con.make_console(sys.stdout)
    would = ""
    if report.dry_run:
        con.print_line(out, ("dry run: nothing was changed", "bold"))
        would = "would be "
    keep = "would keep" if report.dry_run else "kept"
    reused = (
        f"  (of these {report.reused:,} {keep} their vector: moved, renamed or copied)" if report.reused else ""
    )
    rate = f" ({report.indexed / report.seconds:,.1f} pictures/s)" if report.indexed and report.seconds > 0 else ""
    facts = {
        "found": f"{report.found:,}",
        f"{would}indexed": f"{report.indexed:,}{reused}",
        "unchanged": f"{report.unchanged:,}",
        "skipped": f"{len(report.skipped):,}",
        f"{would}removed": f"{report.removed:,}",
        "time": f"{report.seconds:.1f} s{'' if report.dry_run else rate}",
        "collection": report.collection,
        "database": database,
    }
    con.print_facts(out, facts)


def offline_text(folder: OfflineRoot, then: str) -> str:
    """One line about a folder that looks like an unplugged disk.

    Args:
        then: what can be done about it.
    """
    missing = counted(folder.pictures, "missing picture")
    return f"offline: {folder.root}: {folder.reason}; {missing} kept in the collection: {then}"


def print_extracted(report: ExtractReport, *, as_json: bool) -> None:
    """What ``extract`` wrote."""
    if as_json:
        con.print_json(report.to_dict())
        return
    con.print_skipped(report.skipped, "--json")
    facts = {
        "extracted": f"{counted(report.extracted, 'vector')} of dimension {report.dim}",
        "skipped": f"{len(report.skipped):,}",
        "features": report.features,
        "paths": report.paths,
    }
    con.print_facts(con.make_console(sys.stdout), facts)


def print_hits(query: str, hits: Sequence[Hit], info: CollectionInfo) -> None:
    """A ranked list for people."""
    out = con.make_console(sys.stdout)
    heading = f"{counted(len(hits), 'picture')} of collection {info.name} most like {query}"
    con.print_line(out, (heading, "bold"))
    con.print_line(out, (f"rank   score  path    ({METRIC_MEANING[info.metric]})", "dim"))
    for hit in hits:
        con.print_line(out, (f"{hit.rank:4}  {hit.score:6.3f}  ", "cyan"), (hit.path, ""))


def note_other_index(built: str, wanted: str) -> None:
    """That searches do not use the configured index yet; on stderr, whatever the format of the results."""
    con.note(f"the index is {built}, but milvus.index_type is {wanted}: run 'imagesearch index' to rebuild it")


def print_hits_json(hits: Sequence[Hit]) -> None:
    """An array, closest first: rank, score, and what the collection knows of the picture."""
    con.print_json([{"rank": hit.rank, "score": hit.score, **dataclasses.asdict(hit.picture)} for hit in hits])


def print_hits_csv(hits: Sequence[Hit]) -> None:
    """One row a hit."""
    con.print_csv(["rank", "score", "path"], ([hit.rank, hit.score, hit.path] for hit in hits))


def print_labels(results: Iterable[Labelled], stream: TextIO, *, as_json: bool, as_csv: bool) -> None:
    """Each picture's labels, as they come.

    In JSON a picture that could not be read has an ``error``, no ``predictions``; the other formats leave it out.

    Args:
        stream: stdout as it was before anything was redirected.
    """
    if as_json:
        con.print_json_array(
            (
                {"path": path, "error": result.reason}
                if isinstance(result, Skipped)
                else {"path": path, "predictions": [dataclasses.asdict(prediction) for prediction in result]}
                for path, result in results
            ),
            stream,
        )
        return
    labelled = ((path, result) for path, result in results if not isinstance(result, Skipped))
    if as_csv:
        con.print_csv(
            ["path", "rank", "label", "score"],
            (
                [path, rank, prediction.label, prediction.score]
                for path, predictions in labelled
                for rank, prediction in enumerate(predictions, start=1)
            ),
            stream,
        )
        return
    out = con.make_console(stream)
    for path, predictions in labelled:
        con.print_line(out, (path, "bold"))
        for prediction in predictions:
            con.print_line(out, (f"  {prediction.score:6.1%}  ", "cyan"), (prediction.label, ""))


def print_info(
    config: Config,
    engine: str,
    collections: Mapping[str, CollectionInfo | None],
    skipped: int,
    *,
    as_json: bool,
) -> None:
    """The database and its collections; those of other programs have no description.

    Args:
        skipped: number of files that indexing into the configured collection could not read.
    """
    chosen = config.collection_spec.name
    if as_json:
        described = collections_as_data(chosen, collections)
        con.print_json({"database": engine, "collection": chosen, "skipped": skipped, "collections": described})
        return
    out = con.make_console(sys.stdout)
    facts = {"database": engine, "collection": chosen}
    if skipped:
        facts["skipped"] = f"{counted(skipped, 'file')} ('imagesearch info --skipped' lists all)"
    con.print_facts(out, facts)
    if chosen not in collections:
        con.note(f"there is no collection {chosen} yet: 'imagesearch index DIR' makes it")
    for name, info in collections.items():
        con.print_line(out, ("", ""))
        con.print_line(out, (name, "bold"), ("  (the configured one)" if name == chosen else "", "dim"))
        if info is None:
            con.print_line(out, (f"  {_FOREIGN}", ""))
            continue
        shown = _described(info) | {"rows": f"{info.rows:,}"}
        con.print_facts(out, {f"  {key}": str(value) for key, value in shown.items()})
        if info.missing_columns:
            con.note(
                f"an earlier version made {name}: it has no column for {', '.join(info.missing_columns)}."
                f" 'imagesearch index' adds them to a local database; on a server, 'imagesearch copy {name} NEW'"
                " makes a collection that has all"
            )


def note_outgrown(name: str, reason: str) -> None:
    """Say that a collection should move to a server, and how."""
    con.note(
        f"collection {name} {reason}. To move it to a Milvus server: 'imagesearch migrate {name} --to"
        " http://SERVER:19530', then 'export IMAGESEARCH_MILVUS__URI=http://SERVER:19530' (or set milvus.uri)"
    )


def _described(info: CollectionInfo) -> dict[str, Any]:
    mark = info.fingerprint
    return {
        "rows": info.rows,
        "model": mark.model,
        "dimension": mark.dim,
        "pooling": mark.pooling,
        "input": f"{mark.input_size[0]}x{mark.input_size[1]}",
        "key": mark.key,
        "metric": info.metric.value,
        "index": info.index_type or "none",
    }


def collections_as_data(chosen: str, collections: Mapping[str, CollectionInfo | None]) -> list[dict[str, Any]]:
    """What JSON says of collections; of those of other programs only the name."""
    return [
        {"name": name, "configured": name == chosen, **(_described(info) if info else {})}
        for name, info in collections.items()
    ]


def print_collections(chosen: str, collections: Mapping[str, CollectionInfo | None]) -> None:
    """A table for people; the configured collection has a star."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("", "collection"):
        table.add_column(title, no_wrap=True)
    table.add_column("pictures", no_wrap=True, justify="right")
    table.add_column("model", overflow="fold")
    table.add_column("dimension", no_wrap=True, justify="right")
    for title in ("metric", "index"):
        table.add_column(title, no_wrap=True)
    for name, info in collections.items():
        star = "*" if name == chosen else ""
        if info is None:
            table.add_row(star, printable(name), "", _FOREIGN)
            continue
        mark = info.fingerprint
        table.add_row(
            *(star, printable(name), f"{info.rows:,}", printable(mark.model)),
            *(str(mark.dim), info.metric.value, info.index_type or "none"),
        )
    con.make_console(sys.stdout).print(table)


def print_collections_csv(chosen: str, collections: Mapping[str, CollectionInfo | None]) -> None:
    """One row a collection; those of other programs have only a name."""
    header = ("name", "configured", "rows", "model", "dimension", "metric", "index")
    rows = collections_as_data(chosen, collections)
    con.print_csv(header, ([row.get(key, "") for key in header] for row in rows))


def print_ledger(collection: str, skipped: Sequence[Skipped], *, as_json: bool, as_csv: bool) -> None:
    """The files that indexing could not read, why, and how many there are of each kind."""
    if as_json:
        con.print_json([dataclasses.asdict(skip) for skip in skipped])
        return
    if as_csv:
        con.print_csv(["path", "reason", "retryable"], ([s.path, s.reason, s.retryable] for s in skipped))
        return
    if not skipped:
        con.note(f"no file was skipped when collection {collection} was made")
        return
    out = con.make_console(sys.stdout)
    for skip in skipped:
        retried = f"  ({_RETRIED})" if skip.retryable else ""
        con.print_line(out, (f"{skip.path}: {skip.reason}", ""), (retried, "dim"))
    con.print_line(out, ("", ""))
    con.print_line(out, (f"{counted(len(skipped), 'file')} skipped for collection {collection}:", "bold"))
    for reason, number in _kinds(skipped).items():
        con.print_line(out, (f"{number:7,}  {reason}", ""))
    if not all(skip.retryable for skip in skipped):
        others = " others" if any(skip.retryable for skip in skipped) else "y"
        text = f"The{others} are tried again once they change, or with 'imagesearch index --retry-skipped'"
        con.print_line(out, (text, "dim"))


def _kinds(skipped: Sequence[Skipped]) -> dict[str, int]:
    """How many files there are of each reason, most frequent first; reasons that differ in numbers are one."""
    kinds: dict[str, list[str]] = {}
    for skip in skipped:
        kinds.setdefault(_NUMBERS.sub("…", skip.reason), []).append(skip.reason)
    counts = Counter(
        {reasons[0] if len(set(reasons)) == 1 else kind: len(reasons) for kind, reasons in kinds.items()}
    )
    return dict(counts.most_common())


def print_transfers(reports: Sequence[TransferReport], done: str) -> None:
    """What copying, exporting or importing did, one line a collection.

    Args:
        done: what happened to the rows, such as ``"copied"``.
    """
    out = con.make_console(sys.stdout)
    for report in reports:
        there = f", {report.already_there:,} were there already" if report.already_there else ""
        con.print_line(
            out,
            (f"{report.collection}: ", "bold"),
            (f"{counted(report.rows, 'picture')} {done}{there}, in {report.seconds:.1f} s: {report.target}", ""),
        )


def print_models(specs: Sequence[tuple[ModelSpec, bool]], *, as_json: bool, as_csv: bool) -> None:
    """The presets, each with whether it is on this machine."""
    if as_json:
        con.print_json([{**dataclasses.asdict(spec), "here": here} for spec, here in specs])
        return
    if as_csv:
        names = [field.name for field in dataclasses.fields(specs[0][0])]
        rows = ([*(getattr(spec, name) for name in names), here] for spec, here in specs)
        con.print_csv([*names, "here"], rows)
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("preset", "labels", "here"):
        table.add_column(title, no_wrap=True)
    for title in ("parameters", "download", "dim"):
        table.add_column(title, no_wrap=True, justify="right")
    table.add_column("licence", overflow="fold")
    table.add_column("good for", overflow="fold")
    for spec, here in specs:
        size = f"{spec.download_mb:,} MB" if spec.download_mb else "bundled"
        table.add_row(
            *(spec.preset, "yes" if spec.labels else "no", "yes" if here else "no"),
            *(f"{spec.parameters:g} M", size, str(spec.dim), spec.licence, spec.good_for),
        )
    con.make_console(sys.stdout).print(table)
    typer.echo(con.STARTER_NOTE)
    typer.echo(
        "Any other Hugging Face vision checkpoint works by its name or folder:"
        " --model facebook/deit-small-patch16-224, --model path/to/checkpoint"
    )


def print_config(config: Config, *, as_json: bool) -> None:
    """Every setting in force and where it came from; secrets are masked."""
    import yaml

    shown = config.model_dump(mode="json")
    if config.milvus.token is not None:
        shown["milvus"]["token"] = "***"
    if not config.database_address.is_local:
        shown["milvus"]["uri"] = config.database_address.shown
    if as_json:
        con.print_json(
            {
                section: {
                    key: {"value": value, "source": config.source_of(f"{section}.{key}")}
                    for key, value in values.items()
                }
                for section, values in shown.items()
            }
        )
        return
    out = con.make_console(sys.stdout)
    for section, values in shown.items():
        con.print_line(out, (f"{section}:", "bold"))
        for key, value in values.items():
            text = yaml.safe_dump(value, default_flow_style=True, width=1_000_000, allow_unicode=True)
            text = text.removesuffix("...\n").strip()
            con.print_line(out, (f"  {key}: {text}", ""), (f"  # {config.source_of(f'{section}.{key}')}", "dim"))
