"""What a device sends back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from flwr.app import ConfigRecord, Message, MetricRecord
from torch import Tensor

from hasa_opt.federated import LocalResult
from hasa_opt.flower.packing import MEASURED, TRAINED, load, readable, unpack
from hasa_opt.tasks import Split

__all__ = ["TESTS", "Trained", "tell", "tested"]

TESTS = ("validation_loss", "validation_accuracy", "test_loss", "test_accuracy")
"""What a device measures of the new supernet."""


def tell(result: LocalResult, split: Split) -> dict[str, ConfigRecord | MetricRecord]:
    """Pack what a training measured, and what its cost follows from."""
    return {
        MEASURED: MetricRecord({"train_loss": result.loss, "seconds": result.seconds}),
        TRAINED: ConfigRecord(
            {
                "widths": list(result.trained),
                "samples": list(result.trained.values()),
                "shape": list(split.inputs.shape[1:]),
                "floating": split.inputs.is_floating_point(),
            }
        ),
    }


@dataclass(frozen=True, eq=False)
class Trained:
    """What a device sends back.

    Attributes
    ----------
    state : dict of str to Tensor
        Weights of its subnet.
    loss, seconds : float
    counts : dict of float to int
        How many samples trained which width.
    sample : Tensor
        Zeros of the shape of one input.
    """

    state: dict[str, Tensor]
    loss: float
    seconds: float
    counts: dict[float, int]
    sample: Tensor

    @classmethod
    def read(cls, message: Message) -> Self:
        """Unpack it.

        Raises
        ------
        InputError
            If something is missing or of another kind.
        """
        with readable():
            own, measured = load(message, TRAINED), load(message, MEASURED)
            return cls(
                unpack(message),
                float(measured["train_loss"]),
                float(measured["seconds"]),
                dict(zip(own["widths"], own["samples"], strict=True)),
                torch.zeros(
                    (1, *own["shape"]), dtype=torch.float32 if own["floating"] else torch.int64
                ),
            )


def tested(message: Message) -> dict[str, float]:
    """Unpack losses and accuracies.

    Raises
    ------
    InputError
        If one is missing or no number.
    """
    with readable():
        measured = load(message, MEASURED)
        return {name: float(measured[name]) for name in TESTS}
