"""The files of a history: an index with the digests of all, tensors, and chunks of rounds.

A chunk holds the measurements of a few rounds. It is written once and linked to from then on, so
that storing a round costs as much in round 400 as in round 5.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
import safetensors.numpy

from hasa_opt.errors import InputError
from hasa_opt.federated.measurements import Measured, packed

FORMAT = 6
"""Version of the files; one that reads other files, or means something else by them, is another."""

INDEX = "history.json"
CONTENT = ("metadata", "events", "rounds")
WIDTHS, WEIGHTS = "widths.safetensors", "weights.safetensors"
CLIENTS = "clients.safetensors"
TENSORS = (WIDTHS, WEIGHTS, CLIENTS)

JOINED, LARGEST = 8, 64
"""Chunks of as many rounds that are joined into one, and the rounds of one that no more are joined
to: a choice, so that there are few files and few rounds are written again."""


class Chunk(NamedTuple):
    """A file with some rounds of a history."""

    path: Path
    rounds: int
    sha256: str


def add_chunk(directory: Path, known: Sequence[Chunk], rounds: Sequence[Measured]) -> list[Chunk]:
    """Put the chunks with all rounds into a directory; those that are known are linked to.

    Parameters
    ----------
    directory : path
    known : sequence of Chunk
        With the first rounds.
    rounds : sequence of Measured
        All rounds.
    """
    kept, size, others = list(known), 1, JOINED - 1
    while size < LARGEST and [chunk.rounds for chunk in kept[-others:]] == [size] * others:
        del kept[-others:]
        size *= JOINED
    chunks = [chunk._replace(path=_linked(chunk.path, directory)) for chunk in kept]
    done = sum(chunk.rounds for chunk in chunks)
    path = directory / f"rounds-{done:06d}.safetensors"
    safetensors.numpy.save_file(packed(rounds[done:]), path)
    return [*chunks, Chunk(path, len(rounds) - done, digest(path.read_bytes()))]


def _linked(path: Path, directory: Path) -> Path:
    """Link to a file in another directory, or copy it where the disk knows no links."""
    new = directory / path.name
    try:
        os.link(path, new)
    except OSError:
        shutil.copyfile(path, new)
    return new


def load_arrays(path: Path) -> Mapping[str, npt.NDArray[Any]]:
    """Read a file of arrays."""
    arrays: Mapping[str, npt.NDArray[Any]] = safetensors.numpy.load_file(path)
    return arrays


def digest(content: bytes) -> str:
    """SHA-256 of a content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def to_json(value: Any) -> str:
    """Write settings and metadata, Numpy's numbers included, as JSON."""
    return json.dumps(value, indent=2, default=methodcaller("item"))


def read_index(source: Path) -> dict[str, Any]:
    """Read the index, after checking the format and the digests of all files."""
    if not (source / INDEX).is_file():
        raise InputError(f"{source} has no {INDEX}: give a directory that save() wrote")
    try:
        index = json.loads((source / INDEX).read_text(encoding="utf-8"))
        version, digests = index["format"], dict(index["sha256"])
        content = {name: index[name] for name in CONTENT if version == FORMAT}
        names = [*TENSORS, *content.get("rounds", ())]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{source / INDEX} is damaged ({error}): run the training again"
        ) from error
    if version != FORMAT:
        raise InputError(
            f"{source} has format {version}, this version reads {FORMAT}: use the version of "
            "hasa_opt that wrote it"
        )
    absent = next((name for name in names if not (source / str(name)).is_file()), None)
    if absent is not None:
        raise InputError(f"{source} has no {absent}: give a directory that save() wrote")
    stored = {name: (source / name).read_bytes() for name in names}
    for name, data in {**stored, INDEX: to_json(content).encode()}.items():
        if digest(data) != digests.get(name):
            raise InputError(
                f"{source / name} is damaged: its content is not what was saved, restore it or run "
                "the training again"
            )
    if not isinstance(content["metadata"], dict) or not isinstance(content["events"], list):
        raise InputError(f"{source / INDEX} is damaged: run the training again")
    return content


def chunks_in(directory: Path) -> list[Chunk]:
    """Files with the rounds of a history that was loaded from a directory."""
    index = json.loads((directory / INDEX).read_text(encoding="utf-8"))
    return [
        Chunk(directory / name, rounds, index["sha256"][name])
        for name, rounds in index["rounds"].items()
    ]
