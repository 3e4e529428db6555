"""What a device tells of itself, and what it is given to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self, cast

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from hasa_opt._utils.showing import in_a_word
from hasa_opt.errors import InputError
from hasa_opt.federated import LocalResult, LocalTraining
from hasa_opt.federated.personal import listed_units
from hasa_opt.models import Kept
from hasa_opt.tasks import Split

__all__ = [
    "ARRAYS",
    "IDENTITY",
    "LOST",
    "MEASURED",
    "MODEL",
    "PERSONAL",
    "PROFILE",
    "SUBNET",
    "TESTS",
    "TRAINED",
    "WORK",
    "Asked",
    "Tested",
    "Trained",
    "Work",
    "in_words",
    "load",
    "lost",
    "pack",
    "pack_slice",
    "readable",
    "reason",
    "sample_of",
    "tell",
    "unpack",
    "unpack_slice",
]


ARRAYS, WORK, PROFILE, MEASURED, TRAINED = "arrays", "work", "profile", "measured", "trained"
JUDGED, UNITS = "judged", "units of "
"""Names of the records in a message."""

IDENTITY, MODEL = "identity", "model"
"""Names of the queries for a partition alone, and for a model that the device has to itself; that
for the whole profile is :data:`PROFILE`."""


def pack(state: Mapping[str, Tensor] | None, **records: ConfigRecord | MetricRecord) -> RecordDict:
    """Put weights and records into the content of a message."""
    content = RecordDict(cast(Any, records))
    if state is not None:
        content[ARRAYS] = ArrayRecord(dict(state))
    return content


def unpack(message: Message, name: str = ARRAYS) -> dict[str, Tensor]:
    """Take the weights out of a message."""
    return dict(message.content.array_records[name].to_torch_state_dict())


def pack_slice(content: RecordDict, kind: str, kept: Kept, state: Mapping[str, Tensor]) -> None:
    """Add weights of a kind of model to a content, and the units that they are of."""
    units = {group: listed_units(each) for group, each in kept.items()}
    content[kind], content[UNITS + kind] = ArrayRecord(dict(state)), ArrayRecord(units)


def unpack_slice(message: Message, kind: str) -> tuple[Kept, dict[str, Tensor]] | None:
    """Take such weights out of a message; None where there are none."""
    if kind not in message.content:
        return None
    return unpack(message, UNITS + kind), unpack(message, kind)


def load(message: Message, name: str) -> Mapping[str, Any]:
    """Take one record that holds no weights out of a message."""
    return cast(Mapping[str, Any], message.content[name])


def in_words(value: Any) -> Any:
    """A setting as a message and a history hold it: functions and classes by name."""
    return in_a_word(value) if callable(value) else value


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
    run : str
        What tells the run from others.
    mean : float
        Mean of the widths that its batches train; 0: all train the whole subnet, or five widths
        where the scheme draws them.
    start : float, optional
        Share of the units that lie before its block.
    last : int
        The newest round in which the server took what it trained; -1: none.
    keeps : bool
        Whether it keeps what it trains.
    continues : bool
        Whether it goes on with what it kept in that round.
    sends : bool
        Whether it sends what it trains.
    """

    seed: int
    round: int
    number: int
    client: int
    width: float
    scheme: str
    run: str
    mean: float = 0.0
    start: float | None = None
    last: int = -1
    keeps: bool = False
    continues: bool = False
    sends: bool = True

    @property
    def key(self) -> tuple[int, int, int]:
        """What its random numbers are made of."""
        return self.seed, self.round, self.number

    def record(self, training: LocalTraining) -> ConfigRecord:
        """Pack it together with how to train; of functions and classes their names."""
        how = {each.name: in_words(getattr(training, each.name)) for each in fields(training)}
        return _record(asdict(self) | how)

    @classmethod
    def read(
        cls, record: Mapping[str, Any], options: Mapping[str, Any]
    ) -> tuple[Self, LocalTraining]:
        """Unpack both, with the functions and classes of the device's own options.

        Raises
        ------
        InputError
            If they are not those of the server.
        """
        rest = dict(record)
        work = {name: rest.pop(name) for name in cls.__dataclass_fields__ if name in rest}
        for name in ("optimizer", "schedule"):
            told, own = rest.get(name), options.get(name)
            if in_words(own) != told and (own is not None or name == "schedule"):
                raise InputError(
                    f"the server trains with {name} {told}, the options of this device say "
                    f"{in_words(own)}: give server_app and client_app the same"
                )
            rest[name] = told if own is None else own
        return cls(**work), LocalTraining(**rest)


@dataclass(frozen=True)
class Asked:
    """What a device has to tell of its models, with the weights that come with it.

    Attributes
    ----------
    client : int
        Row of the client.
    run : str
        What tells the run from others.
    last : int
        The newest round in which the server took what it trained; -1: none.
    continues : bool
        Whether it has a model to itself.
    local_bias : bool
        Whether it has an output bias of its own.
    test_on : str
        Kind of model on which it is tested: :data:`SUBNET`, :data:`PERSONAL`, or none.
    shares : list of float
        Of its last local model in its personal ones, by which it judges them.
    kinds : list of str
        Kinds of models that it is asked about.
    """

    client: int
    run: str
    last: int = -1
    continues: bool = False
    local_bias: bool = False
    test_on: str = ""
    shares: list[float] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    def record(self) -> ConfigRecord:
        """Pack it."""
        return _record(asdict(self))


