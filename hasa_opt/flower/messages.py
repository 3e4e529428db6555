"""What a device tells of itself, and what it is given to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from hasa_opt._utils.checks import IntArray, whole_numbers
from hasa_opt._utils.scale import Scale
from hasa_opt.errors import InputError
from hasa_opt.federated import LocalResult, LocalTraining
from hasa_opt.tasks import Split

__all__ = [
    "ARRAYS",
    "IDENTITY",
    "MEASURED",
    "PROFILE",
    "TESTS",
    "TRAINED",
    "WORK",
    "Profile",
    "Trained",
    "Work",
    "load",
    "pack",
    "readable",
    "reason",
    "tell",
    "tested",
    "unpack",
]


ARRAYS, WORK, PROFILE, MEASURED, TRAINED = "arrays", "work", "profile", "measured", "trained"
"""Names of the records in a message."""

IDENTITY = "identity"
"""Name of the query for a partition alone; that for the whole profile is :data:`PROFILE`."""


def pack(state: Mapping[str, Tensor] | None, **records: ConfigRecord | MetricRecord) -> RecordDict:
    """Put weights and records into the content of a message."""
    content = RecordDict(cast(Any, records))
    if state is not None:
        content[ARRAYS] = ArrayRecord(dict(state))
    return content


def unpack(message: Message) -> dict[str, Tensor]:
    """Take the weights out of a message."""
    return dict(message.content.array_records[ARRAYS].to_torch_state_dict())


def load(message: Message, name: str) -> Mapping[str, Any]:
    """Take one record that holds no weights out of a message."""
    return cast(Mapping[str, Any], message.content[name])


@contextmanager
def readable() -> Iterator[None]:
    """Refuse a message in which something is missing or of another kind.

    Raises
    ------
    InputError
        With the reason.
    """
    try:
        yield
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"the reply cannot be read ({error!r})") from error


def reason(message: Message) -> str:
    """Last line of an error, which names it."""
    if not message.has_error():
        return "it holds no error"
    lines = (message.error.reason or "").strip().splitlines()
    return lines[-1] if lines else f"error {message.error.code}"


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
    """

    partition: int
    name: str
    samples: int
    counts: IntArray
    max_width: float
    metric: str
    higher_is_better: bool

    @property
    def scale(self) -> Scale:
        """What it is judged by, and which end is better."""
        return Scale(self.metric, self.higher_is_better)

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
            given = np.array(record["counts"])
            counts = whole_numbers(given, lambda at, value: f"count {at[0]}: {value}")
            return cls(**{**record, "counts": counts})


@dataclass(frozen=True)
class Work:
    """What a device has to do in one round, with the weights that come with it.

    Attributes
    ----------
    seed, round : int
        Rounds begin at 0.
    number : int
        What stands for the client in the key of its random numbers.
    client : int
        Row of the client.
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
    number: int
    client: int
    width: float
    scheme: str = "prefix"
    mean: float = 0.0

    @property
    def key(self) -> tuple[int, int, int]:
        """What its random numbers are made of."""
        return self.seed, self.round, self.number

    def record(self, training: LocalTraining) -> ConfigRecord:
        """Pack it together with how to train; what is None is left out."""
        settings = asdict(self) | asdict(training)
        return ConfigRecord({name: value for name, value in settings.items() if value is not None})

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> tuple[Self, LocalTraining]:
        """Unpack both."""
        rest = dict(record)
        work = {name: rest.pop(name) for name in cls.__dataclass_fields__}
        return cls(**work), LocalTraining(**rest)


TESTS = ("validation_loss", "validation_metric", "test_loss", "test_metric")
"""What a device measures of the new supernet."""


def tell(result: LocalResult, split: Split) -> dict[str, ConfigRecord | MetricRecord]:
    """Pack what a training measured, and what its cost is computed from."""
    return {
        MEASURED: MetricRecord({"train_loss": result.loss, "seconds": result.seconds}),
        TRAINED: ConfigRecord(
            {
                "widths": list(result.trained),
                "samples": list(result.trained.values()),
                "shape": list(split.tensor.shape[1:]),
                "floating": split.tensor.is_floating_point(),
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
    result : LocalResult
        Without the number of steps, which devices do not tell.
    sample : Tensor
        Zeros of the shape of one input.
    """

    state: dict[str, Tensor]
    result: LocalResult
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
            trained, measured = load(message, TRAINED), load(message, MEASURED)
            return cls(
                unpack(message),
                LocalResult(
                    float(measured["train_loss"]),
                    float(measured["seconds"]),
                    n_steps=0,
                    trained=dict(zip(trained["widths"], trained["samples"], strict=True)),
                ),
                torch.zeros(
                    (1, *trained["shape"]),
                    dtype=torch.float32 if trained["floating"] else torch.int64,
                ),
            )


def tested(message: Message) -> dict[str, float]:
    """Unpack losses and metrics.

    Raises
    ------
    InputError
        If one is missing or no number.
    """
    with readable():
        measured = load(message, MEASURED)
        return {name: float(measured[name]) for name in TESTS}
