"""A federated task: every client's training, validation and test data, and what it counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from typing import Any

import numpy as np
from torch import Tensor

from hasa_opt._utils.checks import IntArray, expect, listed, sequence, whole
from hasa_opt._utils.files import sha256
from hasa_opt._utils.names import distinct
from hasa_opt.clients.clients import Clients
from hasa_opt.clients.counts import Counts
from hasa_opt.errors import InputError
from hasa_opt.models.inputs import tensors
from hasa_opt.models.states import as_array
from hasa_opt.models.targets import IGNORED, OUTSIDE, counted, known
from hasa_opt.tasks.learning import LearningProblem, Loss, Metric
from hasa_opt.tasks.moments import Moments, Side, moments_of
from hasa_opt.tasks.splits import Lazy, Split, loaded
from hasa_opt.tasks.targets import as_targets

__all__ = ["PADDING", "PARTS", "UNKNOWN", "Task", "split_rows"]

PADDING, UNKNOWN = 0, 1
"""Token ids that stand for no word: a filled-up position and a word outside the vocabulary."""

PARTS = ("train", "validation", "test")
"""Names of the splits."""


@dataclass(frozen=True, eq=False)
class Task:
    """What a study trains on: one entry per client in every sequence.

    Parameters
    ----------
    name : str
        The name that tables and reports show.
    client_names : n_clients distinct strings
    train, validation, test : n_clients splits each
        No training split may be empty; where another is, nothing is measured. Sequences of
        :class:`Split`, or :class:`Lazy`, whose splits are loaded when a client is drawn.
    counts : (n_clients, n_labels) integers
        Tokens or labels that each client counted in its *training* split: an array, lists, a sparse
        matrix of scipy, or a data frame. The rows of a frame that is indexed by the names of the
        clients are put into their order.
    n_outputs : int
        Classes that the model predicts: the vocabulary size of a language task.
    labels : n_outputs strings, optional
        The word or class behind each output.
    fingerprint : dict of str to str, optional
        What identifies the data: versions, checksums, seeds. Of lazy splits, nothing else does.
    loss : str or function, optional
        What is minimised, see :class:`LearningProblem`, and so what the targets are: for example
        the token after each position ("next_token"), of which some are outside the vocabulary (-1).
        Default: "next_token" for a split whose targets are its inputs moved on by one position,
        "cross_entropy" for others.
    metric : str, function or object, optional
        What models are judged by, see :class:`LearningProblem`.
    higher_is_better : bool, optional
        Whether more of the metric is better, where it does not say so itself.
    counted : str
        What the counts are of, in words, for reports.

    Raises
    ------
    InputError
        If the parts disagree in length, a client has an empty split, a target is neither an output
        nor one of the numbers that stand for none (a lazy split says so when it is loaded), or no
        training target has a label.
    """

    name: str
    client_names: tuple[str, ...]
    train: Sequence[Split]
    validation: Sequence[Split]
    test: Sequence[Split]
    counts: Counts
    n_outputs: int
    labels: tuple[str, ...] = ()
    fingerprint: dict[str, str] = field(default_factory=dict)
    loss: Loss | None = None
    metric: Metric | None = None
    higher_is_better: bool | None = None
    counted: str = ""

    def __post_init__(self) -> None:
        try:
            _ = self.problem
            n_outputs = whole(self.n_outputs, "n_outputs", least=1)
            object.__setattr__(self, "n_outputs", n_outputs)
            _take_clients(self)
            _take_splits(self)
        except InputError as error:
            raise InputError(f"task {self.name!r}: {error}") from error
        object.__setattr__(self, "labels", tuple(self.labels))
        if self.labels and len(self.labels) != self.n_outputs:
            raise InputError(
                f"task {self.name!r} has {len(self.labels)} labels for {self.n_outputs} outputs: "
                "give one label per output or none"
            )

    def __len__(self) -> int:
        return len(self.client_names)

    def __repr__(self) -> str:
        return (
            f"Task({self.name!r}, n_clients={len(self)}, samples={int(self.samples.sum())}, "
            f"n_outputs={self.n_outputs})"
        )

    @cached_property
    def problem(self) -> LearningProblem:
        """What is learned, and how it is judged."""
        return LearningProblem(self.loss or "cross_entropy", self.metric, self.higher_is_better)

    @property
    def samples(self) -> IntArray:
        """Training samples of each client, ``(n_clients,)``."""
        return _sizes(self.train)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the counts and of every split that is not lazy, in hexadecimal."""
        table = self.counts
        counts = (
            [table] if isinstance(table, np.ndarray) else [table.data, table.indices, table.indptr]
        )
        parts = (getattr(self, name) for name in PARTS)
        splits = chain.from_iterable(part for part in parts if not isinstance(part, Lazy))
        held = chain.from_iterable((*tensors(split.inputs), split.targets) for split in splits)
        return sha256(chain(counts, map(as_array, held)))

    def check_learnable(self, known: Iterable[Split] = ()) -> None:
        """Refuse a task of which no training target can be learned.

        Of lazy splits so many are loaded as it takes to find one. A run calls this before it
        begins; a task whose splits are not lazy does so when it is made.

        Parameters
        ----------
        known : iterable of Split
            Training splits that are loaded already, which are looked at first.

        Raises
        ------
        InputError
            With the remedy.
        """
        others = (split for _, split in loaded(self.train))
        if not any(_teaches(split, self.problem) for split in chain(known, others)):
            raise InputError(
                "no training target has a known label, so there is nothing to learn: correct the "
                "targets; where every word is too rare for the vocabulary, give more texts, or "
                "lower min_count"
            )

    def moments(self, of: Side) -> Moments:
        """Mean and variance of each client's training numbers, for scores where nothing is counted.

        Parameters
        ----------
        of : {"inputs", "targets"}

        Returns
        -------
        Moments
            Such as ``hasa_opt.scores.frechet(*task.moments("inputs"))`` takes.

        Raises
        ------
        InputError
            If they are token ids or classes, or of several shapes.
        """
        return moments_of(of, self.client_names, self.train)

    def clients(self) -> Clients:
        """Columns that scores and allocations need; they see the training data alone."""
        return Clients(self.samples, counts=self.counts, names=self.client_names)


