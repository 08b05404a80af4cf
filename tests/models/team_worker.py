"""What each of several processes does in ``test_processes.py``: train tiny networks together.

    torchrun --nproc-per-node 2 -m tests.models.team_worker FOLDER CHECKPOINT...

FOLDER has a folder of pictures for each checkpoint, of its name; what became of them is written to FOLDER. Without
torchrun, :func:`fail` trains in a process that the test starts itself.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagesearch.errors import ImageSearchError, ModelError, PictureError
from imagesearch.learning.fine_tuned import mean_average_precision
from imagesearch.models.fine_tuning import Examples, Tuned, fine_tune, run_network
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.new_head import load_with_new_head
from imagesearch.models.processes import Team, follow, joined, leading
from imagesearch.models.trainer import Plan

CLASSES, TRAINED, ALL = 3, 33, 48

# With 33 pictures in batches of up to 12: the last ones are no multiple of the number of processes.
PLANS: dict[str, dict[str, Any]] = {
    "labels": {"loss": "cross-entropy"},
    "several": {"loss": "cross-entropy", "several": True},
    "contrastive": {"loss": "contrastive"},
    "arcface": {"loss": "arcface"},
    "proxy-anchor": {"loss": "proxy-anchor"},
}


def read(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def examples(folder: Path) -> tuple[Examples, Examples]:
    paths = [str(folder / f"{place}.png") for place in range(ALL)]
    targets = np.eye(CLASSES, dtype=np.float32)[np.arange(ALL) % CLASSES]
    importance = np.linspace(0.2, 3, TRAINED, dtype=np.float32)
    return Examples(paths[:TRAINED], targets[:TRAINED], importance), Examples(paths[TRAINED:], targets[TRAINED:])


def train(name: str, checkpoint: str, folder: Path, team: Team) -> tuple[Tuned, np.ndarray]:
    """Train one network by one plan; and what it gives of the pictures to validate with."""
    import torch

    plan = Plan(method="full", epochs=2, batch_size=12, learning_rate=1e-3, **PLANS[name])
    torch.manual_seed(0)
    loaded = load_with_new_head(find_checkpoint(checkpoint), ["a", "b", "c"], several=plan.several)
    score = mean_average_precision if plan.is_for_retrieval else None
    pictures = examples(folder)
    place = folder / f"{name}-{team.size}"
    done = fine_tune(loaded, pictures, read, place, plan, device="cpu", score=score, team=team)
    return done, run_network(loaded, pictures[1].paths, read, device="cpu").inputs


def gathered(team: Team) -> tuple[np.ndarray, np.ndarray]:
    """Rows of all processes, of which each has another number; and the derivative of the sum of their squares."""
    import torch

    own = torch.full((team.rank + 2, 2), team.rank + 1.0, requires_grad=True)
    rows = team.rows(own)
    (rows**2).sum().backward()
    assert own.grad is not None
    return rows.detach().numpy(), own.grad.numpy()


def fail(world: dict[str, str], said: Path, rank: int, how: str, checkpoint: str, folder: Path) -> None:
    """Train until the process of that rank fails: to load the network, or to read a picture in the middle.

    Args:
        world: the environment, in which a launcher would say which of the processes this is.
        said: the file that stderr goes to.
    """
    os.environ.clear()
    os.environ.update(world)
    with said.open("wb") as file:
        os.dup2(file.fileno(), 2)
    count = 0
    errors: dict[str, Exception] = {
        "load": ModelError("damaged"),
        "picture": PictureError("x.png", "No such file or directory"),
        "bug": RuntimeError("a bug"),
    }

    def read_or_fail(path: str) -> Image.Image:
        nonlocal count
        count += 1
        if team.rank == rank and count > TRAINED:
            raise errors[how]
        return read(path)

    def work(_: object = None) -> None:
        if team.rank == rank and how == "load":
            raise errors[how]
        loaded = load_with_new_head(find_checkpoint(checkpoint), ["a", "b", "c"])
        plan = Plan(method="full", epochs=5, batch_size=12)
        fine_tune(loaded, examples(folder), read_or_fail, folder / "failed", plan, device="cpu", team=team)

    try:
        with joined("cpu") as team:
            if team.is_first:
                with leading(team):
                    team.hand_out("work")
                    work()
            else:
                follow(team, work)
    except (ImageSearchError, RuntimeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)  # as the command line does: threads of gloo may abort a process that frees every object


def main() -> None:
    folder, *checkpoints = sys.argv[1:]
    with joined("cpu") as team:
        rows, gradient = gathered(team)
        if team.is_first:
            np.savez(Path(folder, "rows.npz"), rows=rows, gradient=gradient)
        for number, checkpoint in enumerate(checkpoints):
            for name in PLANS if number == 0 else list(PLANS)[:1]:
                done, found = train(name, checkpoint, Path(folder, Path(checkpoint).name), team)
                losses = [epoch["loss"] for epoch in done.history]
                if team.is_first:
                    np.savez(Path(folder, f"{Path(checkpoint).name}-{name}.npz"), found=found, losses=losses)


if __name__ == "__main__":
    main()
