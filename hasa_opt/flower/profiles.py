"""What a device tells of itself before it is given anything to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from flwr.app import ConfigRecord
from torch import Tensor

from hasa_opt._utils.checks import IntArray, whole_numbers
from hasa_opt._utils.scale import Scale
from hasa_opt.flower.messages import readable, sample_of

__all__ = ["Profile"]

_CLOCK = "clock."


@dataclass(frozen=True, eq=False)
class Profile:
    """What a device tells of itself before the first round.

    Attributes
    ----------
    partition : int
        Which part of the data it holds; it identifies the device, as Flower's node ids are random.
    name : str
    samples : int
        Training samples.
    counts : (n_labels,) integers
    max_width : float
    metric : str
    higher_is_better : bool
        What it is judged by.
    shape : tuple of int
        Of one input.
    floating : bool
        Whether inputs are numbers, and no indices.
    memory_bytes : float
        What it has for training; 0: it does not say.
    clock : mapping of str to float
        Parameters of its :class:`hasa_opt.Clock`; empty: it does not say.
    """

    partition: int
    name: str
    samples: int
    counts: IntArray
    max_width: float
    metric: str
    higher_is_better: bool
    shape: tuple[int, ...] = ()
    floating: bool = True
    memory_bytes: float = 0.0
    clock: Mapping[str, float] = field(default_factory=dict)

    @property
    def sample(self) -> Tensor:
        """Zeros of the shape of one input."""
        return sample_of({"shape": self.shape, "floating": self.floating})

    @property
    def scale(self) -> Scale:
        """What it is judged by, and which end is better."""
        return Scale(self.metric, self.higher_is_better)

    def record(self) -> ConfigRecord:
        """Pack it."""
        return ConfigRecord(self.columns())

    def columns(self) -> dict[str, Any]:
        """All that it tells, ready for JSON."""
        told = asdict(self) | {"counts": self.counts.tolist(), "shape": list(self.shape)}
        clock = told.pop("clock")
        return told | {f"{_CLOCK}{name}": value for name, value in clock.items()}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Self:
        """Unpack it.

        Raises
        ------
        InputError
            If something is missing or of another kind.
        """
        with readable():
            given = np.array(record["counts"])
            counts = whole_numbers(given, lambda at, value: f"count {at[0]}: {value}")
            told = {name: value for name, value in record.items() if not name.startswith(_CLOCK)}
            rest = sorted(record.keys() - told.keys())
            clock = {name.removeprefix(_CLOCK): float(record[name]) for name in rest}
            shape = tuple(told.get("shape", ()))
            return cls(**{**told, "counts": counts, "shape": shape, "clock": clock})
