"""From a checkpoint's name to a folder on this machine; the only importer of ``huggingface_hub``.

What is in the hub's cache is used without asking the hub, so a filled cache works offline and at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import re
import stat
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from imagesearch.errors import HubUnreachableError, ModelError
from imagesearch.images.find import reason_of
from imagesearch.models import catalogue
from imagesearch.models.digests import file_digest

T = TypeVar("T")

# The hub's own client retries for about 40 seconds; one question with this limit tells as much.
HUB_TIMEOUT_SECONDS = 5.0
# The limit above holds for each packet; looking up the hub's address has none, nor have redirections.
_HUB_DEADLINE_SECONDS = 7.0

_PROCESSOR = ("preprocessor_config.json", "processor_config.json")
SETTINGS = ("config.json", *_PROCESSOR)
# The temperature of a classifier's probabilities, if somebody found it: see models.classifier.
CALIBRATION = "calibration.json"
# What turns texts into tokens: any of the vocabularies, and what goes with them. No part of a checkpoint's digest,
# as it does not change the vectors of images.
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
_TOKENIZER = (
    *_VOCABULARIES,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_SAMPLE = 2**20
_WEIGHTS = re.compile(r"(model|pytorch_model)(-\d+-of-\d+)?\.(safetensors|bin)")
_WHOLE = ("model", "pytorch_model")
# As the hub's own check: no "-" or "." at either end, no "--" or "..".
_HUB_NAME = re.compile(r"(?!.*(--|\.\.))(?!.*\.git$)\w([\w.-]*\w)?(/\w([\w.-]*\w)?)?", re.ASCII)

_WAYS_OUT = (
    "Use the bundled model (--model starter), a local folder (--model path/to/checkpoint), or fill the cache on a"
    " machine with internet (hf download {name}) and copy it here"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on this machine.

    Attributes:
        name: what messages call it.
        folder: where its files are.
        revision: the hub's commit, or a digest of a local folder's files.
        earlier_revisions: what earlier versions of this program called the same files, in collections of theirs.
    """

    name: str
    folder: Path
    revision: str
    earlier_revisions: tuple[str, ...] = ()


def find_checkpoint(name: str, revision: str | None = None) -> Checkpoint:
    """Locate a checkpoint, downloading it from the hub if it is not here yet.

    Args:
        name: a local folder or a hub name (presets: see :func:`catalogue.features_checkpoint`).
        revision: a branch, tag or commit of the hub; default: the main branch.

    Raises:
        ModelError: no such folder or repository, access refused, or files missing.
        HubUnreachableError: it is not on this machine and the hub does not answer.
    """
    path = Path(name).expanduser()
    if name and _is_folder(path):
        name = catalogue.display_name(_preset_of(path) or str(path.absolute()))
        return Checkpoint(name, path, *_revisions(path))
    if path.is_absolute() or not _HUB_NAME.fullmatch(name):
        raise ModelError(
            f"no model folder at {name!r}, and it is neither a preset ('imagesearch models' lists them) nor a hub"
            " name such as 'google/vit-base-patch16-224'"
        )
    folder = _cached(name, revision) or _download(name, revision)
    return Checkpoint(name, folder, folder.name)


def _is_folder(path: Path) -> bool:
    """
    Raises:
        ModelError: the file system does not say.
    """
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise ModelError(f"no model folder at {str(path)!r}: {reason_of(error)}") from error


def is_hub_name(name: str) -> bool:
    """Whether a repository of the hub can have this name."""
    return _HUB_NAME.fullmatch(name) is not None


def is_here(name: str) -> bool:
    """Whether a checkpoint can be loaded without the hub: a complete folder, or complete in its cache."""
    path = Path(name)
    return _complete(path) if os.path.isdir(path) else _cached(name, None) is not None


def require_tokenizer(checkpoint: Checkpoint) -> None:
    """Make sure that a checkpoint's tokenizer is on this machine; older downloads left it on the hub.

    Raises:
        ModelError: it has none.
        HubUnreachableError: it is not on this machine and the hub does not answer.
    """

    def is_complete() -> bool:
        return any((checkpoint.folder / name).is_file() for name in _VOCABULARIES)

    if not is_complete() and checkpoint.folder.name == checkpoint.revision:  # a snapshot in the hub's cache
        try:
            _download(checkpoint.name, checkpoint.revision)
        except HubUnreachableError as error:
            raise HubUnreachableError(
                f"{checkpoint.name} is on this machine, but not its tokenizer for texts, and the Hugging Face hub"
                " cannot be asked for it now: search by pictures, or fill the cache on a machine with internet"
                f" (hf download {checkpoint.name}) and copy it here"
            ) from error
    if not is_complete():
        raise ModelError(
            f"{checkpoint.name} has no tokenizer for texts (none of {', '.join(_VOCABULARIES)} in"
            f" {str(checkpoint.folder)!r})"
        )


def weights_bytes(checkpoint: Checkpoint) -> int:
    """Size of the weights that are loaded: safetensors before pickles."""
    return sum(file.stat().st_size for file in weights_files(checkpoint.folder))


def weights_files(folder: Path) -> list[Path]:
    """The weights' files that are loaded: safetensors before pickles, and no pipes, which wait for ever."""
    files = sorted(file for file in folder.iterdir() if _WEIGHTS.fullmatch(file.name) and file.is_file())
    return [file for file in files if file.suffix == ".safetensors"] or files


def _preset_of(folder: Path) -> str | None:
    return "starter" if folder.resolve() == catalogue.STARTER_FOLDER.resolve() else None


