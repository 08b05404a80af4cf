"""How each result looks on stdout: for people, as JSON, as CSV."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from imagesearch.frontends import console as con
from imagesearch.frontends.text import counted
from imagesearch.records import CollectionInfo, ExtractReport, Hit, IndexReport, Metric, Prediction, Skipped

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.models.catalogue import ModelSpec

METRIC_MEANING = {
    Metric.COSINE: "cosine similarity, higher is closer, 1 is equal",
    Metric.IP: "inner product, higher is closer",
    Metric.L2: "squared L2 distance, lower is closer, 0 is equal",
}

Labelled = tuple[str, "list[Prediction] | Skipped"]


def print_indexed(report: IndexReport, database: str, *, as_json: bool) -> None:
    """What ``index`` and ``build`` did."""
    if as_json:
        con.print_json({**report.to_dict(), "database": database})
        return
    con.print_skipped(report.skipped)
    rate = f" ({report.indexed / report.seconds:,.1f} pictures/s)" if report.indexed and report.seconds > 0 else ""
    facts = {
        "found": f"{report.found:,}",
        "indexed": f"{report.indexed:,}",
        "unchanged": f"{report.unchanged:,}",
        "skipped": f"{len(report.skipped):,}",
        "time": f"{report.seconds:.1f} s{rate}",
        "collection": report.collection,
        "database": database,
    }
    con.print_facts(con.make_console(sys.stdout), facts)


def print_extracted(report: ExtractReport, *, as_json: bool) -> None:
    """What ``extract`` wrote."""
    if as_json:
        con.print_json(report.to_dict())
        return
    con.print_skipped(report.skipped)
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


def print_hits_json(hits: Sequence[Hit]) -> None:
    """An array, closest first: rank, score, and what the collection knows of the picture."""
    con.print_json([{"rank": hit.rank, "score": hit.score, **dataclasses.asdict(hit.picture)} for hit in hits])


def print_hits_csv(hits: Sequence[Hit]) -> None:
    """One row a hit."""
    con.print_csv(["rank", "score", "path"], ([hit.rank, hit.score, hit.path] for hit in hits))


def print_labels(out: Console, path: str, predictions: Sequence[Prediction]) -> None:
    """One picture's labels for people."""
    con.print_line(out, (path, "bold"))
    for prediction in predictions:
        con.print_line(out, (f"  {prediction.score:6.1%}  ", "cyan"), (prediction.label, ""))


def print_labels_json(results: Sequence[Labelled]) -> None:
    """An array in the order of the pictures; one that could not be read has an ``error``, no ``predictions``."""
    con.print_json(
        [
            {"path": path, "error": result.reason}
            if isinstance(result, Skipped)
            else {"path": path, "predictions": [dataclasses.asdict(prediction) for prediction in result]}
            for path, result in results
        ]
    )


def print_labels_csv(results: Sequence[Labelled]) -> None:
    """One row a label; pictures that could not be read have none."""
    rows = (
        [path, rank, prediction.label, prediction.score]
        for path, result in results
        if not isinstance(result, Skipped)
        for rank, prediction in enumerate(result, start=1)
    )
    con.print_csv(["path", "rank", "label", "score"], rows)


def print_info(
    config: Config, engine: str, collections: Mapping[str, CollectionInfo | None], *, as_json: bool
) -> None:
    """The database and its collections; those of other programs have no description."""
    chosen = config.collection_spec.name
    if as_json:
        described = [
            {"name": name, "configured": name == chosen, **(_described(info) if info else {})}
            for name, info in collections.items()
        ]
        con.print_json({"database": engine, "collection": chosen, "collections": described})
        return
    out = con.make_console(sys.stdout)
    con.print_facts(out, {"database": engine, "collection": chosen})
    if chosen not in collections:
        con.note(f"there is no collection {chosen} yet: 'imagesearch index DIR' makes it")
    for name, info in collections.items():
        con.print_line(out, ("", ""))
        con.print_line(out, (name, "bold"), ("  (the configured one)" if name == chosen else "", "dim"))
        if info is None:
            con.print_line(out, ("  not made by imagesearch", ""))
            continue
        facts = _described(info)
        facts["rows"] = f"{info.rows:,}"
        con.print_facts(out, {f"  {key}": str(value) for key, value in facts.items()})


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
    shown["milvus"]["uri"] = _without_password(config.milvus.uri)
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


def _without_password(uri: str) -> str:
    from imagesearch.stores.milvus_connection import display_uri

    return display_uri(uri)
