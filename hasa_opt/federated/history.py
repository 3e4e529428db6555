"""History: everything that a federated run measured, in memory and on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray
from hasa_opt._utils.files import entries, path_of, replace_directory
from hasa_opt._utils.frames import Framed
from hasa_opt._utils.showing import SHOWN_ROWS, Shown, first_of, new_table
from hasa_opt.errors import InputError
from hasa_opt.federated.events import DECISIONS, Decision, Event
from hasa_opt.federated.history_files import (
    CLIENTS,
    FORMAT,
    INDEX,
    TENSORS,
    WEIGHTS,
    WIDTHS,
    Chunk,
    add_chunk,
    digest,
    load_arrays,
    read_index,
    to_json,
)
from hasa_opt.federated.measurements import COLUMNS, Measured, table, titled, unpacked
from hasa_opt.federated.storage import Sharing, at_devices, at_server
from hasa_opt.policies.subnets import Subnets, read_subnets
from hasa_opt.tasks.learning import as_accuracy

if TYPE_CHECKING:
    from rich.table import Table

Numbers = TypeVar("Numbers", FloatArray, IntArray)


class Column(Generic[Numbers]):
    """A column of a history, ``(n_rounds, n_clients)``, made whenever it is asked for."""

    def __set_name__(self, owner: type[History], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, history: None, owner: type[History]) -> Self: ...

    @overload
    def __get__(self, history: History, owner: type[History]) -> Numbers: ...

    def __get__(self, history: History | None, owner: type[History]) -> Self | Numbers:
        if history is None:
            return self
        whole: Numbers = table(history.measured, self._name, history.n_clients)
        return whole


@dataclass(frozen=True, eq=False)
class History(Framed, Shown):
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
    clock_seconds : (n_rounds, n_clients) floats
        How long a round waited for the client by the clock of the participation: until its update
        came, or its deadline passed.
    clock_joules : (n_rounds, n_clients) floats
        Energy of the client, all of it where it came too late.
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

    measured : sequence of Measured
        What the rounds measured, of which the arrays above are made when they are asked for.

    Raises
    ------
    InputError
        If a client is measured that has no width.
    """

    widths: FloatArray
    measured: Sequence[Measured] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    clients: Mapping[str, Tensor] = field(default_factory=dict)
    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        for measured in self.measured:  # In each round anew: what was looked at is remembered.
            if measured.ends[0] < 0 or measured.ends[1] >= self.n_clients:
                rows = measured.clients
                beyond = rows[(rows < 0) | (rows >= self.n_clients)]
                raise InputError(
                    f"client {beyond[0]} is measured, but there are {self.n_clients} widths: give "
                    "one width for each client"
                )

    train_loss = Column[FloatArray]()
    validation_loss = Column[FloatArray]()
    validation_metric = Column[FloatArray]()
    test_loss = Column[FloatArray]()
    test_metric = Column[FloatArray]()
    seconds = Column[FloatArray]()
    mean_width = Column[FloatArray]()
    supernet_metric = Column[FloatArray]()
    personal_metric = Column[FloatArray]()
    interpolation = Column[FloatArray]()
    clock_seconds = Column[FloatArray]()
    clock_joules = Column[FloatArray]()
    bytes_down = Column[IntArray]()
    bytes_up = Column[IntArray]()
    flops = Column[IntArray]()

    @property
    def n_clients(self) -> int:
        """Number of registered clients."""
        return len(self.widths)

    @property
    def rounds(self) -> int:
        """Number of rounds."""
        return len(self.measured)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What an allocator has decided; empty where none was asked."""
        told = self.metadata.get(DECISIONS, ())
        found = [
            replace(read_subnets(each, np.array(each["widths"])), reason=each["reason"])
            for each in told
        ]
        return tuple(
            Decision(each["round"], subnets, self._changed(past, subnets, each["round"]))
            for each, past, subnets in zip(told, [*found[:1], *found], found, strict=False)
        )

    def _changed(self, past: Subnets, now: Subnets, number: int) -> BoolArray:
        """Who trains something else in a round than in the round before."""
        rounds = self.metadata["rounds"]
        return now.during(number, rounds).changed_from(past.during(max(0, number - 1), rounds))

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
        return self._last("test_metric")

    def _last(self, column: str) -> FloatArray:
        """A column of the last round, ``(n_clients,)``."""
        return np.asarray(table(self.measured[-1:], column, self.n_clients)[0])

    @property
    def final_accuracy(self) -> FloatArray:
        """:attr:`final_metric`, where that is the accuracy."""
        return np.asarray(as_accuracy(self.final_metric, self.metric))

    @property
    def round_seconds(self) -> FloatArray:
        """How long each round lasted by the clock, ``(n_rounds,)``.

        As long as the slowest client that was waited for, and before that until somebody was there.
        """
        seconds = np.nan_to_num(self.clock_seconds).max(axis=1, initial=0.0)
        for event in self.events:
            seconds[event.round] += event.seconds
        return np.asarray(seconds)

    @property
    def server_bytes(self) -> int:
        """Bytes of the models that the server keeps: the supernet, or all that some clients share.

        Where that has changed, the most.
        """
        return at_server(self.weights, self._shared)

    def device_bytes(self, *, personal: bool = False) -> IntArray:
        """Bytes of models that each client keeps from one round to the next, ``(n_clients,)``.

        Its own model if it is alone with it; its own output bias; and, where clients deploy
        ``personal`` models, the last local one. 0: it is sent all that it needs.
        """
        return at_devices(self.clients, self.bytes_down, self._shared, personal)

    @property
    def _shared(self) -> list[Sharing]:
        told = self.metadata.get(DECISIONS) or [self.metadata]
        return [each.get("models") for each in told]

    def __repr__(self) -> str:
        return f"History({self.rounds} rounds, {len(self.widths)} clients)"

    def __rich__(self) -> Table:
        from rich.markup import escape

        table = new_table(title=f"After {self.rounds} rounds")
        table.add_column("client", overflow="fold")
        is_share, measured = self.metric == "accuracy", self.final_metric
        judged = "test accuracy, %" if is_share else f"test {self.metric}"
        form, factor = ("{:.2f}", 100) if is_share else ("{:.4g}", 1)
        for column in ("width", "loss in training", judged, "MB down and up"):
            table.add_column(column, justify="right", overflow="fold")
        names = self.metadata.get("client_names", range(len(self.widths)))
        moved = (self.bytes_down + self.bytes_up).sum(axis=0) / 1e6
        columns = self.widths, self._last("train_loss"), factor * measured, moved
        forms = "{:g}", "{:.3f}", form, "{:.2f}"
        for name, *numbers in list(zip(names, *columns, strict=True))[:SHOWN_ROWS]:
            cells = (form.format(number) for form, number in zip(forms, numbers, strict=True))
            table.add_row(escape(str(name)), *cells)
        worst = np.nanmin(measured) if self.higher_is_better else np.nanmax(measured)
        for title, number in (("mean", np.nanmean(measured)), ("worst", worst)):
            table.add_row(title, "", "", form.format(factor * number), "", style="bold")
        table.caption = first_of(len(self.widths))
        return table

    def in_columns(self) -> dict[str, Any]:
        """A row for each round and each client of whom anything was measured in it.

        ``round`` from 0, ``client``, then what was measured, under the names of the attributes;
        columns of which nothing was measured are left out.
        """
        none, measured = np.zeros(0, dtype=np.int64), self.measured
        clients = np.concatenate([none, *(each.clients for each in measured)])
        names = self.metadata.get("client_names", range(self.n_clients))
        kept = [name for name in COLUMNS if any(name in each.columns for each in measured)]
        columns = {name: [each.column(name) for each in measured] for name in kept}
        return {
            "round": np.repeat(np.arange(self.rounds), [len(each.clients) for each in measured]),
            "client": [str(names[row]) for row in clients],
            **{titled(name, self.metric): np.concatenate(columns[name]) for name in kept},
        }

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
        self.save_beside(directory, ())

    def save_beside(self, directory: str | Path, known: Sequence[Chunk]) -> list[Chunk]:
        """Save the history; what was written before is linked to instead of written again.

        Parameters
        ----------
        directory : path
        known : sequence of Chunk
            Files with the first rounds.

        Returns
        -------
        list of Chunk
            The files with the rounds in the new directory.

        Raises
        ------
        InputError, StorageError
            As :meth:`save` does.
        """
        target = path_of(directory).absolute()
        is_empty = target.is_dir() and not entries(target)
        if target.exists() and not is_empty and not (target / INDEX).is_file():
            raise InputError(f"{target} exists and is not a history: choose a new directory")
        chunks: list[Chunk] = []

        def write(place: Path) -> None:
            chunks[:] = add_chunk(place, known, self.measured)
            self._write(place, chunks)

        replace_directory(target, write, failure=SafetensorError)
        return [chunk._replace(path=target / chunk.path.name) for chunk in chunks]

    def _write(self, directory: Path, chunks: Sequence[Chunk]) -> None:
        """Write the other files; the index holds the digests of all."""
        safetensors.numpy.save_file({"widths": self.widths}, directory / WIDTHS)
        save_file(dict(self.weights), directory / WEIGHTS)
        save_file(dict(self.clients), directory / CLIENTS)
        digests = {name: digest((directory / name).read_bytes()) for name in TENSORS}
        digests |= {chunk.path.name: chunk.sha256 for chunk in chunks}
        content = {
            "metadata": dict(self.metadata),
            "events": [asdict(event) for event in self.events],
            "rounds": {chunk.path.name: chunk.rounds for chunk in chunks},
        }
        digests[INDEX] = digest(to_json(content).encode())
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
        try:
            index = read_index(source)
            chunks = [source / name for name in index["rounds"]]
            measured = [row for chunk in chunks for row in unpacked(load_arrays(chunk))]
            widths = load_arrays(source / WIDTHS)["widths"]
            weights, clients = load_file(source / WEIGHTS), load_file(source / CLIENTS)
            events = tuple(Event(**event) for event in index["events"])
            return cls(widths, measured, index["metadata"], weights, clients, events)
        except (OSError, KeyError, ValueError, TypeError, SafetensorError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{source} cannot be read ({error}): run the training again"
            ) from error