def _revisions(folder: Path) -> tuple[str, tuple[str, ...]]:
    """A digest of a local checkpoint's files, and what earlier versions called it.

    Raises:
        ModelError: it is no checkpoint, or cannot be read.
    """
    try:
        if not (folder / "config.json").is_file():
            raise ModelError(f"{str(folder)!r} is not a Hugging Face checkpoint: it has no config.json")
        # Regular files only: opening a pipe waits for ever.
        weights = sorted(entry for entry in folder.iterdir() if _WEIGHTS.fullmatch(entry.name) and entry.is_file())
        if not weights:
            raise ModelError(f"{str(folder)!r} has no weights (model.safetensors or pytorch_model.bin)")
        if not any(file.stem in _WHOLE for file in weights) and not any(folder.glob("*.index.json")):
            raise ModelError(
                f"{str(folder)!r} has parts of weights, such as {weights[0].name}, without the file that lists"
                " them: model.safetensors.index.json or pytorch_model.bin.index.json"
            )
        settings = [(folder / name).read_bytes() for name in SETTINGS if (folder / name).is_file()]
        whole = [f"{file.name} {file_digest(file)}".encode() for file in weights]
        sampled = [f"{file.name} {file.stat().st_size}".encode() + _sample(file) for file in weights]
    except OSError as error:
        raise ModelError(f"{str(folder)!r} cannot be read: {error.strerror or error}") from error
    return _digest([*settings, *whole]), (_digest([*settings, *sampled]),)


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=10)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _sample(file: Path) -> bytes:
    """Up to 3 MiB of a file, which is all that earlier versions looked at: beginning, middle and end."""
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        parts = []
        for start in (0, size // 2, max(0, size - _SAMPLE)):
            opened.seek(start)
            parts.append(opened.read(_SAMPLE))
    return b"".join(parts)


def _cached(name: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        # Not snapshot_download(local_files_only=True): that wants every file of the repository, and we leave
        # the copies for other frameworks on the hub.
        config = try_to_load_from_cache(name, "config.json", revision=revision)
    except ValueError:
        return None
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if _complete(folder) else None


def _complete(folder: Path) -> bool:
    """Whether settings and all weights are there: an interrupted download leaves a part of them."""
    try:
        # Only timm's checkpoints say in config.json itself how images are preprocessed; they name no model_type.
        if "model_type" in json.loads((folder / "config.json").read_bytes()) and not any(
            (folder / name).is_file() for name in _PROCESSOR
        ):
            return False
        for index in folder.glob("*.index.json"):
            if all((folder / shard).is_file() for shard in json.loads(index.read_bytes())["weight_map"].values()):
                return True
    except (OSError, ValueError, KeyError):
        return False
    return any((folder / name).is_file() for name in ("model.safetensors", "pytorch_model.bin"))


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    unreachable = (
        f"{name!r} is not on this machine (no preset, no folder, not in the hub's cache) and the Hugging Face hub"
        f" ({constants.ENDPOINT}) {{why}}. " + _WAYS_OUT.format(name=name)
    )
    if constants.is_offline_mode():
        raise HubUnreachableError(unreachable.format(why="is switched off (HF_HUB_OFFLINE)"))
    try:
        info = in_time(lambda: HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_SECONDS))
        files = [file.rfilename for file in info.siblings or []]
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_wanted(name, files))))
    except GatedRepoError as error:
        raise ModelError(
            f"{name!r} asks for consent: accept its licence on the hub, then run 'hf auth login'"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{name!r} has no revision {revision!r} on the Hugging Face hub (model.revision)"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"the Hugging Face hub has no model {name!r} (or it is private: run 'hf auth login'), and there is no"
            " folder of that name here"
        ) from error
    except HfHubHTTPError as error:
        raise HubUnreachableError(unreachable.format(why=f"refused: {first_line(error)}")) from error
    except TimeoutError as error:
        raise HubUnreachableError(unreachable.format(why="did not answer in time")) from error
    except Exception as error:
        if not is_of_network(error):
            if isinstance(error, OSError):
                raise ModelError(
                    f"cannot store {name!r} in the cache {constants.HF_HUB_CACHE!r}: {error.strerror or error};"
                    " make room, or choose another folder with HF_HOME"
                ) from error
            raise
        why = f"did not answer ({first_line(error)})"
        raise HubUnreachableError(unreachable.format(why=why)) from error


def is_of_network(error: BaseException) -> bool:
    """Whether an error is one of the hub's client, which have no common base but their module's name."""
    return type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "huggingface_hub")


def in_time(ask: Callable[[], T]) -> T:
    """The answer, or :class:`TimeoutError` at the deadline, however the network keeps us waiting."""
    outcome: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put((ask(), None))
        except BaseException as error:  # noqa: BLE001 - handed over to the caller
            outcome.put((None, error))

    # A daemon: the program may end while it still waits.
    threading.Thread(target=work, name="hub", daemon=True).start()
    try:
        answer, error = outcome.get(timeout=_HUB_DEADLINE_SECONDS)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return cast(T, answer)


def _wanted(name: str, files: Iterable[str]) -> Iterable[str]:
    """Settings, tokenizer and one set of weights, safetensors before pickles; no copies for other frameworks."""
    names = list(files)
    weights = [file for file in names if _WEIGHTS.fullmatch(file)]
    safe = [file for file in weights if file.endswith(".safetensors")]
    if not weights:
        raise ModelError(f"{name!r} has no PyTorch weights on the hub")
    yield from safe or weights
    others = (*SETTINGS, *_TOKENIZER, CALIBRATION)
    yield from (file for file in names if file in others or file.endswith(".index.json"))


def first_line(error: BaseException) -> str:
    """What an exception says, without the story after it; its class where it says nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]
