"""Trained models to the Hugging Face hub: nothing of the user's pictures, nor where they are, goes with them."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from imagesearch.errors import HubUnreachableError, ModelError, UsageError
from imagesearch.models.hub import SETTINGS, first_line, in_time, is_hub_name, is_of_network, weights_files
from imagesearch.models.trained import REPORT, public_name, read_report

CARD = "README.md"
# Of the report what tells of no single picture; whatever is added to it later stays here, too.
_SHARED = (
    *("model", "pictures", "classes", "several", "per_class", "histories", "methods", "cross_validation"),
    *("best", "measure", "beats_baseline", "is_sure", "unlabelled"),
)
_SHARED_SPLIT = ("training", "held_out", "identical", "near_identical", "burst", "leaking", "single", "unmeasured")


def check_repository(repository: str, *, public: bool = False) -> str:
    """Refuse before hours of training what the hub would refuse after them, as far as it tells.

    Nothing is made there: nothing may be written in the end.

    Args:
        repository: ``"owner/name"``, or a name of one's own.
        public: whether everybody may see it; one that is there stays as it is.

    Returns:
        The repository with its owner.

    Raises:
        UsageError: this is no name of a repository, there is no token, or it is for others or may only read; or
            everybody sees one that is there, and ``public`` is False.
        ModelError: the hub refused.
        HubUnreachableError: it does not answer.
    """
    from huggingface_hub import HfApi, constants, get_token

    if not is_hub_name(repository):
        raise UsageError(f"{repository!r} is no name of a repository on the hub, such as 'me/my-model'")
    if constants.is_offline_mode():
        raise HubUnreachableError(f"cannot upload to {repository!r}: the hub is switched off (HF_HUB_OFFLINE)")
    if get_token() is None:
        raise UsageError(
            f"cannot upload to {repository!r}: there is no token for the Hugging Face hub; run 'hf auth login', or"
            " set HF_TOKEN"
        )
    with _translated(repository):
        said = in_time(HfApi().whoami)
    user = str(said["name"])
    owner, _, name = repository.rpartition("/")
    groups = [str(one.get("name")) for one in said.get("orgs") or []]
    if owner and owner not in (user, *groups):
        known = ", ".join((user, *groups))
        raise UsageError(f"cannot upload to {repository!r}: the token is for {known}, not for {owner}")
    if ((said.get("auth") or {}).get("accessToken") or {}).get("role") == "read":
        raise UsageError(f"cannot upload to {repository!r}: the token may only read; it needs the right to write")
    whole = f"{owner or user}/{name}"
    if _is_public(whole) and not public:
        raise UsageError(
            f"cannot upload to {whole!r}: it is there already, and everybody sees it; add --public if that may be"
        )
    return whole


def _is_public(repository: str) -> bool:
    """Whether there is a repository of this name that everybody sees.

    Raises:
        UsageError, ModelError, HubUnreachableError: see :func:`check_repository`.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    with _translated(repository):
        try:
            return not in_time(partial(HfApi().model_info, repository)).private
        except HfHubHTTPError as error:
            if error.response.status_code != 404:
                raise
            return False


def publish(folder: str | os.PathLike[str], repository: str, *, public: bool = False) -> str:
    """Upload a trained model: weights, settings, model card and measures, but not its report with pictures.

    What is there already is overwritten, in one commit.

    Args:
        folder: that ``imagesearch train`` wrote.
        repository: ``"owner/name"``, or a name of one's own; made if it is not there.
        public: whether everybody may see it; one that is there stays as it is.

    Returns:
        The address of the model's page.

    Raises:
        UsageError: see :func:`check_repository`; the token must not make or change it; or the folder holds no
            trained model.
        ModelError: the hub refused.
        HubUnreachableError: it does not answer.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    files = shared_files(Path(folder).expanduser())
    whole = check_repository(repository, public=public)
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    with _translated(whole), _silence():
        in_time(partial(HfApi().create_repo, whole, private=not public, exist_ok=True))
        HfApi().create_commit(whole, operations, commit_message="Trained by imagesearch")
    return f"{constants.ENDPOINT}/{whole}"


def shared_files(folder: Path) -> dict[str, bytes | Path]:
    """What is uploaded of a folder: names with contents or files.

    Raises:
        UsageError: it holds no trained model, or cannot be read.
    """
    report = read_report(folder)
    try:
        if not report or not (folder / "config.json").is_file():
            raise UsageError(f"{os.fspath(folder)!r} holds no model that 'imagesearch train' wrote")
        card = (folder / CARD).read_text(encoding="utf-8", errors="surrogateescape")
        weights = [*weights_files(folder), *sorted(folder.glob("*.index.json"))]
    except OSError as error:
        raise UsageError(f"cannot read {os.fspath(folder)!r}: {error.strerror or error}") from error
    base = str(report["model"])
    settings = [folder / name for name in SETTINGS if (folder / name).is_file()]
    return {
        **{file.name: file for file in (*settings, *weights)},
        CARD: card.replace(base, public_name(base)).encode("utf-8", "replace"),
        REPORT: (json.dumps(_shared_report(report), indent=1) + "\n").encode("ascii"),
    }


def _shared_report(report: dict[str, Any]) -> dict[str, Any]:
    shared = {name: report[name] for name in _SHARED if name in report}
    shared["model"] = public_name(str(report["model"]))
    split = report.get("split")
    if isinstance(split, dict):
        shared["split"] = {name: split[name] for name in _SHARED_SPLIT if name in split}
    return shared


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No bars of the hub's client: what is printed is for front ends to say."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


@contextlib.contextmanager
def _translated(repository: str) -> Iterator[None]:
    """The hub's errors as ours; none of them says the token.

    Raises:
        UsageError, ModelError, HubUnreachableError: see :func:`publish`.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    what = f"cannot upload to {repository!r}: the Hugging Face hub ({constants.ENDPOINT})"
    try:
        yield
    except TimeoutError as error:
        raise HubUnreachableError(f"{what} did not answer in time") from error
    except Exception as error:
        # An upload's own error is within one that only says which file it was.
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        said = _without_address(cause)
        if isinstance(cause, HfHubHTTPError):
            if cause.response.status_code in (401, 403):
                raise UsageError(
                    f"{what} refuses the token, which needs the right to write there: {said}"
                ) from error
            raise ModelError(f"{what} refused: {said}") from error
        if is_of_network(cause):
            raise HubUnreachableError(f"{what} does not answer: {said}") from error
        if isinstance(cause, (OSError, RuntimeError, ValueError)):  # what the client makes of files and answers
            raise ModelError(f"{what} did not take it: {said}") from error
        raise


def _without_address(error: BaseException) -> str:
    """The first line; signed addresses, which let anybody upload, are left out."""
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", first_line(error))
