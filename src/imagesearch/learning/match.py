"""The contestants of a training, one after the other, all measured with the same pictures set aside."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from imagesearch.errors import UsageError
from imagesearch.learning import contest
from imagesearch.learning.contest import Contestant
from imagesearch.learning.fine_tuned import FineTuned, fine_tune_on
from imagesearch.learning.label_sets import LabelledPictures
from imagesearch.learning.logistic import Numbers
from imagesearch.learning.metrics import Floats
from imagesearch.learning.mistakes import Examination
from imagesearch.learning.probe import train_probe
from imagesearch.learning.splits import find_relations, report_split, split, unrelated
from imagesearch.models.fine_tuning import Reader
from imagesearch.models.hub import Checkpoint
from imagesearch.models.network import LoadedModel
from imagesearch.models.new_head import load_with_new_head, set_head
from imagesearch.models.processes import Team
from imagesearch.models.trainer import Plan
from imagesearch.records import Progress, no_progress
from imagesearch.stores.base import Vectors


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for all contestants.

    Attributes:
        held_out: the part of the pictures to measure with.
        folds: of cross-validation.
        balanced: whether rare classes count as much as frequent ones.
        seed: of everything random.
    """

    held_out: float = 0.2
    folds: int = 5
    balanced: bool = False
    seed: int = 0


