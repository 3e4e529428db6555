"""The results of a study as plain columns: one value per policy, seed and client.

Tables and statistics are made from these alone, whether the training has just ended or its results
were read from a file. No torch is needed.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hasa_opt._utils.checks import BoolArray, FloatArray, IntArray, listed
from hasa_opt._utils.files import writing
from hasa_opt._utils.frames import Framed
from hasa_opt._utils.scale import ACCURACY, Scale
from hasa_opt._utils.tables import Table, read_table
from hasa_opt.errors import InputError

__all__ = ["CHOICES", "MEASURES", "Results", "merged", "over_clients", "read_results"]

Kind = Literal["own", "supernet"]
"""Which network is tested: what each client deploys, or the uncut supernet."""

MEASURES = {
    "mean": "client mean",
    "weighted": "sample-weighted mean",
    "worst": "worst client",
    "worst_third": "worst third",
    "spread": "standard deviation over clients",
}
"""Name to words of what is reported of the values of all clients."""

CHOICES = tuple(name for name in MEASURES if name != "spread")
"""Measures of how good models are, among which a reader of a report chooses; the first first."""

_CELLS = {"own": float, "supernet": float, "deployed": float, "peak": float, "trained": float,
          "flops": int, "bytes": int}  # fmt: skip
_RUNS = {"realised": float, "rounds": int, "memory": float, "server_bytes": float,
         "device_bytes": float, "seconds": float, "joules": float}  # fmt: skip
_ADDED = ("server_bytes", "device_bytes", "seconds", "joules")
"""Columns that older files lack: not known there."""
_LARGEST = int(np.iinfo(np.int64).max)
_FIELDS = ("policy", "seed", "client", "samples", *_CELLS, *_RUNS)
_JUDGED = ("own", "supernet")
_DIRECTION = "higher_is_better"


def _unknown() -> FloatArray:
    return np.array(np.nan)


@dataclass(frozen=True, eq=False)
class Results(Framed):
    """Final measurements of a study.

    Parameters
    ----------
    policies : n_policies distinct strings
    seeds : n_seeds distinct ints
    clients : n_clients distinct strings
    samples : (n_clients,) ints
        Training samples.
    own, supernet : (n_policies, n_seeds, n_clients) floats
        The metric on test data of what each client deploys, and of the uncut supernet; NaN where
        nothing was measured. The accuracy is a share in [0, 1].
    deployed, peak, trained : (n_policies, n_seeds, n_clients) floats
        Width that is deployed; widest and mean width that was trained. Who is left out of
        training has the widest width 0, and no mean.
    flops, bytes : (n_policies, n_seeds, n_clients) ints
        Operations of local training, and bytes received and sent, over all rounds.
    realised : (n_policies, n_seeds) floats
        Budget that was spent.
    rounds : (n_policies, n_seeds) ints
        Rounds after which both were measured.
    memory : (n_policies, n_seeds) floats
        Peak memory of a training step at the widest width, in bytes; NaN if it was not measured.
    scale : Scale
        The metric, and which end of it is better. Default: the accuracy.
    server_bytes, device_bytes : (n_policies, n_seeds) floats, optional
        Bytes of models that the server keeps, and that a client keeps from one round to the next,
        the most of any. Default: NaN, not known.
    seconds, joules : (n_policies, n_seeds) floats, optional
        How long all rounds lasted by a clock, and the energy of all clients. Default: NaN, no
        clock.

    Raises
    ------
    InputError
        If a column has another shape.
    """

    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    clients: tuple[str, ...]
    samples: IntArray
    own: FloatArray
    supernet: FloatArray
    deployed: FloatArray
    peak: FloatArray
    trained: FloatArray
    flops: IntArray
    bytes: IntArray
    realised: FloatArray
    rounds: IntArray
    memory: FloatArray
    scale: Scale = ACCURACY
    server_bytes: FloatArray = field(default_factory=_unknown)
    device_bytes: FloatArray = field(default_factory=_unknown)
    seconds: FloatArray = field(default_factory=_unknown)
    joules: FloatArray = field(default_factory=_unknown)

    def __post_init__(self) -> None:
        runs = (len(self.policies), len(self.seeds))
        cells = (*runs, len(self.clients))
        for name in _ADDED:
            if not getattr(self, name).shape:
                object.__setattr__(self, name, np.full(runs, getattr(self, name)))
        shapes = {
            "samples": cells[2:],
            **dict.fromkeys(_CELLS, cells),
            **dict.fromkeys(_RUNS, runs),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise InputError(
                    f"{name} has shape {getattr(self, name).shape} for {runs[0]} policies, "
                    f"{runs[1]} seeds and {cells[2]} clients: give {shape}"
                )

    def row(self, policy: str) -> int:
        """Position of a policy.

        Raises
        ------
        InputError
            Naming the policies that there are.
        """
        if policy not in self.policies:
            raise InputError(
                f"policy {policy!r} is not in the results: choose from {', '.join(self.policies)}"
            )
        return self.policies.index(policy)

    @property
    def excluded(self) -> BoolArray:
        """Who is left out of training, ``(n_policies, n_seeds, n_clients)``; all are tested."""
        return np.asarray(self.peak == 0)

    def measured(self, kind: Kind = "own") -> IntArray:
        """Rows of the clients that have a finite value under every policy and seed."""
        known: IntArray = np.flatnonzero(np.isfinite(getattr(self, kind)).all(axis=(0, 1)))
        return known

    def measure(self, name: str = "mean", kind: Kind = "own") -> FloatArray:
        """One number per run over the clients that were measured everywhere.

        Parameters
        ----------
        name : str
            ``mean`` (each client counts once), ``weighted`` (by training samples), ``worst``
            (client: the lowest accuracy, the highest error), ``worst_third`` (mean over the third
            of the clients that are worst), or ``spread`` (standard deviation over the clients).
        kind : "own" or "supernet"

        Returns
        -------
        (n_policies, n_seeds) floats
            Of the accuracy, percent; of another metric, its own unit. NaN if no client was
            measured.
        """
        rows = self.measured(kind)
        values = self.scale.shown(getattr(self, kind)[..., rows])
        return over_clients(values, self.samples[rows], self.scale, name)

    def worth(self, name: str = "mean", kind: Kind = "own") -> FloatArray:
        """:meth:`measure`, turned so that more is better; of the spread over clients, less is.

        Differences of it are gains.
        """
        values = self.measure(name, kind)
        return values if self.scale.higher_is_better and name != "spread" else -values

    def write(self, path: str | PathLike[str]) -> None:
        """Write one CSV line per policy, seed and client; :func:`read_results` gives it back.

        The columns of another metric than the accuracy bear its name, such as ``own_mse``, and
        ``higher_is_better`` stands beside them. A file whose name ends in ``.gz`` is compressed,
        equal results to equal bytes.
        """
        columns, text = self.in_columns(), io.StringIO(newline="")
        out = csv.writer(text)
        out.writerow(columns)
        out.writerows(zip(*columns.values(), strict=True))
        with writing(path, "wb") as file:
            data = text.getvalue().encode()
            file.write(gzip.compress(data, mtime=0) if Path(path).suffix == ".gz" else data)

    def in_columns(self) -> dict[str, list[Any]]:
        """A row for each policy, seed and client, as :meth:`write` writes it."""
        lines, titles = list(self._lines()), _titles(self.scale).values()
        columns = {title: [line[at] for line in lines] for at, title in enumerate(titles)}
        if not self.scale.is_share:
            columns[_DIRECTION] = [self.scale.higher_is_better] * len(lines)
        return columns

    def _lines(self) -> Iterator[list[Any]]:
        for at in np.ndindex(self.realised.shape):
            run = [getattr(self, name)[at].item() for name in _RUNS]
            for client, name in enumerate(self.clients):
                cells = [getattr(self, column)[*at, client].item() for column in _CELLS]
                size = self.samples[client].item()
                yield [self.policies[at[0]], self.seeds[at[1]], name, size, *cells, *run]


def over_clients(values: FloatArray, samples: IntArray, scale: Scale, name: str) -> FloatArray:
    """A measure over the last axis, the clients; NaN where there are none.

    Parameters
    ----------
    values : (..., n_clients) floats
        Finite.
    samples : (n_clients,) ints
    scale : Scale
    name : str
        As for :meth:`Results.measure`.
    """
    if name not in MEASURES:
        raise InputError(f"measure {name!r} is not known: choose from {', '.join(MEASURES)}")
    if not samples.size:
        return np.full(values.shape[:-1], np.nan)
    if name == "weighted":
        return np.asarray(np.average(values, axis=-1, weights=samples))
    if name == "worst_third":
        third = max(1, round(values.shape[-1] / 3))
        return np.asarray(scale.worst_first(values)[..., :third].mean(axis=-1))
    if name == "worst":
        return np.asarray(scale.worst_first(values)[..., 0])
    return np.asarray(values.std(axis=-1) if name == "spread" else values.mean(axis=-1))


def merged(parts: Sequence[Results]) -> Results:
    """Results of several studies of the same clients, as those of one.

    Parameters
    ----------
    parts : sequence of Results
        At least one; of two measurements of a policy and a seed the later part's is taken.

    Raises
    ------
    InputError
        If a policy was not measured under all seeds, or with other clients, or by another metric.
    """
    scales = list(dict.fromkeys(part.scale for part in parts))
    if len(scales) > 1:
        raise InputError(
            f"the results are of {scales[0].name} ({scales[0].direction}) and of {scales[1].name} "
            f"({scales[1].direction}): merge those of one metric"
        )
    records = {
        tuple(line[:3]): dict(zip(_FIELDS, line, strict=True))
        for part in parts
        for line in part._lines()
    }
    return _assembled("the merged results", list(records.values()), scales[0])


def read_results(path: str | PathLike[str]) -> Results:
    """Read what :meth:`Results.write` wrote.

    Raises
    ------
    InputError
        If the file is missing, a column or a line is absent, or a value is no number.
    """
    table = read_table(path, needed=[name for name in _FIELDS if name not in _JUDGED + _ADDED])
    scale = _scale_of(table)
    titles = _titles(scale)
    absent = [
        title for name, title in titles.items() if name not in _ADDED and not table.has(title)
    ]
    if absent:
        raise InputError(
            f"{table.name} has no column {', '.join(absent)}: give a CSV of results, one line per "
            "policy, seed and client"
        )
    if not len(table):
        raise InputError(f"{table.name} has no lines below its header: run the study")
    kinds = {"policy": str, "seed": int, "client": str, "samples": int, **_CELLS, **_RUNS}
    columns = [_parsed(table, titles[name], kind) for name, kind in kinds.items()]
    records = [dict(zip(kinds, cells, strict=True)) for cells in zip(*columns, strict=True)]
    return _assembled(table.name, records, scale)


def _titles(scale: Scale) -> dict[str, str]:
    """Fields and the titles of their columns."""
    ending = "" if scale.is_share else f"_{scale.name}"
    return {name: name + ending if name in _JUDGED else name for name in _FIELDS}


def _scale_of(table: Table) -> Scale:
    """The metric that the columns of a file are named for."""
    first = f"{_JUDGED[0]}_"
    named = [title.removeprefix(first) for title in table.header if title.startswith(first)]
    if not named:
        return ACCURACY
    told = set(table.column(_DIRECTION))
    if len(named) > 1 or len(told) > 1 or not told <= {"True", "False"}:
        raise InputError(
            f"{table.name} has columns of {listed(named)} and {_DIRECTION} {listed(sorted(told))}: "
            "one metric is needed, and True or False"
        )
    return Scale(named[0], told == {"True"})


def _parsed(table: Table, name: str, kind: type) -> list[Any]:
    """Values of one column; NaN where an older file lacks it, or a data frame left it empty."""
    if name in _ADDED and not (table.has(name) and any(table.column(name))):
        return [np.nan] * len(table)
    values = []
    for row, text in enumerate(table.column(name)):
        try:
            value = kind(text)
        except ValueError:
            raise table.fail(
                row, name, f"{text!r} is not a {kind.__name__}: write the file again"
            ) from None
        if kind is int and abs(value) > _LARGEST:
            raise table.fail(row, name, f"{text} exceeds 64 bits: write the file again")
        values.append(value)
    return values


def _assembled(source: str, records: Sequence[dict[str, Any]], scale: Scale) -> Results:
    """Arrange records by policy, seed and client, each in the order of its first line."""
    axes = {
        name: {value: at for at, value in enumerate(dict.fromkeys(r[name] for r in records))}
        for name in ("policy", "seed", "client")
    }
    shape = tuple(len(axis) for axis in axes.values())
    where = [tuple(axis[record[name]] for name, axis in axes.items()) for record in records]
    lines = np.zeros(shape, dtype=np.int64)
    np.add.at(lines, tuple(np.array(where).T), 1)
    if (lines != 1).any():
        at = np.argwhere(lines != 1)[0]
        run = ", ".join(
            f"{name} {list(axis)[row]}" for (name, axis), row in zip(axes.items(), at, strict=True)
        )
        raise InputError(
            f"{source} has {lines[tuple(at)]} lines for {run}: one is needed for each client of "
            "each policy and seed; finish the study, or leave out what is not whole"
        )
    columns: dict[str, Any] = {
        name: np.empty(shape, dtype=kind) for name, kind in (_CELLS | _RUNS).items()
    }
    samples = np.empty(shape[2], dtype=np.int64)
    for place, record in zip(where, records, strict=True):
        samples[place[2]] = record["samples"]
        for name, column in columns.items():
            column[place] = record[name]
    runs = {name: columns.pop(name)[..., 0] for name in _RUNS}
    policies, seeds, clients = (tuple(axis) for axis in axes.values())
    return Results(policies, seeds, clients, samples, **columns, **runs, scale=scale)
