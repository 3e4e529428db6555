"""Jobs, reports and updates: what a client is given, what it gives back, what is averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor

from hasa_opt._utils.streams import Key
from hasa_opt.federated.settings import LocalTraining
from hasa_opt.models.cuts import Kept
from hasa_opt.models.subnets import prefix
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.tasks.learning import CLASSES, LearningProblem
from hasa_opt.tasks.splits import Split

Draw = Callable[[float, Key], Iterator[float]]
"""Draws the width of each batch, without end, from the client's width and the key."""


@dataclass(frozen=True, eq=False)
class Job:
    """What one client has to do in a round.

    Attributes
    ----------
    client : int
        Row of the client.
    width : float
        Width of its subnet.
    kept : dict of str to slice or int64 tensor
        The units of the supernet that the subnet is made of.
    split : Split
        Its training samples.
    key : (int, int, int)
        (seed, round, client), of which its random numbers are made; the client by its
        :func:`~hasa_opt._utils.streams.client_number`.
    draw : Draw, optional
        Draws the width that each batch trains of the subnet; None: each trains all of it.
    local : dict of str to tensor
        Parameters that the client has instead of the server's.
    epochs : int, optional
        Its local epochs; None: those of the settings.
    problem : LearningProblem
        What it learns.
    towards : dict of str to tensor, optional
        Weights towards which the client's own model is pulled, by :attr:`LocalTraining.ditto`;
        None: it trains the common model, which FedProx pulls to what it received.
    """

    client: int
    width: float
    kept: Kept
    split: Split
    key: Key
    draw: Draw | None = None
    local: Mapping[str, Tensor] = field(default_factory=dict)
    epochs: int | None = None
    problem: LearningProblem = CLASSES
    towards: Mapping[str, Tensor] | None = None

    def settings(self, training: LocalTraining) -> LocalTraining:
        """How the client trains."""
        if self.towards is not None:
            training = replace(training, proximal=training.ditto)
        alike = self.epochs in (None, training.epochs)
        return training if alike else replace(training, epochs=self.epochs or 1)

    def drawn(self, server: SupernetModel) -> Iterator[tuple[float, Kept]] | None:
        """Width and units that each batch trains, without end; None: all of the subnet."""
        if self.draw is None:
            return None
        return ((width, prefix(server, width)) for width in self.draw(self.width, self.key))


@dataclass(frozen=True)
class LocalResult:
    """What a client reports besides its weights.

    Attributes
    ----------
    loss : float
        Mean training loss over all steps, in nats per target; NaN without a target.
    seconds : float
        Wall-clock time of the training.
    n_steps : int
        Number of optimizer steps.
    trained : dict of float to int
        Width -> number of samples that trained it, a sample counting once in each epoch.
    """

    loss: float
    seconds: float
    n_steps: int
    trained: Mapping[float, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Report:
    """What a client's training gave.

    Attributes
    ----------
    job : Job
        What it had to do.
    state : dict of str to tensor
        ``state_dict()`` of its trained subnet.
    result : LocalResult
        Loss, time and steps.
    method : str
        How it was trained: "sequential", or the way in which it was stacked with other clients,
        a name in :data:`hasa_opt.federated.stacks.STACKS`.
    reason : str
        Why an engine that stacks trained it alone, in words; empty where it did not, or never does.
    """

    job: Job
    state: Mapping[str, Tensor]
    result: LocalResult
    method: str = "sequential"
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Failure:
    """A client whose training ended in an exception.

    Attributes
    ----------
    job : Job
        What it had to do.
    error : Exception
        What was raised.
    """

    job: Job
    error: Exception


class Update(NamedTuple):
    """What one client adds to the average.

    Attributes
    ----------
    width : float
        Width of its subnet.
    samples : float
        Its weight in the average: its number of training samples, or another of at least 0.
    state : dict of str to tensor
        ``state_dict()`` of its subnet.
    kept : dict of str to slice or int64 tensor, optional
        The units of the supernet that it trained; None stands for the prefix of its width.
    """

    width: float
    samples: float
    state: Mapping[str, Tensor]
    kept: Kept | None = None

    def units(self, model: SupernetModel) -> Kept:
        """Units of the supernet that it trained."""
        return prefix(model, self.width) if self.kept is None else self.kept


Engine = Callable[[SupernetModel, Iterable[Job], LocalTraining], Iterator[Report | Failure]]
"""Trains subnets of a supernet, which it leaves as it is; one answer per job, in their order.

The jobs are those of one round. An exception in the training of one client is its own: the others
are trained all the same. Jobs are taken from the iterable when they are needed and dropped once
reported, so that the splits of few clients are held at a time.
"""