def _record(values: Mapping[str, Any]) -> ConfigRecord:
    return ConfigRecord({name: value for name, value in values.items() if value is not None})


SUBNET, PERSONAL = "subnet", "personal"
"""Kinds of models that a device is tested on, and names of the slices of which it makes them."""

TESTS = ("validation_loss", "validation_metric", "test_loss", "test_metric")
"""What a device measures of the new supernet."""


def tell(result: LocalResult, split: Split) -> dict[str, ConfigRecord | MetricRecord]:
    """Pack what a training measured, and what its cost is computed from."""
    trained = {"widths": list(result.trained), "samples": list(result.trained.values())}
    cost: dict[str, Any] = trained | _shape(split)
    return {
        MEASURED: MetricRecord({"train_loss": result.loss, "seconds": result.seconds}),
        TRAINED: ConfigRecord(cost),
    }


def _shape(split: Split) -> dict[str, Any]:
    """Shape and kind of one input."""
    inputs = split.tensor
    return {"shape": list(inputs.shape[1:]), "floating": inputs.is_floating_point()}


def sample_of(told: Mapping[str, Any]) -> Tensor:
    """Zeros of the shape of one input."""
    dtype = torch.float32 if told["floating"] else torch.int64
    return torch.zeros((1, *told["shape"]), dtype=dtype)


LOST = "lost"
"""Record of a reply of a device that does not have what it once kept."""


def lost(message: Message) -> bool:
    """Whether a device has not got what it needs."""
    return LOST in message.content


@dataclass(frozen=True, eq=False)
class Trained:
    """What a device sends back.

    Attributes
    ----------
    state : dict of str to Tensor, or None
        Weights of its subnet, but for those that it keeps to itself.
    result : LocalResult
        Without the number of steps, which devices do not tell.
    sample : Tensor
        Zeros of the shape of one input.
    """

    state: dict[str, Tensor] | None
    result: LocalResult
    sample: Tensor

    @classmethod
    def read(cls, message: Message, sends: bool) -> Self:
        """Unpack it, with the weights of a device that sends them.

        Raises
        ------
        InputError
            If something is missing or of another kind.
        """
        with readable():
            trained, measured = load(message, TRAINED), load(message, MEASURED)
            return cls(
                unpack(message) if sends else None,
                LocalResult(
                    float(measured["train_loss"]),
                    float(measured["seconds"]),
                    n_steps=0,
                    trained=dict(zip(trained["widths"], trained["samples"], strict=True)),
                ),
                sample_of(trained),
            )


@dataclass(frozen=True, eq=False)
class Tested:
    """What a device tells of its models.

    Attributes
    ----------
    metrics : dict of str to list of float
        Losses and metrics by their names in a history, with each share of the local model.
    totals : list of float
        The metric on its validation data with each share, summed over the targets.
    targets : int
        How many there are.
    samples : int
        Validation samples.
    sample : Tensor
        Zeros of the shape of one input.
    """

    metrics: dict[str, list[float]]
    totals: list[float]
    targets: int
    samples: int
    sample: Tensor

    @staticmethod
    def records(
        metrics: Mapping[str, list[float]], totals: list[float], targets: int, split: Split | None
    ) -> dict[str, ConfigRecord | MetricRecord]:
        """Pack them, with the validation samples, if there are any."""
        judged = {
            "totals": totals,
            "targets": targets,
            "samples": 0 if split is None else len(split),
        }
        told: dict[str, Any] = judged if targets and split is not None else {}
        shape = {} if not told or split is None else {JUDGED: ConfigRecord(_shape(split))}
        measured: dict[str, Any] = dict(metrics) | told
        return {MEASURED: MetricRecord(measured), **shape}

    @classmethod
    def read(cls, message: Message, asked: Asked) -> Self:
        """Unpack what was asked.

        Raises
        ------
        InputError
            If something is missing or of another kind.
        """
        with readable():
            measured, count = load(message, MEASURED), _answers(asked)
            names = TESTS if asked.test_on else ()
            metrics = {name: [float(each) for each in measured[name]] for name in names}
            totals = [float(each) for each in measured.get("totals", [])]
            if any(len(each) != count for each in metrics.values()):
                raise InputError(f"there are not {count} of each metric")
            if totals and len(totals) != len(asked.shares):
                raise InputError(f"there are not {len(asked.shares)} totals")
            sample = sample_of(load(message, JUDGED)) if totals else torch.zeros(1)
            targets, samples = (int(measured.get(name, 0)) for name in ("targets", "samples"))
            return cls(metrics, totals, targets, samples, sample)


def _answers(asked: Asked) -> int:
    """How many values there are of each metric."""
    return len(asked.shares) if asked.test_on == PERSONAL else 1
