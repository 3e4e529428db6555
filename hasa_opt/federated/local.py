"""Local training: what one client does with its subnet in one round."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Literal

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from hasa_opt.errors import InputError
from hasa_opt.federated.batches import batches, orders, output_layer, summed_loss
from hasa_opt.federated.dropout import ClientDropout
from hasa_opt.federated.parts import Parts
from hasa_opt.federated.statistics import BATCH_NORMS, estimate_statistics
from hasa_opt.models.cuts import Kept
from hasa_opt.models.optimizers import OPTIMIZERS
from hasa_opt.models.rng import seeded_rng
from hasa_opt.models.scaler import scaled
from hasa_opt.models.supernet import SupernetModel

if TYPE_CHECKING:
    from hasa_opt.tasks import Split


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
        subnet once it has trained; see :mod:`hasa_opt.federated.statistics`.

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


def derive_seed(key: Sequence[int]) -> int:
    """Mix integers such as (seed, round, client) into one 63-bit seed.

    Raises
    ------
    InputError
        If a part of the key is negative.
    """
    if any(part < 0 for part in key):
        raise InputError(f"random key {tuple(key)} has a negative part: use integers >= 0")
    mixed = np.random.SeedSequence([int(part) for part in key]).generate_state(1, np.uint64)
    return int(mixed[0]) >> 1


def local_train(
    subnet: SupernetModel,
    split: Split,
    settings: LocalTraining,
    generator_key: tuple[int, int, int],
    width: float = 1.0,
    drawn: Iterator[tuple[float, Kept]] | None = None,
) -> LocalResult:
    """Train a subnet in place on a client's samples.

    Sample order and dropout depend on the key alone: neither on the caller's random state, which is
    left as it was, nor on the clients trained before.

    Parameters
    ----------
    subnet
        The client's model, changed in place.
    split
        The client's training samples.
    settings
        How to train.
    generator_key
        (seed, round, client), each at least 0.
    width
        Width of the subnet.
    drawn
        Width of the part of the subnet that each batch trains, and the units of it. The other
        coordinates get a gradient of zero in that step. By default each batch trains all of it.
    """
    seed = derive_seed(generator_key)
    parameters = list(subnet.parameters())
    optimizer = start_optimizer(parameters, settings)
    device = parameters[0].device
    total, n_targets, n_steps, trained = 0.0, 0, 0, Counter[float]()
    start = time.perf_counter()
    head = output_layer(subnet, split) if drawn is None else None
    parts = Parts(subnet, split)
    subnet.train()
    masks = ClientDropout(seed)
    with seeded_rng(seed), scaled(subnet, width if settings.scaler else 1.0):
        for order in orders(len(split.inputs), settings.local_epochs, seed):
            for inputs, targets in batches(split, settings.batch_size, order, device):
                for parameter in parameters:
                    parameter.grad = None
                own = width
                with masks if masks.used or not n_steps else nullcontext():
                    if drawn is None:
                        loss, count = _backward(subnet, head, inputs, targets)
                    else:
                        own, kept = next(drawn)
                        scale = own if settings.scaler else 1.0
                        with parts.cut(kept) as (part, its_head), scaled(part, scale):
                            loss, count = _backward(part, its_head, inputs, targets)
                optimizer.step()
                total += loss
                n_targets += count
                n_steps += 1
                trained[own] += len(inputs)
    if settings.batch_norm == "per_width":
        estimate_statistics(subnet, [split], settings.batch_size)
    mean_loss = total / n_targets if n_targets else math.nan
    return LocalResult(mean_loss, time.perf_counter() - start, n_steps, trained)


def _backward(
    model: SupernetModel, head: nn.Linear | None, inputs: Tensor, targets: Tensor
) -> tuple[float, int]:
    """Add the gradient of the mean loss; give the summed loss and the number of targets in it."""
    loss, count = summed_loss(model, head, inputs, targets)
    (loss / max(1, count)).backward()  # type: ignore[no-untyped-call]
    return float(loss.detach()), count


def start_optimizer(parameters: Iterable[Tensor], settings: LocalTraining) -> Optimizer:
    """Start the optimizer; the fused step is several times faster on small models."""
    return OPTIMIZERS[settings.optimizer](parameters, lr=settings.learning_rate, fused=True)
