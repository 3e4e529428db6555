"""History: everything that a federated run measured, in memory and on disk."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.files import entries, path_of, replace_directory
from hasa_opt._utils.showing import SHOWN_ROWS, Shown, first_of, new_table
from hasa_opt.errors import InputError
from hasa_opt.models.supernet import SupernetModel
from hasa_opt.tasks.learning import as_accuracy

if TYPE_CHECKING:
    from rich.table import Table

FORMAT = 5
"""Version of the files; one that reads other files, or means something else by them, is another."""

INDEX = "history.json"
ARRAYS, WEIGHTS = "arrays.safetensors", "weights.safetensors"
CLIENTS = "clients.safetensors"
TENSORS = (ARRAYS, WEIGHTS, CLIENTS)


EventKind = Literal["dropped", "late", "rejected", "untested", "empty"]


@dataclass(frozen=True)
class Event:
    """What did not go as planned in a round.

    Attributes
    ----------
    round : int
        Number of the round, from 0.
    client : int or None
        Row of the client; None for an event of the whole round.
    kind : {"dropped", "late", "rejected", "untested", "empty"}
        ``dropped``: the client was drawn and sent nothing. ``late``: it trained, but its update
        came after the end of the round. ``rejected``: its update was refused. ``untested``: its
        validation or test samples could not be loaded. ``empty``: no update was left, so that the
        model stayed as it was.
    reason : str
        In words.
    """

    round: int
    client: int | None
    kind: EventKind
    reason: str


@dataclass(frozen=True, eq=False)
class History(Shown):
    """One federated run: what each client measured in each round, and the final supernet.

    The metric is the task's: :attr:`metric` names it. Where that is the accuracy, a share between 0
    and 1, what ends in ``_metric`` can be read as ``_accuracy`` too. Losses of classes are nats per
    target. What was not measured is NaN: a client that was not drawn in a round has neither a loss
    nor a metric there, and one that did not train has no training loss. What it did not receive,
    send or compute is 0.

    Attributes
    ----------
    widths : (n_clients,) floats
        Width of each client's subnet.
    train_loss : (n_rounds, n_clients) floats
        Mean loss during local training.
    validation_loss, validation_metric, test_loss, test_metric : (n_rounds, n_clients) floats
        Measured after the round's aggregation; of all clients in the last round.
    seconds : (n_rounds, n_clients) floats
        Wall-clock time of local training.
    mean_width : (n_rounds, n_clients) floats
        Share of the supernet's units that was trained, averaged over the samples of all batches.
    supernet_metric, personal_metric : (n_rounds, n_clients) floats
        The metric on test data of the uncut supernet, and of the personal subnet, where
        ``Evaluation.also`` asked for them.
    interpolation : (n_rounds, n_clients) floats
        Share of the local models in the personal ones.
    bytes_down, bytes_up : (n_rounds, n_clients) int64
        Size of the subnet received and sent.
    flops : (n_rounds, n_clients) int64
        Floating-point operations of local training, padding included.
    metadata : dict
        Settings and data of the run, ready for JSON.
    weights : dict of str to tensor
        State of the supernet after the last round.
    clients : dict of str to tensor
        What clients keep to themselves. Names such as ``"3/model/decoder.bias"`` begin with the
        row of the client; those of the state of the server's optimizer begin with "server".
    events : tuple of Event
        Clients that dropped out or were late, updates that were rejected, rounds without any.

    Raises
    ------
    InputError
        If the arrays disagree about the number of rounds or clients.
    """

    widths: FloatArray
    train_loss: FloatArray
    validation_loss: FloatArray
    validation_metric: FloatArray
    test_loss: FloatArray
    test_metric: FloatArray
    seconds: FloatArray
    mean_width: FloatArray
    supernet_metric: FloatArray
    personal_metric: FloatArray
    interpolation: FloatArray
    bytes_down: IntArray
    bytes_up: IntArray
    flops: IntArray
    metadata: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    clients: Mapping[str, Tensor] = field(default_factory=dict)
    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        for name in COLUMNS:
            shape = getattr(self, name).shape
            if shape != self.train_loss.shape or shape[1:] != self.widths.shape:
                raise InputError(
                    f"{name} has shape {shape} beside {self.train_loss.shape} and "
                    f"{len(self.widths)} clients: each array must be (rounds, n_clients)"
                )

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return len(self.train_loss)

    @property
    def metric(self) -> str:
        """Name of what the models are judged by."""
        return str(self.metadata.get("metric", "accuracy"))

    @property
    def higher_is_better(self) -> bool:
        """Whether more of the metric is better."""
        return bool(self.metadata.get("higher_is_better", True))

    @property
    def validation_accuracy(self) -> FloatArray:
        """:attr:`validation_metric`, where that is the accuracy."""
        return np.asarray(as_accuracy(self.validation_metric, self.metric))

    @property
    def test_accuracy(self) -> FloatArray:
        """:attr:`test_metric`, where that is the accuracy."""
        return np.asarray(as_accuracy(self.test_metric, self.metric))

    @property
    def supernet_accuracy(self) -> FloatArray:
        """:attr:`supernet_metric`, where that is the accuracy."""
        return np.asarray(as_accuracy(self.supernet_metric, self.metric))

    @property
    def personal_accuracy(self) -> FloatArray:
        """:attr:`personal_metric`, where that is the accuracy."""
        return np.asarray(as_accuracy(self.personal_metric, self.metric))

    @property
    def final_metric(self) -> FloatArray:
        """The metric on each client's test data after the last round, shape (n_clients,)."""
        return np.asarray(self.test_metric[-1])

    @property
    def final_accuracy(self) -> FloatArray:
        """:attr:`final_metric`, where that is the accuracy."""
        return np.asarray(as_accuracy(self.final_metric, self.metric))

    def __repr__(self) -> str:
        return f"History({self.rounds} rounds, {len(self.widths)} clients)"

    def __rich__(self) -> Table:
        from rich.markup import escape

        table = new_table(title=f"After {self.rounds} rounds")
        table.add_column("client", no_wrap=True)
        is_share, measured = self.metric == "accuracy", self.final_metric
        judged = "test accuracy, %" if is_share else f"test {self.metric}"
        form, factor = ("{:.2f}", 100) if is_share else ("{:.4g}", 1)
        for column in ("width", "loss in training", judged, "MB down and up"):
            table.add_column(column, justify="right")
        names = self.metadata.get("client_names", range(len(self.widths)))
        moved = (self.bytes_down + self.bytes_up).sum(axis=0) / 1e6
        columns = self.widths, self.train_loss[-1], factor * measured, moved
        forms = "{:g}", "{:.3f}", form, "{:.2f}"
        for name, *numbers in list(zip(names, *columns, strict=True))[:SHOWN_ROWS]:
            cells = (form.format(number) for form, number in zip(forms, numbers, strict=True))
            table.add_row(escape(str(name)), *cells)
        worst = np.nanmin(measured) if self.higher_is_better else np.nanmax(measured)
        for title, number in (("mean", np.nanmean(measured)), ("worst", worst)):
            table.add_row(title, "", "", form.format(factor * number), "", style="bold")
        table.caption = first_of(len(self.widths))
        return table

    @property
    def tally(self) -> dict[str, int]:
        """How often each kind of event occurred."""
        return dict(Counter(event.kind for event in self.events))

    def save(self, directory: str | Path) -> None:
        """Write the history as a directory of JSON and safetensors files.

        It is written aside and renamed, so the directory never holds half a history. An earlier
        history there is replaced.

        Raises
        ------
        InputError
            If it is no path, or exists and holds something other than a history.
        StorageError
            If the disk does not take it; an earlier history is then intact.
        """
        target = path_of(directory).absolute()
        is_empty = target.is_dir() and not entries(target)
        if target.exists() and not is_empty and not (target / INDEX).is_file():
            raise InputError(f"{target} exists and is not a history: choose a new directory")
        replace_directory(target, self._write, failure=SafetensorError)

    def _write(self, directory: Path) -> None:
        """Write the files; the index holds the digests of all."""
        arrays = {name: getattr(self, name) for name in ("widths", *COLUMNS)}
        safetensors.numpy.save_file(arrays, directory / ARRAYS)
        save_file(dict(self.weights), directory / WEIGHTS)
        save_file(dict(self.clients), directory / CLIENTS)
        digests = {name: _digest((directory / name).read_bytes()) for name in TENSORS}
        content = {
            "metadata": dict(self.metadata),
            "events": [asdict(event) for event in self.events],
        }
        digests[INDEX] = _digest(to_json(content).encode())
        text = to_json({"format": FORMAT, "sha256": digests, **content})
        (directory / INDEX).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read a history that :meth:`save` wrote.

        Raises
        ------
        InputError
            If a file is missing, damaged, or written in another format.
        """
        source = path_of(directory)
        for name in (INDEX, *TENSORS):
            if not (source / name).is_file():
                raise InputError(f"{source} has no {name}: give a directory that save() wrote")
        try:
            metadata, events = _read_index(source)
            stored = safetensors.numpy.load_file(source / ARRAYS)
            arrays = {name: stored[name] for name in ("widths", *COLUMNS)}
            weights, clients = load_file(source / WEIGHTS), load_file(source / CLIENTS)
        except (OSError, KeyError, TypeError, SafetensorError) as error:
            raise InputError(
                f"{source} cannot be read ({error}): run the training again"
            ) from error
        return cls(**arrays, metadata=metadata, weights=weights, clients=clients, events=events)


COUNTED = ("bytes_down", "bytes_up", "flops")
"""Columns of whole numbers, which are 0 for a client that took no part."""

COLUMNS = (
    "train_loss",
    "validation_loss",
    "validation_metric",
    "test_loss",
    "test_metric",
    "seconds",
    "mean_width",
    "supernet_metric",
    "personal_metric",
    "interpolation",
    *COUNTED,
)
"""Names of the (rounds, n_clients) arrays of a history."""


def titled(column: str, metric: str) -> str:
    """Name of a column as tables and callbacks give it: such as test_accuracy where that is it."""
    return column.replace("_metric", "_accuracy") if metric == "accuracy" else column


Row = dict[str, npt.NDArray[Any]]
"""One round of a history: column name -> array of shape (n_clients,)."""


@dataclass(eq=False)
class Record:
    """What the rounds of a run have measured so far.

    Attributes
    ----------
    widths : (n_clients,) floats
    metadata : dict
        Settings and data of the run, ready for JSON.
    rows : list of dict
        One for each round.
    events : list of Event
    """

    widths: FloatArray
    metadata: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def take(self, past: History) -> None:
        """Begin with the rounds of a checkpoint."""
        self.events = list(past.events)
        self.rows = [
            {name: getattr(past, name)[number] for name in COLUMNS} for number in range(past.rounds)
        ]

    def add(self, row: Row, events: Iterable[Event]) -> None:
        """Append a round; its events by client, in whatever order the engine trained them."""
        self.rows.append(row)
        self.events += sorted(events, key=lambda event: (event.client is None, event.client))

    def history(self, server: SupernetModel, clients: Mapping[str, Tensor]) -> History:
        """Everything so far, with a copy of the weights and what the clients hold."""
        columns = {name: np.stack([row[name] for row in self.rows]) for name in COLUMNS}
        state = server.state_dict()
        weights = {name: tensor.detach().clone().cpu() for name, tensor in state.items()}
        return History(
            widths=self.widths,
            **columns,
            metadata=self.metadata,
            weights=weights,
            clients={name: tensor.detach().clone().cpu() for name, tensor in clients.items()},
            events=tuple(self.events),
        )


def to_json(value: Any) -> str:
    """Write settings and metadata, Numpy's numbers included, as JSON."""
    return json.dumps(value, indent=2, default=methodcaller("item"))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_index(source: Path) -> tuple[dict[str, Any], tuple[Event, ...]]:
    """Read metadata and events, after checking the format and the digests of all files."""
    try:
        index = json.loads((source / INDEX).read_text(encoding="utf-8"))
        version, digests = index["format"], dict(index["sha256"])
        content = {name: index[name] for name in ("metadata", "events") if version == FORMAT}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{source / INDEX} is damaged ({error}): run the training again"
        ) from error
    if version != FORMAT:
        raise InputError(
            f"{source} has format {version}, this version reads {FORMAT}: use the version of "
            "hasa_opt that wrote it"
        )
    stored = {name: (source / name).read_bytes() for name in TENSORS}
    for name, data in {**stored, INDEX: to_json(content).encode()}.items():
        if _digest(data) != digests.get(name):
            raise InputError(
                f"{source / name} is damaged: its content is not what was saved, restore it or run "
                "the training again"
            )
    metadata, events = content["metadata"], content["events"]
    if not isinstance(metadata, dict) or not isinstance(events, list):
        raise InputError(f"{source / INDEX} is damaged: run the training again")
    return metadata, tuple(Event(**event) for event in events)
