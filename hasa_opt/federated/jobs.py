"""Jobs and reports: what an engine is given, and what it gives back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Literal

import numpy as np
from torch import Tensor

from hasa_opt._utils.streams import Key
from hasa_opt.errors import InputError
from hasa_opt.federated.units import Draw
from hasa_opt.models.cuts import Kept
from hasa_opt.models.profile import OPTIMIZERS
from hasa_opt.models.subnets import prefix
from hasa_opt.models.supernet import SupernetModel

if TYPE_CHECKING:
    from hasa_opt.tasks import Split


BATCH_NORMS = ("static", "per_width")


@dataclass(frozen=True)
class LocalTraining:
    """Settings of a client's local training.

    Parameters
    ----------
    local_epochs
        Passes over the client's training samples per round.
    batch_size
        Samples per step.
    learning_rate
        Step size.
    optimizer
        Started anew in each round.
    scaler
        Divide hidden activations by the subnet's width; see :func:`hasa_opt.models.scaled`.
    batch_norm
        Whose statistics tested models use: with "per_width", a client estimates those of its
        subnet once it has trained; see :mod:`hasa_opt.federated.batch_norm`.

    Raises
    ------
    InputError
        If a number is not positive or a name is unknown.
    """

    local_epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.02
    optimizer: Literal["adam", "sgd"] = "adam"
    scaler: bool = False
    batch_norm: Literal["static", "per_width"] = "static"

    def __post_init__(self) -> None:
        for name in ("local_epochs", "batch_size"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < 1:
                raise InputError(f"{name} = {value} must be an integer of at least 1")
        rate = self.learning_rate
        if not (isinstance(rate, Real) and math.isfinite(rate) and rate > 0):
            raise InputError(f"learning_rate = {rate} must be positive and finite")
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"unknown optimizer {self.optimizer!r}: use one of {list(OPTIMIZERS)}")
        if self.batch_norm not in BATCH_NORMS:
            raise InputError(f"unknown batch_norm {self.batch_norm!r}: use one of {BATCH_NORMS}")


@dataclass(frozen=True)
class LocalResult:
    """What a client reports besides its weights.

    Parameters
    ----------
    loss
        Mean training loss over all steps, in nats per target; NaN without a target.
    seconds
        Wall-clock time of the training.
    n_steps
        Number of optimizer steps.
    trained
        Width -> number of samples that trained it, a sample counting once in each epoch.
    """

    loss: float
    seconds: float
    n_steps: int
    trained: Mapping[float, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Job:
    """What one client has to do in a round.

    Parameters
    ----------
    client
        Row of the client.
    width
        Width of its subnet.
    kept
        The units of the supernet that the subnet is made of.
    split
        Its training samples.
    key
        (seed, round, client), of which its random numbers are made.
    draw
        Draws the width that each batch trains of the subnet; None: each trains all of it.
    own
        Parameters that the client has instead of the server's, by name.
    """

    client: int
    width: float
    kept: Kept
    split: Split
    key: Key
    draw: Draw | None = None
    own: Mapping[str, Tensor] = field(default_factory=dict)

    def drawn(self, server: SupernetModel) -> Iterator[tuple[float, Kept]] | None:
        """Width and units that each batch trains, without end; None: all of the subnet."""
        if self.draw is None:
            return None
        return ((width, prefix(server, width)) for width in self.draw(self.width, self.key))


@dataclass(frozen=True, eq=False)
class Report:
    """What a client's training gave.

    Parameters
    ----------
    job
        What it had to do.
    state
        ``state_dict()`` of its trained subnet.
    result
        Loss, time and steps.
    method
        How it was trained: "sequential", or the way in which it was stacked with other clients,
        a name in :data:`hasa_opt.federated.stacks.STACKS`.
    """

    job: Job
    state: Mapping[str, Tensor]
    result: LocalResult
    method: str = "sequential"


Engine = Callable[[SupernetModel, Iterable[Job], LocalTraining], Iterator[Report]]
"""Trains subnets of a supernet, which it leaves as it is; one report per job, in their order.

Jobs are taken from the iterable when they are needed and dropped once reported, so that the splits
of few clients are held at a time.
"""
