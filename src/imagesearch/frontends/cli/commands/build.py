"""``imagesearch build``: make extracted vectors searchable."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from imagesearch.frontends.cli.commands.index import IndexResult, show_indexed
from imagesearch.frontends.cli.flags import COLLECTION
from imagesearch.frontends.cli.options import opened, prints, settings_from
from imagesearch.frontends.cli.output import Format, print_result
from imagesearch.frontends.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from imagesearch.config import Config

Features = Annotated[
    str, typer.Option("-f", "--features", metavar="FILE", help="PREFIX_features.npy of 'extract'.")
]
Paths = Annotated[str, typer.Option("-p", "--paths", metavar="FILE", help="PREFIX_paths.txt of 'extract'.")]


@prints()
@settings_from(*COLLECTION)
def build(*, settings: Config, output: Format, features: Features, paths: Paths) -> None:
    """Make extracted vectors searchable: insert them into the collection and build its index."""
    with opened(settings) as images:
        with ProgressDisplay() as progress:
            report = images.build(features, paths, progress)
        result = IndexResult(report, images.engine)
    print_result(result, output, partial(show_indexed, result))