def split_rows(size: int, rng: np.random.Generator) -> tuple[IntArray, IntArray, IntArray]:
    """Shuffle the rows of one client and share them out 70/15/15.

    The shares depend on the number of rows and on the generator, never on what the rows hold.

    Parameters
    ----------
    size : int
        Rows of the client, at least 3: every split gets at least one.
    rng : numpy Generator

    Returns
    -------
    train, validation, test : int64 arrays
        Row numbers; together every row once.
    """
    if size < len(PARTS):
        raise InputError(f"{size} sample(s) cannot fill three splits: at least 3 are needed")
    held_out = max(1, round(0.15 * size))
    validation, test, train = np.split(rng.permutation(size), [held_out, 2 * held_out])
    return train, validation, test


def _sizes(splits: Sequence[Split]) -> IntArray:
    """Samples in each client's split, ``(n_clients,)``, without loading lazy ones."""
    if isinstance(splits, Lazy):
        return splits.sizes.astype(np.int64)
    return np.array([len(split) for split in splits], dtype=np.int64)


def _take_clients(task: Task) -> None:
    """Check names and counts as those of :class:`hasa_opt.Clients`, which they become."""
    names = distinct(task.client_names, "client_names")
    if not names:
        raise InputError("there are no clients: give at least one")
    ones = np.ones(len(names), dtype=np.int64)
    clients = Clients(ones, counts=_in_order(task.counts, names), names=names)
    object.__setattr__(task, "client_names", names)
    object.__setattr__(task, "counts", clients.counts)


def _in_order(counts: Any, names: tuple[str, ...]) -> Any:
    """Put the rows of a data frame that is indexed by the clients' names into their order."""
    if not hasattr(counts, "iloc"):
        return counts
    index = [str(label) for label in counts.index]
    if index in ([str(row) for row in range(len(names))], list(names)):
        return counts.to_numpy()
    if sorted(index) != sorted(names):
        raise InputError(
            f"the frame of counts has rows for {listed(index, repr)}, but the clients are "
            f"{listed(names, repr)}: index it by the names of the clients"
        )
    return counts.iloc[[index.index(name) for name in names]].to_numpy()


