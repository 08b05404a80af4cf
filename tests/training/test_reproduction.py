"""The recipe gives the logged loss curve again: the first 2 % of its steps, on a GPU.

    TRAINING_DATA=packed TRAINING_TEACHER=folder python -m pytest --noconftest -m slow tests/training

Minutes on a large GPU, most of them for the teachers' lessons (TRAINING_LESSONS names a finished lessons.pt); days
on two cores.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOG = Path(os.environ.get("TRAINING_LOG", ROOT / "training" / "log.csv"))


def losses(log: Path, until: int) -> dict[int, float]:
    with log.open(newline="") as file:
        return {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file) if int(row["step"]) <= until}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(
    "TRAINING_DATA" not in os.environ, reason="needs TRAINING_DATA and TRAINING_TEACHER, and a GPU"
)
def test_two_per_cent_of_the_steps_give_the_logged_losses(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("the recipe was run on a GPU; on a CPU 2 % of it take days")
    sys.path.insert(0, str(ROOT))
    from training.recipe import Recipe

    steps = Recipe().epochs * (100_000 // Recipe().batch) * 2 // 100
    if "TRAINING_LESSONS" in os.environ:
        shutil.copy(os.environ["TRAINING_LESSONS"], tmp_path / "lessons.pt")
    data, teacher = os.environ["TRAINING_DATA"], os.environ["TRAINING_TEACHER"]
    command = [sys.executable, "-m", "training.train", "--data", data, "--teacher", teacher]
    subprocess.run([*command, "--out", str(tmp_path), "--stop-at", str(steps)], cwd=ROOT, check=True)
    logged, again = losses(LOG, steps), losses(tmp_path / "log.csv", steps)
    assert len(again) >= 5
    assert again.keys() == logged.keys()
    for step, loss in again.items():
        # Sums in another order (atomics, bfloat16) differ in the last digits and drift apart slowly.
        assert loss == pytest.approx(logged[step], rel=0.03), f"step {step}"
