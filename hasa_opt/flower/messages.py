"""What a device tells of itself, and what it is given to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from flwr.app import ConfigRecord

from hasa_opt.clients import IntArray
from hasa_opt.federated import LocalTraining
from hasa_opt.flower.packing import readable

__all__ = ["Profile", "Work"]


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
    """

    partition: int
    name: str
    samples: int
    counts: IntArray
    max_width: float

    def record(self) -> ConfigRecord:
        """Pack it."""
        return ConfigRecord(asdict(self) | {"counts": self.counts.tolist()})

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Self:
        """Unpack it.

        Raises
        ------
        InputError
            If something is missing or of another kind.
        """
        with readable():
            own = dict(record)
            return cls(**own | {"counts": np.array(own["counts"], dtype=np.int64)})


@dataclass(frozen=True)
class Work:
    """What a device has to do in one round, with the weights that come with it.

    Attributes
    ----------
    seed, round, client : int
        Of which its random numbers are made; rounds begin at 0.
    width : float
        Width of its subnet.
    scheme : str
        Name in :data:`hasa_opt.federated.SCHEMES`.
    mean : float
        Mean of the widths that its batches train; 0: all train the whole subnet, or five widths
        where the scheme draws them.
    """

    seed: int
    round: int
    client: int
    width: float
    scheme: str = "prefix"
    mean: float = 0.0

    @property
    def key(self) -> tuple[int, int, int]:
        """(seed, round, client)."""
        return self.seed, self.round, self.client

    def record(self, training: LocalTraining) -> ConfigRecord:
        """Pack it together with how to train."""
        return ConfigRecord(asdict(self) | asdict(training))

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> tuple[Self, LocalTraining]:
        """Unpack both."""
        own = dict(record)
        work = {name: own.pop(name) for name in cls.__dataclass_fields__}
        return cls(**work), LocalTraining(**own)
