"""What rounds measured: kept for few of many clients, on disk in files that are written once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from hasa_opt.errors import InputError
from hasa_opt.federated import History
from hasa_opt.federated.history_files import JOINED, LARGEST, add_chunk, chunks_in
from hasa_opt.federated.measurements import COLUMNS, Measured, blank, packed, table, unpacked


def row_of(n_clients: int, clients: list[int], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    row = {name: blank(name, n_clients) for name in COLUMNS}
    for name in ("train_loss", "test_loss", "flops"):
        row[name][clients] = rng.integers(1, 99, len(clients))
    return row


@pytest.mark.parametrize("clients", [[], [3], [0, 4, 7], list(range(9))])
def test_a_row_comes_back_as_it_was(clients):
    row = row_of(9, clients, 1)
    kept = Measured.of(row)
    assert kept.clients.tolist() == clients
    for name in COLUMNS:
        np.testing.assert_array_equal(table([kept], name, 9)[0], row[name])
        assert table([kept], name, 9).dtype == row[name].dtype


def test_rounds_come_back_as_they_were_packed():
    rows = [row_of(9, clients, 2) for clients in ([1], [], [0, 8], [])]
    back = list(unpacked(packed([Measured.of(row) for row in rows])))
    for name in COLUMNS:
        np.testing.assert_array_equal(table(back, name, 9), [row[name] for row in rows])


def test_memory_hangs_on_those_drawn():
    kept = Measured.of(row_of(100_000, [5, 70_000], 0))
    assert sum(column.nbytes for column in kept.columns.values()) + kept.clients.nbytes < 100


def history(rounds: int) -> History:
    measured = [Measured.of(row_of(20, [number % 20, 7], number)) for number in range(rounds)]
    return History(np.ones(20), measured, weights={"w": torch.ones(2)})


def test_rounds_are_written_once_and_stay_few_files(tmp_path: Path):
    chunks = []
    for rounds in range(1, 2 * LARGEST + 10):
        place = tmp_path / str(rounds)
        before = {chunk.path.name: chunk.path.stat().st_ino for chunk in chunks}
        chunks = history(rounds).save_beside(place, chunks)
        assert sum(chunk.rounds for chunk in chunks) == rounds
        assert len(chunks) <= 2 * (JOINED - 1) + rounds // LARGEST
        linked = chunks[:-1]
        assert [chunk.path.stat().st_ino for chunk in linked] == [
            before[chunk.path.name] for chunk in linked
        ]
        assert chunks == chunks_in(place)
    found = History.load(place)
    np.testing.assert_array_equal(found.train_loss, history(rounds).train_loss)
    np.testing.assert_array_equal(found.flops, history(rounds).flops)
    assert sorted(path.name for path in place.glob("rounds-*")) == sorted(
        chunk.path.name for chunk in chunks
    )


def test_without_links_files_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refused)
    chunks = history(1).save_beside(tmp_path / "1", ())
    history(2).save_beside(tmp_path / "2", chunks)
    np.testing.assert_array_equal(History.load(tmp_path / "2").flops, history(2).flops)


def test_the_first_chunk_is_whole(tmp_path: Path):
    (chunk,) = add_chunk(tmp_path, (), history(5).measured)
    assert (chunk.path.name, chunk.rounds) == ("rounds-000000.safetensors", 5)


@pytest.mark.parametrize("columns", [{"nonsense": np.zeros(2)}, {"flops": np.zeros(3)}])
def test_wrong_columns_are_refused(columns):
    with pytest.raises(InputError, match=r"has shape .* beside 2 clients"):
        Measured(np.arange(2), columns)
