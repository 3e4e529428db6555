"""Assembly: from each client's splits, of whatever source, to a task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hasa_opt._utils.checks import listed
from hasa_opt.errors import InputError
from hasa_opt.tasks.dealing import Shares
from hasa_opt.tasks.learning import LearningProblem, Loss, Metric
from hasa_opt.tasks.splits import Split
from hasa_opt.tasks.summary import count_outputs, describe_counts, summarize
from hasa_opt.tasks.task import Task

__all__ = ["Recipe", "check_names"]


@dataclass(frozen=True)
class Recipe:
    """What all sources of data are asked for alike.

    Parameters
    ----------
    loss, metric, higher_is_better
        As in :class:`LearningProblem`.
    shares : Shares
        What is held out where no split is given.
    n_outputs : int or None
        None: what the targets show.
    counts : (n_clients, n_labels) integers or None
        None: what :func:`~hasa_opt.tasks.summary.summarize` counts.
    name : str
        Of the task.
    """

    loss: Loss
    metric: Metric | None
    higher_is_better: bool | None
    shares: Shares
    n_outputs: int | None
    counts: Any
    name: str

    @property
    def problem(self) -> LearningProblem:
        """What is learned."""
        return LearningProblem(self.loss, self.metric, self.higher_is_better)

    def outputs(self, splits: Iterable[Split]) -> int:
        """How many outputs splits show; of tokens the inputs count too."""
        problem, most = self.problem, 1
        for split in splits:
            if len(split):
                tokens = int(split.tensor.max()) + 1 if problem.loss == "next_token" else 1
                most = max(most, tokens, count_outputs(problem, split.targets))
        return most

    def make(
        self,
        names: Sequence[str],
        splits: Mapping[str, Sequence[Split]],
        train_targets: Sequence[Tensor],
        n_outputs: int,
        *,
        labels: Sequence[str] = (),
        fingerprint: Mapping[str, str] | None = None,
    ) -> Task:
        """Make the task.

        Parameters
        ----------
        names : n_clients strings
        splits : {"train", "validation", "test"} to n_clients splits
        train_targets : n_clients tensors
        n_outputs : int
            As many as the data show.
        labels : sequence of str
            Names of the classes.
        fingerprint : dict of str to str, optional
            What identifies the data beside the seed.
        """
        counts, counted = self.counts, "given counts"
        if counts is None:
            counts = summarize(self.problem, train_targets)
            counted = describe_counts(self.problem, train_targets[0])
        return Task(
            self.name,
            tuple(names),
            splits["train"],
            splits["validation"],
            splits["test"],
            counts,
            self.n_outputs or len(labels) or n_outputs,
            labels=tuple(labels),
            fingerprint={"seed": str(self.shares.seed), **(fingerprint or {})},
            loss=self.loss,
            metric=self.metric,
            higher_is_better=self.higher_is_better,
            counted=counted,
        )


def check_names(part: str, given: Iterable[str], names: Sequence[str]) -> None:
    """Refuse clients of a given split that have no training samples.

    Raises
    ------
    InputError
        Naming them.
    """
    unknown = [owner for owner in given if owner not in names]
    if unknown:
        raise InputError(
            f"{part} has samples of {listed(unknown, repr)}, who has none to train on: the clients "
            f"are {listed(names, repr)}"
        )
