"""History: everything that a federated run measured, in memory and on disk."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import methodcaller
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hasa_opt.errors import InputError

FORMAT = 1
INDEX, ARRAYS, WEIGHTS = "history.json", "arrays.npz", "weights.safetensors"

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class History:
    """One federated run: what each client measured in each round, and the final supernet.

    All arrays but ``widths`` have the shape (rounds, n_clients). Accuracies are shares between 0
    and 1, losses are nats per target.

    Parameters
    ----------
    widths
        Width of each client's subnet, shape (n_clients,).
    train_loss
        Mean loss during local training.
    validation_loss, validation_accuracy, test_loss, test_accuracy
        Measured after the round's aggregation.
    seconds
        Wall-clock time of local training.
    bytes_down, bytes_up
        Size of the subnet received and sent.
    flops
        Floating-point operations of local training, padding included.
    metadata
        Settings and data of the run, ready for JSON.
    weights
        Final state of the supernet.

    Raises
    ------
    InputError
        If the arrays disagree about the number of rounds or clients.
    """

    widths: FloatArray
    train_loss: FloatArray
    validation_loss: FloatArray
    validation_accuracy: FloatArray
    test_loss: FloatArray
    test_accuracy: FloatArray
    seconds: FloatArray
    bytes_down: IntArray
    bytes_up: IntArray
    flops: IntArray
    metadata: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)

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
    def final_accuracy(self) -> FloatArray:
        """Test accuracy of each client after the last round, shape (n_clients,)."""
        final: FloatArray = self.test_accuracy[-1]
        return final

    def save(self, directory: str | Path) -> None:
        """Write the history as a directory of JSON, npz and safetensors files.

        It is written aside and renamed, so the directory never holds half a history. An earlier
        history there is replaced.

        Raises
        ------
        InputError
            If the directory exists and holds something other than a history.
        """
        target = Path(directory).absolute()
        is_empty = target.is_dir() and not any(target.iterdir())
        if target.exists() and not is_empty and not (target / INDEX).is_file():
            raise InputError(f"{target} exists and is no history: choose a new directory")
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as aside:
            new, old = Path(aside, "new"), Path(aside, "old")
            new.mkdir()
            self._write(new)
            if target.exists():
                target.rename(old)
            new.rename(target)

    def _write(self, directory: Path) -> None:
        """Write the three files; the index holds the digests of the other two."""
        arrays = {name: getattr(self, name) for name in ("widths", *COLUMNS)}
        np.savez_compressed(directory / ARRAYS, **arrays)
        save_file(dict(self.weights), directory / WEIGHTS)
        index = {
            "format": FORMAT,
            "sha256": {name: _digest(directory / name) for name in (ARRAYS, WEIGHTS)},
            "metadata": dict(self.metadata),
        }
        text = json.dumps(index, indent=2, default=methodcaller("item"))  # Numpy's numbers.
        (directory / INDEX).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read a history that :meth:`save` wrote.

        Raises
        ------
        InputError
            If a file is missing, damaged, or written in another format.
        """
        source = Path(directory)
        for name in (INDEX, ARRAYS, WEIGHTS):
            if not (source / name).is_file():
                raise InputError(f"{source} has no {name}: give a directory that save() wrote")
        metadata = _read_index(source)
        try:
            with np.load(source / ARRAYS, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in ("widths", *COLUMNS)}
            weights = load_file(source / WEIGHTS)
        except (KeyError, ValueError, zipfile.BadZipFile, SafetensorError) as error:
            raise InputError(
                f"{source} cannot be read ({error}): run the training again"
            ) from error
        return cls(**arrays, metadata=metadata, weights=weights)


COLUMNS = (
    "train_loss",
    "validation_loss",
    "validation_accuracy",
    "test_loss",
    "test_accuracy",
    "seconds",
    "bytes_down",
    "bytes_up",
    "flops",
)
"""Names of the (rounds, n_clients) arrays of a history."""


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_index(source: Path) -> dict[str, Any]:
    """Read the metadata, after checking the format and the digests of the other files."""
    try:
        index = json.loads((source / INDEX).read_text(encoding="utf-8"))
        version, digests, metadata = index["format"], index["sha256"], dict(index["metadata"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{source / INDEX} is damaged ({error}): run the training again"
        ) from error
    if version != FORMAT:
        raise InputError(
            f"{source} has format {version}, this version reads {FORMAT}: use the version of "
            "hasa_opt that wrote it"
        )
    for name in (ARRAYS, WEIGHTS):
        if _digest(source / name) != digests.get(name):
            raise InputError(
                f"{source / name} is damaged: its content is not what was saved, restore it or run "
                "the training again"
            )
    return metadata