def _take_splits(task: Task) -> None:
    """Check every split that is there, and let lazy ones be checked when they are loaded."""
    n_clients = len(task.client_names)
    for part in PARTS:
        splits = getattr(task, part)
        check = partial(_check_split, part, task)
        splits = splits.checked(check) if isinstance(splits, Lazy) else sequence(splits, part)
        if len(splits) != n_clients:
            raise InputError(
                f"{part!r} has {len(splits)} entries for {n_clients} clients: give one per client"
            )
        object.__setattr__(task, part, splits)
        if part == "train" and isinstance(splits, Lazy) and (splits.sizes == 0).any():
            raise _empty(_whose(part, task, int(splits.sizes.argmin())))
        if not isinstance(splits, Lazy):
            for row, split in enumerate(splits):
                check(row, split)
    if not isinstance(task.train, Lazy):
        task.check_learnable()


def _teaches(split: Split, problem: LearningProblem) -> bool:
    return not problem.has_classes(split.targets) or bool(known(split.targets).any())


def _whose(part: str, task: Task, row: int) -> str:
    return f"the {part} split of client {task.client_names[row]!r}"


def _empty(where: str) -> InputError:
    return InputError(f"{where} is empty: give it at least one sample or leave the client out")


def _check_split(part: str, task: Task, row: int, split: Split) -> None:
    """Refuse a split without samples, and targets that are not what the loss takes."""
    where = _whose(part, task, row)
    expect(split, Split, where, package="hasa_opt.tasks")
    if not len(split):
        if part == "train":
            raise _empty(where)
        return
    if not split.targets.numel():
        raise InputError(f"{where} has targets of shape {tuple(split.targets.shape)}: give some")
    problem = task.problem
    if problem.has_classes(split.targets):
        _check_classes(where, split, task.n_outputs, task.loss)
        return
    try:
        as_targets(split.targets, problem.loss)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if problem.loss == "cross_entropy" and split.targets.shape[-1] != task.n_outputs:
        raise InputError(
            f"{where} has soft labels of shape {tuple(split.targets.shape)}, which must end in the "
            f"{task.n_outputs} outputs of the task"
        )


def _check_classes(where: str, split: Split, n_outputs: int, loss: Loss | None) -> None:
    """Refuse targets that are neither an output nor stand for none."""
    if loss == "next_token" and split.targets.shape != split.tensor.shape:
        raise InputError(
            f"{where} has targets of shape {tuple(split.targets.shape)} for inputs of shape "
            f"{tuple(split.tensor.shape)}: loss='next_token' takes one for each position"
        )
    lowest, highest = (int(value) for value in split.targets.aminmax())
    if highest >= n_outputs:
        raise InputError(
            f"{where} has the target {highest} for {n_outputs} outputs: targets are below n_outputs"
        )
    if lowest >= 0:
        return
    is_outside = split.targets == OUTSIDE
    wrong = ~known(split.targets) & counted(split.targets)
    if loss == "next_token" or (loss is None and is_outside.any() and _moved_on(split)):
        wrong &= ~is_outside
    if bool(wrong.any()):
        raise InputError(
            f"{where} has the target {int(split.targets[wrong][0])}, which is no class: classes "
            f"are numbered from 0, and {IGNORED} says that there is nothing to predict; {OUTSIDE}, "
            "a word outside the vocabulary, needs loss='next_token'"
        )


def _moved_on(split: Split) -> bool:
    """Whether targets with a label are the tokens that follow, wherever these are there to see."""
    inputs, targets = split.inputs, split.targets
    if not isinstance(inputs, Tensor):
        return False
    if inputs.is_floating_point() or inputs.shape != targets.shape:
        return False
    following, present = inputs[:, 1:], targets[:, :-1]
    seen = known(present) & (following != PADDING)
    return bool((following[seen] == present[seen]).all())