class Match:
    """Pictures learnt from and set aside, and who competes; the neighbours come first, then the probe.

    Attributes:
        contestants: so far.
        tuned: what was fine-tuned, by method.
        split_report: what was set aside, and why.
    """

    def __init__(
        self,
        labelled: LabelledPictures,
        terms: Terms,
        *,
        is_searchable: bool = True,
        encode: Callable[[Sequence[str]], Vectors] | None = None,
        progress: Progress = no_progress,
    ) -> None:
        """Set pictures aside.

        Args:
            labelled: the pictures.
            terms: how they are split, and more.
            is_searchable: whether their vectors, which a head is given, are those that are searched.
            encode: where they are not, makes those of the untrained model, shape (n, dim), of files; None:
                retrieval is not measured then.
            progress: told of the stages ``"fit"`` and ``"train"``.

        Raises:
            UsageError: nothing can be set aside.
        """
        self._labelled, self._terms, self._progress = labelled, terms, progress
        self._is_searchable = is_searchable
        relations = find_relations(labelled.pictures, labelled.vectors)
        self._parts, naive = (
            split(labelled.members, heeded, held_out=terms.held_out, seed=terms.seed)
            for heeded in (relations, unrelated(len(labelled.pictures)))
        )
        self._groups = relations.groups
        self.split_report = report_split(labelled, self._parts, relations, naive)
        self._truth = labelled.members[self._parts.held_out]
        self._retrieve = partial(contest.retrieve, labelled, self._parts, seed=terms.seed)
        self._before = np.empty(0)
        if is_searchable:
            self._before = self._retrieve(labelled.vectors[self._parts.held_out])
        elif encode is not None:
            self._before = self._retrieve(
                encode([labelled.pictures[place].path for place in self._parts.held_out])
            )
        self.contestants: list[Contestant] = []
        self.tuned: dict[str, FineTuned] = {}

    def add_neighbours(self) -> None:
        """The baseline."""
        began = time.monotonic()
        predictions, k = contest.predict_by_neighbours(self._labelled, self._parts, self._groups)
        seconds = time.monotonic() - began
        measured = contest.measure(
            contest.BASELINE,
            predictions,
            self._truth,
            retrieval=self._before,
            detail=f"k = {k}",
            seconds=seconds,
            seed=self._terms.seed,
        )
        self.contestants.append(measured)

    def add_probe(self) -> None:
        """The linear probe; it leaves the network as it is, and with it the vectors that are searched.

        Raises:
            UsageError: see :func:`~imagesearch.learning.probe.train_probe`.
        """
        labelled, training, terms = self._labelled, self._parts.training, self._terms
        began = time.monotonic()
        self.probe = train_probe(
            labelled.vectors[training],
            labelled.members[training],
            self._groups[training],
            fold_count=terms.folds,
            several=labelled.is_multi_label,
            balanced=terms.balanced,
            seed=terms.seed,
            progress=self._progress,
        )
        seconds = time.monotonic() - began
        logits = self.probe.linear.logits(labelled.vectors[self._parts.held_out])
        self._add("probe", logits, self._before, f"L2 {self.probe.l2:g}", seconds)

    def add_fine_tuned(
        self,
        plan: Plan,
        checkpoint: Checkpoint,
        *,
        read: Reader,
        folder: Path,
        device: str = "auto",
        team: Team | None = None,
    ) -> None:
        """The network trained further, beginning with the probe.

        Args:
            plan, checkpoint, read, folder, device, team: see
                :func:`~imagesearch.learning.fine_tuned.fine_tune_on`.

        Raises:
            ModelError, PictureError, UsageError: see there.
        """
        began = time.monotonic()
        found = fine_tune_on(
            self._labelled,
            self._parts,
            plan,
            checkpoint,
            groups=self._groups,
            l2=self.probe.l2,
            read=read,
            folder=folder,
            balanced=self._terms.balanced,
            device=device,
            progress=self._progress,
            team=team,
        )
        seconds = time.monotonic() - began
        self.tuned[plan.method] = found
        vectors = found.inputs if self._is_searchable else found.vectors
        retrieval = self._before if vectors is None else self._retrieve(vectors)
        detail = f"{plan.loss}, " if plan.is_for_retrieval else ""
        epochs = f"{found.tuned.epochs} epoch{'s' * (found.tuned.epochs != 1)}"
        detail += f"{epochs}, {found.tuned.trained / 1e6:.2g} M weights"
        if 0 < found.tuned.at_once < plan.batch_size and (team is None or team.size == 1):
            detail += f", {found.tuned.at_once} pictures in memory at once"
        self._add(plan.method, found.logits, retrieval, detail, seconds)

    def _add(self, name: str, logits: Numbers, retrieval: Floats, detail: str, seconds: float) -> None:
        measured = contest.measure_logits(
            name,
            logits,
            self._truth,
            several=self._labelled.is_multi_label,
            retrieval=retrieval,
            baseline=self.contestants[0],
            detail=detail,
            seconds=seconds,
            seed=self._terms.seed,
        )
        self.contestants.append(measured)

    def best_for_labels(self) -> int:
        """The place of the contestant that is right most often, not counting the neighbours."""
        return max(range(1, len(self.contestants)), key=lambda place: (self._accuracy(place), -place))

    def best_for_retrieval(self) -> int:
        """The place of the one whose vectors find best, of those whose vectors were trained.

        Raises:
            UsageError: retrieval cannot be measured.
        """
        found = {
            place: one.retrieval.value
            for place, one in enumerate(self.contestants)
            if one.name in self.tuned and one.retrieval is not None
        }
        if not found:
            raise UsageError(
                "retrieval cannot be measured: at least two classes are needed among the pictures set aside, and"
                " two pictures of one of them (--held-out)"
            )
        return max(found, key=lambda place: (found[place], -place))

    def _accuracy(self, place: int) -> float:
        return self.contestants[place].accuracy.value

    def forget_checkpoints(self) -> None:
        """Remove the checkpoints of trainings that came to their end; those that were interrupted may go on."""
        for one in self.tuned.values():
            if one.tuned.stopped != "interrupted":
                shutil.rmtree(one.folder, ignore_errors=True)

    def per_class(self, place: int) -> Mapping[str, dict[str, float]]:
        """Measures of one contestant by class; see :func:`~imagesearch.learning.contest.per_class`."""
        return contest.per_class(self.contestants[place].predictions, self._truth, self._labelled.names)

    def examination(self, place: int) -> Examination:
        """What one contestant, other than the neighbours, says of each picture set aside."""
        one, aside = self.contestants[place], self._parts.held_out.tolist()
        assert one.scores is not None  # neighbours have none
        paths = [self._labelled.pictures[number].path for number in aside]
        return Examination(paths, self._labelled.names, self._truth, one.predictions, one.scores)

    def network(self, place: int, checkpoint: Checkpoint) -> LoadedModel:
        """The network of one contestant, but for the neighbours, which have none.

        Raises:
            ModelError: it cannot be loaded.
        """
        name, labelled = self.contestants[place].name, self._labelled
        if name in self.tuned:
            return self.tuned[name].tuned.loaded
        loaded = load_with_new_head(checkpoint, labelled.names, several=labelled.is_multi_label)
        set_head(loaded, self.probe.linear.weights, self.probe.linear.bias)
        return loaded
