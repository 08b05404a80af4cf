"""``imagesearch train``: a model for one's own labels, learnt from pictures that have them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from imagesearch.errors import ImageSearchError
from imagesearch.frontends.cli.flags import COMPUTING, WHICH_FILES, Public, PushTo
from imagesearch.frontends.cli.options import prints, settings_from
from imagesearch.frontends.cli.output import Format, note, print_line, print_result, print_table, quiet_stdout
from imagesearch.frontends.cli.process import FAILED
from imagesearch.frontends.cli.progress import ProgressDisplay
from imagesearch.frontends.errors import WrongUsageError

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.training import Training

Folder = Annotated[
    str,
    typer.Argument(
        metavar="DIR",
        help="Folder whose sub-folders are named after what their pictures show; or, with --labels, any folder.",
        show_default=False,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="CSV file of path and label; a picture with several labels has a line for each."
        " Default: the names of sub-folders are labels.",
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Where to write the model. Default: ./DIR-MODEL, by their names.",
        show_default=False,
    ),
]
HeldOut = Annotated[
    float, typer.Option(metavar="PART", help="Part of the pictures to set aside and measure with.")
]
Folds = Annotated[int, typer.Option(metavar="N", min=2, help="Folds of cross-validation.")]
Balanced = Annotated[bool, typer.Option("--balanced", help="Let rare classes count as much as frequent ones.")]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help="What to train besides the probe: last (the last block), lora, full (all weights), or all of these;"
        " the best is written. Repeatable. Default: probe.",
        show_default=False,
    ),
]
Loss = Annotated[
    str,
    typer.Option(
        metavar="LOSS",
        help="What fine-tuning minimises: cross-entropy, to label; or contrastive, arcface or proxy-anchor, so"
        " that searches find pictures of the same class. Then retrieval decides what is best.",
    ),
]
Epochs = Annotated[
    int, typer.Option(metavar="N", min=1, help="Passes over the pictures at most (not of the probe).")
]
TrainBatch = Annotated[
    int,
    typer.Option(
        "--train-batch",
        metavar="N",
        min=1,
        help="Pictures per training step, of all processes together. Where memory does not hold them, they are"
        " worked through in parts.",
    ),
]
Rate = Annotated[
    float | None,
    typer.Option("--learning-rate", metavar="RATE", help="The largest. Default: as is usual for the method."),
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of the split, the folds and the intervals.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Write the model although the nearest neighbours do as well, and replace what an earlier run wrote.",
    ),
]
Page = Annotated[
    str | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Write the report here, too, even if no model is written. It is in the folder of the model anyway.",
    ),
]


@prints()
@settings_from("model", *COMPUTING, *WHICH_FILES, "batch_size")
def train(
    *,
    settings: Config,
    output: Format,
    folder: Folder,
    labels: Labels = None,
    out: Out = None,
    held_out: HeldOut = 0.2,
    folds: Folds = 5,
    balanced: Balanced = False,
    method: Methods = None,
    loss: Loss = "cross-entropy",
    epochs: Epochs = 10,
    train_batch: TrainBatch = 32,
    learning_rate: Rate = None,
    seed: Seed = 0,
    force: Force = False,
    html: Page = None,
    push_to_hub: PushTo = None,
    public: Public = False,
) -> None:
    """Learn to label pictures from a folder of labelled ones.

    Learns a linear probe, that is a classification head for the model's vectors; cross-validation chooses its
    regularisation and makes its scores true probabilities. With --method the network is fine-tuned too. All are
    measured with pictures that were set aside, none of which is a near copy of one that was learnt from, beside
    labelling by the nearest neighbours, which needs no training. The result is a folder for --model, and for
    Hugging Face Transformers; report.html in it shows figures and the worst mistakes.
    """
    if public and push_to_hub is None:
        raise WrongUsageError("--public goes with --push-to-hub")
    with quiet_stdout():
        from imagesearch import training
        from imagesearch.frontends.pages import page_path
        from imagesearch.models.processes import launched_team

        if html is not None:  # before any work is done
            page_path(html)

        request = training.Request(
            folder=folder,
            labels=labels,
            out=out,
            held_out=held_out,
            folds=folds,
            balanced=balanced,
            methods=_fine_tuning(method or []),
            loss=loss,
            epochs=epochs,
            batch_size=train_batch,
            learning_rate=learning_rate or 0.0,
            seed=seed,
            force=force,
        )
        if not launched_team().is_first:
            _help(settings)
            return
        repository = None if push_to_hub is None else _check_push(push_to_hub, public)
        with ProgressDisplay() as progress:
            found = training.train(settings, request, progress)
    print_result(found, output, partial(_show, found))
    _explain(found)
    _report(found, html, settings)
    if repository is not None:
        _push(found, repository, public)


def _help(settings: Config) -> None:
    """Train along with the first of several processes, which says everything there is to say."""
    from imagesearch import training
    from imagesearch.models.processes import FirstProcessError, OtherProcessError

    try:
        training.help_train(settings)
    except (FirstProcessError, OtherProcessError) as error:
        raise typer.Exit(FAILED) from error


def _fine_tuning(methods: Sequence[str]) -> tuple[str, ...]:
    """Ways of fine-tuning; the probe is always there."""
    from imagesearch.models.trainer import METHODS

    named = [name for name in methods if name not in ("probe", "all")]
    return tuple(dict.fromkeys([*METHODS, *named])) if "all" in methods else tuple(named)


def _show(found: Training, out: Console) -> None:
    from imagesearch.frontends.training_tables import training_tables

    for table in training_tables(found):
        print_line(out, (table.title, "bold"))
        print_table(out, table.columns, table.rows)
        if table.note:
            print_line(out, (table.note, "dim"))
        print_line(out, ("", ""))


def _report(found: Training, html: str | None, settings: Config) -> None:
    """Pages and figures, where wanted."""
    from imagesearch.frontends import training_page

    bound = settings.data.max_megapixels
    if found.written:
        note(f"report written to {training_page.write_training(found, bound)}")
    if html is not None:
        note(f"report written to {training_page.write_training_page(found, html, bound)}")


def _check_push(repository: str, public: bool) -> str:
    """The repository with its owner; refused now rather than after the training."""
    from imagesearch.models.publishing import check_repository

    return check_repository(repository, public=public)


def _push(found: Training, repository: str, public: bool) -> None:
    from imagesearch.models.publishing import publish

    if not found.written:
        note("nothing was uploaded, as no model was written")
        return
    note(f"uploading to {repository}")
    try:
        note(f"uploaded to {publish(found.out, repository, public=public)}")
    except ImageSearchError:
        flag = " --public" if public else ""
        note(
            f"the model is in {found.out}; upload it later: imagesearch models --push-to-hub {repository}{flag}"
            f" --model {shlex.quote(found.out)}"
        )
        raise


def _explain(found: Training) -> None:
    """Remarks and verdict, on stderr."""
    from imagesearch.frontends.training_tables import remarks, verdict

    for remark in remarks(found):
        note(remark)
    note(verdict(found))
    if found.written:
        note(f"use it: imagesearch classify --model {shlex.quote(found.out)} PICTURE")
