"""The federated clients of one allocation, as columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasa_opt._utils.checks import FloatArray, IntArray
from hasa_opt._utils.decoding import Source
from hasa_opt._utils.frames import Framed, columns_of
from hasa_opt._utils.names import distinct, name_list
from hasa_opt._utils.showing import SHOWN_ROWS, Shown, first_of, new_table
from hasa_opt.clients import files
from hasa_opt.clients.columns import (
    checked_caps,
    checked_column,
    checked_labels,
    checked_length,
    checked_samples,
)
from hasa_opt.clients.counts import Counts, Rows, checked_counts
from hasa_opt.clients.csv import count_columns, framed, write

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Clients"]


@dataclass(frozen=True, eq=False)
class Clients(Framed, Shown):
    """Columns that describe ``n_clients`` federated clients.

    Parameters
    ----------
    samples : (n_clients,) integers
        Training samples of each client; at least 1.
    counts : (n_clients, n_labels) array or scipy sparse matrix, optional
        Training tokens or labels that each client counted, over a shared vocabulary.
    max_width : (n_clients,) floats in (0, 1], optional
        Widest subnet that each device can train. Default: no cap.
    names : n_clients distinct strings or whole numbers, optional
        Default: ``client-0``, ``client-1``, ... (see :meth:`name`).
    site : n_clients strings or whole numbers, optional
        The site that each client belongs to.
    device : n_clients strings or whole numbers, optional
        Device class of each client, for menus whose costs are by class.
    labels : n_labels distinct strings or whole numbers, optional
        The token or label behind each column of the counts.

    Raises
    ------
    InputError
        For a value that breaks one of these rules; the message names the row and the column.

    Examples
    --------
    >>> clients = Clients([120, 80], counts=[[9, 1], [2, 6]], names=["phone", "laptop"])
    >>> len(clients), clients.name(1)
    (2, 'laptop')
    """

    samples: IntArray
    counts: Counts | None = None
    max_width: FloatArray | None = None
    names: tuple[str, ...] | None = None
    site: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    device: tuple[str, ...] | None = None

    def __init__(
        self,
        samples: npt.ArrayLike,
        *,
        counts: npt.ArrayLike | Any | None = None,
        max_width: npt.ArrayLike | None = None,
        names: Sequence[str | int] | None = None,
        site: Sequence[str | int] | None = None,
        labels: Sequence[str | int] | None = None,
        device: Sequence[str | int] | None = None,
    ) -> None:
        length = checked_length(samples)
        known = None if names is None else checked_column(distinct, names, "names", length)
        label = Rows(known)
        table = None if counts is None else checked_counts(counts, label, length)
        columns = {
            "names": known,
            "samples": checked_samples(samples, label),
            "counts": table,
            "labels": None if labels is None else checked_labels(labels, table),
            "max_width": None if max_width is None else checked_caps(max_width, length, label),
            "site": None if site is None else checked_column(name_list, site, "site", length),
            "device": None
            if device is None
            else checked_column(name_list, device, "device", length),
        }
        for name, value in columns.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_counts(
        cls,
        counts: npt.ArrayLike | Any,
        *,
        samples: npt.ArrayLike | None = None,
        max_width: npt.ArrayLike | None = None,
        names: Sequence[str | int] | None = None,
        site: Sequence[str | int] | None = None,
        labels: Sequence[str | int] | None = None,
        device: Sequence[str | int] | None = None,
    ) -> Clients:
        """Build clients from their label counts.

        Parameters
        ----------
        counts : (n_clients, n_labels) array or scipy sparse matrix
            Non-negative whole numbers.
        samples : (n_clients,) integers, optional
            Default: the sum of each row, which is right when each sample carries one label.
        max_width : (n_clients,) floats in (0, 1], optional
            As in :class:`Clients`; so are the others.
        names : n_clients distinct strings or whole numbers, optional
        site : n_clients strings or whole numbers, optional
        labels : n_labels distinct strings or whole numbers, optional
        device : n_clients strings or whole numbers, optional

        Returns
        -------
        Clients

        Raises
        ------
        InputError
            As for :class:`Clients`.
        """
        if samples is None:
            counts = checked_counts(counts, Rows(None))
            samples = np.asarray(counts.sum(axis=1)).ravel()
        return cls(
            samples,
            counts=counts,
            max_width=max_width,
            names=names,
            site=site,
            labels=labels,
            device=device,
        )

    @classmethod
    def from_frame(cls, frame: Any) -> Clients:
        """Build clients from a data frame of any library: one row per client.

        Parameters
        ----------
        frame : data frame, or mapping of column to values
            Columns as in the wide format of :mod:`hasa_opt.clients.csv`: "name" and "samples",
            then optionally "max_width", "site", "device" and one "count:LABEL" per label.

        Raises
        ------
        InputError
            For a column that is missing or unknown, or a value that breaks a rule.
        """
        columns = framed(columns_of(frame, "the frame of clients"))
        return cls(columns.pop("samples"), **columns)

    @classmethod
    def read_csv(
        cls, path: Source, *, encoding: str | None = None, delimiter: str | None = None
    ) -> Clients:
        """Read clients from delimited text.

        One row per client, per client and label, or per sample; :mod:`hasa_opt.clients.csv`
        describes the three formats.

        Parameters
        ----------
        path : path, or file open for reading
            In text or binary mode; gzipped or not.
        encoding : str, optional
            Default: UTF-8 where the bytes are that, or what a byte-order mark says; else the
            likeliest, with a warning that says which.
        delimiter : str, optional
            One character. Default: a comma, or the semicolon, tab or bar that separates the
            columns of the header, with a warning that says so.

        Returns
        -------
        Clients

        Raises
        ------
        InputError
            If the file is absent, empty, or holds a value that breaks a rule; the message names
            the line and the column.
        """
        columns, _ = files.read_csv(path, encoding=encoding, delimiter=delimiter)
        return cls(columns.pop("samples"), **columns)

    @classmethod
    def read_parquet(cls, path: str | PathLike[str]) -> Clients:
        """Read clients from a Parquet file: a row for each, columns as :meth:`from_frame` has them.

        Parameters
        ----------
        path : path ending in .parquet, or folder of such files

        Raises
        ------
        InputError
            As for :meth:`from_frame`, and if the file is absent or damaged.
        MissingExtraError
            If pyarrow is not installed.
        """
        columns, _ = files.read_parquet(path)
        return cls(columns.pop("samples"), **columns)

    def to_csv(self, path: str | PathLike[str]) -> None:
        """Write the clients as CSV in the wide format; :meth:`read_csv` gives them back.

        Parameters
        ----------
        path : path of the file to write
            Its folder must exist; a file that is there is replaced.

        Raises
        ------
        InputError
            If there can be no such file.
        StorageError
            If the disk does not take it; the file of before is then intact.
        """
        write(path, self._plain_columns, self.counts, self.labels)

    def in_columns(self) -> dict[str, Any]:
        """A row for each client, in the wide format: what :meth:`from_frame` reads."""
        return self._plain_columns | count_columns(self.counts, self.labels)

    @property
    def _plain_columns(self) -> dict[str, Any]:
        """Columns of the wide format that are known, without counts."""
        columns = {
            "name": self.all_names,
            "samples": self.samples,
            "max_width": self.max_width,
            "site": self.site,
            "device": self.device,
        }
        return {name: list(values) for name, values in columns.items() if values is not None}

    def __len__(self) -> int:
        return int(self.samples.shape[0])

    def __repr__(self) -> str:
        labels = "" if self.counts is None else f", n_labels={self.counts.shape[1]}"
        return f"Clients(n_clients={len(self)}, samples={self.samples.sum(dtype=object)}{labels})"

    @property
    def weights(self) -> FloatArray:
        """Share of all training samples that each client holds, ``(n_clients,)``."""
        return self.samples / float(self.samples.sum(dtype=np.float64))

    def mean(self, values: FloatArray) -> float:
        """Mean over the training samples of one value per client, ``(n_clients,)``."""
        return float(self.weights @ values)

    def subset(self, rows: npt.ArrayLike) -> Clients:
        """Some of the clients, by their rows or by a mask."""
        chosen = np.arange(len(self))[np.asarray(rows)]
        return Clients(
            self.samples[chosen],
            counts=None if self.counts is None else self.counts[chosen],
            max_width=None if self.max_width is None else self.max_width[chosen],
            names=[self.name(row) for row in chosen.tolist()],
            site=None if self.site is None else [self.site[row] for row in chosen.tolist()],
            labels=self.labels,
            device=None if self.device is None else [self.device[row] for row in chosen.tolist()],
        )

    def caps(self, widest: float) -> FloatArray:
        """Widest width that each client can train, of those up to ``widest``; ``(n_clients,)``."""
        if self.max_width is None:
            return np.full(len(self), widest)
        return np.minimum(self.max_width, widest)

    @cached_property
    def all_names(self) -> tuple[str, ...]:
        """Name of each client, given or by default, ``(n_clients,)``."""
        return self.names or tuple(map(self.name, range(len(self))))

    def name(self, row: int) -> str:
        """Name of the client in one row."""
        return f"client-{row}" if self.names is None else self.names[row]

    def table(self, columns: Mapping[str, Callable[[int], str]]) -> Table:
        """Names, samples and further columns; of many clients the first 20.

        Parameters
        ----------
        columns : mapping of str to callable
            Heading of each further column, and the function that gives its text for a row.

        Returns
        -------
        rich Table
        """
        from rich.text import Text

        table = new_table("client")
        for heading in ("samples", *columns):
            table.add_column(heading, justify="right", overflow="fold")
        for row in range(min(len(self), SHOWN_ROWS)):
            texts = [str(self.samples[row]), *(text(row) for text in columns.values())]
            table.add_row(Text(self.name(row)), *map(Text, texts))
        table.caption = first_of(len(self))
        return table

    def __rich__(self) -> Table:
        columns: dict[str, Callable[[int], str]] = {}
        if self.max_width is not None:
            caps = self.max_width
            columns["max_width"] = lambda row: f"{caps[row]:g}"
        if self.site is not None:
            columns["site"] = self.site.__getitem__
        if self.device is not None:
            columns["device"] = self.device.__getitem__
        if self.counts is not None:
            counted = np.asarray(self.counts.sum(axis=1)).ravel()
            columns["counted"] = lambda row: str(counted[row])
        return self.table(columns)
