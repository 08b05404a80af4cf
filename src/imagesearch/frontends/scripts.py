"""The four scripts in ``scripts/``: the original's flags, over the ``imagesearch`` command and the Python API."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import typer

from imagesearch.frontends.cli.app import app
from imagesearch.frontends.cli.commands.classify import note_labels
from imagesearch.frontends.cli.options import FigureRequest, load_settings, opened
from imagesearch.frontends.cli.output import tolerant_streams
from imagesearch.frontends.cli.process import errors_as_exit_codes, tune_process


def run_feature_extraction(argv: Sequence[str] | None = None) -> int:
    """Pictures of a folder to ``<prefix>_features.npy`` and ``<prefix>_paths.txt``."""
    parser = _parser("Extract the feature vectors of all pictures in a folder.")
    parser.add_argument("-i", "--input_dir", required=True, metavar="DIR", help="folder with pictures")
    parser.add_argument("-o", "--output_prefix", metavar="PREFIX", help="default: a name in data.processed_dir")
    given = _given(parser, argv)
    output = [f"--output={given.output_prefix}"] if given.output_prefix is not None else []
    return _command("extract", *output, *_config_flag(given), "--", given.input_dir)


def build_milvus_index(argv: Sequence[str] | None = None) -> int:
    """Extracted features to a searchable Milvus collection."""
    parser = _parser("Insert extracted features into a Milvus collection and build its index.")
    parser.add_argument("-f", "--features_path", required=True, metavar="FILE", help="..._features.npy")
    parser.add_argument("-p", "--paths_file", required=True, metavar="FILE", help="..._paths.txt")
    given = _given(parser, argv)
    files = (f"--features={given.features_path}", f"--paths={given.paths_file}")
    return _command("build", *files, *_config_flag(given))


def run_similarity_search(argv: Sequence[str] | None = None) -> int:
    """The indexed pictures most like one picture, with their scores."""
    parser = _parser("Find the indexed pictures that look most like a picture.")
    parser.add_argument("-q", "--query_image", required=True, metavar="FILE", help="the picture to look for")
    parser.add_argument(
        "-k", "--top_k", metavar="N", type=_positive, help="number of results; default: search.top_k, then 10"
    )
    _add_visualize(parser)
    given = _given(parser, argv)
    count = [f"--top-k={given.top_k}"] if given.top_k is not None else []
    show = ["--visualize"] if given.visualize else []
    return _command("search", *count, *show, *_config_flag(given), "--", given.query_image)


def run_classification(argv: Sequence[str] | None = None) -> int:
    """One picture's label and confidence."""
    parser = _parser("Tell what is in a picture.")
    parser.add_argument("-i", "--input_image", required=True, metavar="FILE", help="the picture")
    _add_visualize(parser)
    given = _given(parser, argv)
    tolerant_streams()
    try:
        with errors_as_exit_codes():
            _classify(given.input_image, _config(given), FigureRequest(given.visualize))
    except typer.Exit as leave:
        return leave.exit_code
    return 0


def _classify(image: str, config: str | None, figure: FigureRequest) -> None:
    settings = load_settings(config)
    note_labels(settings)
    with opened(settings) as images:
        predictions = images.classify(image)
    typer.echo(f"Predicted label: {predictions[0].label}")
    typer.echo(f"Confidence: {predictions[0].score:.4f}")
    if figure.is_wanted:
        from imagesearch.frontends.figures import default_name, labels_figure

        figure.deliver(labels_figure([(image, predictions)]), default_name("classify", image))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _parser(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="settings; default: $IMAGESEARCH_CONFIG, ./config.yaml, then the one beside the scripts' folder",
    )
    return parser


def _given(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The parsed arguments; without ``argv`` they are those of this process, which then is a script's own."""
    if argv is None:
        tune_process()
    return parser.parse_args(argv)


def _add_visualize(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--visualize", action="store_true", help="show a figure; without a display, save it")


def _config(given: argparse.Namespace) -> str | None:
    """The settings file: as told, as found by the package, or else the checkout's."""
    if given.config or os.environ.get("IMAGESEARCH_CONFIG") or os.path.isfile("config.yaml"):
        chosen: str | None = given.config
        return chosen
    checkouts = Path(__file__).resolve().parents[3] / "config.yaml"
    return str(checkouts) if checkouts.is_file() else None


def _config_flag(given: argparse.Namespace) -> list[str]:
    config = _config(given)
    return [] if config is None else [f"--config={config}"]


def _command(*arguments: str) -> int:
    """Run ``imagesearch`` with these arguments and give its exit code."""
    try:
        app(list(arguments), prog_name="imagesearch")
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 1
    return 0
