"""Several processes that train one network together, as ``torchrun`` and ``accelerate launch`` start them.

The first one does everything that a single process does; the others wait until they are given something to train.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from imagesearch.errors import ModelError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

# How long one waits for another: the first one indexes pictures meanwhile. One that dies is noticed at once.
_PATIENCE = timedelta(days=30)


class FirstProcessError(ModelError):
    """The first process failed, and says why."""


class OtherProcessError(ModelError):
    """Another process ended while this one needed it."""


class SharedError(ModelError):
    """All processes failed in the same way, and the first one says how."""


@dataclass(slots=True)
class Team:
    """The processes that train together, and which of them this one is.

    Attributes:
        rank: from 0.
        size: how many there are.
        is_training: whether all of them are within a training, where they cannot be told anything else.
    """

    rank: int = 0
    size: int = 1
    is_training: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reads, prints, measures and writes."""
        return self.rank == 0

    def hand_out(self, value: Any = None) -> Any:
        """The first process's value, in all of them; each has to call this, and waits for the first one.

        Raises:
            FirstProcessError: the first process failed meanwhile; in the others.
            OtherProcessError: another one ended.
        """
        if self.size == 1:
            return value
        import torch.distributed

        box = [value]
        with needing_others():
            torch.distributed.broadcast_object_list(box, src=0)
        if isinstance(box[0], FirstProcessError) and not self.is_first:
            raise box[0]
        return box[0]

    def total(self, numbers: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, without derivatives."""
        if self.size == 1:
            return numbers
        import torch.distributed

        summed = numbers.detach().clone()
        torch.distributed.all_reduce(summed)
        return summed

    def rows(self, own: torch.Tensor) -> torch.Tensor:
        """The rows of all processes, one process's after the other's; with derivatives to this one's.

        Each process computes the same loss of them all. As gradients are averaged over processes afterwards,
        those of the rows, which differ, count as often as there are processes.
        """
        if self.size == 1:
            return own
        import torch
        import torch.distributed

        counts = [torch.zeros(1, dtype=torch.int64, device=own.device) for _ in range(self.size)]
        torch.distributed.all_gather(counts, torch.tensor([len(own)], device=own.device))
        lengths = [int(count) for count in counts]
        padded = own.detach().new_zeros((max(lengths), *own.shape[1:]))
        padded[: len(own)] = own.detach()
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        torch.distributed.all_gather(parts, padded)
        rows = [part[:length] for part, length in zip(parts, lengths, strict=True)]
        rows[self.rank] = _times(own, self.size) if own.requires_grad else own
        return torch.cat(rows)


def _times(rows: torch.Tensor, factor: int) -> torch.Tensor:
    """The same rows, whose gradient is that many times as large."""
    return rows * factor - (rows * (factor - 1)).detach()


def launched_team() -> Team:
    """What a launcher says of this process; without one it is alone.

    Raises:
        ModelError: what it says makes no sense.
    """
    try:
        return Team(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
    except ValueError as error:
        raise ModelError(f"RANK and WORLD_SIZE, as torchrun sets them, are no numbers: {error}") from error


@contextlib.contextmanager
def joined(device: str) -> Iterator[Team]:
    """Meet the other processes, if there are some.

    Args:
        device: the device that was chosen.

    Raises:
        ModelError: they do not answer.
    """
    team = launched_team()
    if team.size == 1:
        yield team
        return
    import torch.distributed

    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        torch.distributed.init_process_group(backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"the processes of this training do not meet: {error}") from error
    yield team
    # Not after an error, when others may be waiting for this one: its end tells them.
    torch.distributed.destroy_process_group()


@contextlib.contextmanager
def needing_others() -> Iterator[None]:
    """A block that other processes take part in; this one's own errors stay as they are.

    Raises:
        OtherProcessError: another one ended.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_of_connection(error):
            raise
        raise OtherProcessError("another process of this training ended: see its message") from error


def _is_of_connection(error: RuntimeError) -> bool:
    """Whether processes could not reach each other. Gloo has no class of errors, but names its source files."""
    import torch.distributed

    return isinstance(error, torch.distributed.DistError) or "gloo/" in str(error)


@contextlib.contextmanager
def leading(team: Team) -> Iterator[None]:
    """In the first process: the others are told when there is nothing left to do, or that it failed."""
    try:
        yield
    except BaseException:
        if not team.is_training:
            with contextlib.suppress(OtherProcessError):  # that has ended, and need not be told
                team.hand_out(FirstProcessError("the first process failed"))
        raise
    team.hand_out(None)


def follow(team: Team, work: Callable[[Any], object]) -> None:
    """In every other process: do what the first one hands out, until it is done.

    Raises:
        FirstProcessError: it failed.
        OtherProcessError: another one ended.
    """
    while (task := team.hand_out()) is not None:
        with contextlib.suppress(SharedError):  # the first one tells what comes of it
            work(task)
