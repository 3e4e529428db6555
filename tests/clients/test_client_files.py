"""Clients from Parquet, and from CSV as pyarrow reads it: the same as by the exact reader."""

from __future__ import annotations

import random
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hasa_opt as hasa
from hasa_opt._utils import tables
from hasa_opt._utils.column_files import plain_csv, write_columns
from hasa_opt.clients import files
from hasa_opt.errors import InputError, MissingExtraError

KINDS = {"name": str, "samples": int, "max_width": float, "site": str}
COLUMNS = {
    "name": ["b", "a", "c"],
    "samples": [3, 2, 10**15],
    "max_width": [0.5, 0.1 + 0.2, 1.0],
    "site": ["x", "y", "x"],
}


def facts(clients):
    own = (clients.names, clients.samples.tolist(), clients.site, clients.device)
    return *own, None if clients.max_width is None else clients.max_width.tolist()


def test_parquet_gives_the_clients_that_csv_gives(tmp_path):
    for kind in ("csv", "parquet"):
        write_columns(tmp_path / f"fleet.{kind}", COLUMNS)
    one = hasa.Clients.read_csv(tmp_path / "fleet.csv")
    assert facts(one) == facts(hasa.Clients.read_parquet(tmp_path / "fleet.parquet"))
    assert one.names == ("b", "a", "c")
    assert one.max_width.tolist() == COLUMNS["max_width"]


def test_repeated_names_may_be_encoded_in_parquet(tmp_path):
    columns = {"name": ["a", "b"], "samples": [1, 2]}
    columns["site"] = pa.array(["x", "x"]).dictionary_encode()
    pq.write_table(pa.table(columns), tmp_path / "fleet.parquet")
    assert hasa.Clients.read_parquet(tmp_path / "fleet.parquet").site == ("x", "x")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"name": ["a"]}, "no column 'samples'"),
        ({"name": ["a"], "samples": [1], "more": [1]}, "unknown column 'more'"),
        ({"name": ["a", "a"], "samples": [1, 2]}, "distinct"),
        ({"name": ["a", "b"], "samples": [1, None]}, "samples"),
        ({"name": ["a"], "samples": [1.5]}, "samples"),
        ({"name": ["a"], "samples": [1], "max_width": [float("nan")]}, "max_width"),
        ({"name": [None], "samples": [1]}, "name"),
    ],
)
def test_a_bad_parquet_file_is_refused(columns, words, tmp_path):
    path = tmp_path / "fleet.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(InputError, match=words):
        hasa.Clients.read_parquet(path)


def test_no_parquet_is_said(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="cannot read"):
        hasa.Clients.read_parquet(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("name,samples\n")
    with pytest.raises(InputError, match="give a Parquet file"):
        hasa.Clients.read_parquet(tmp_path / "text.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        hasa.Clients.read_parquet(tmp_path / "text.parquet")


PIECES = [
    *("a", "b1", "0x1f", "12", "12.0", "+3", " 4", "", " ", "1e2", "nan", "-1", "0.5", "1_0"),
    *("\u00e9", "\u00a0", '"q"', "007", "99999999999999999999", "inf", "1.", ".5", "NA", "\t"),
]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_whatever_the_cells_all_readers_say_the_same(end, tmp_path, monkeypatch):
    """A quick reader that took another value, or accepted what is refused, would differ here."""
    draw = random.Random(end)
    path = tmp_path / "fleet.csv"
    taken = 0
    for _ in range(400):
        header = draw.choice(["name,samples", "name,samples,max_width", "site,name,samples"])
        usual = {"name": "d", "samples": "7", "max_width": "0.5", "site": "s"}
        rows = []
        for at in range(draw.randint(0, 3)):
            row = [usual[c] + (str(at) if c == "name" else "") for c in header.split(",")]
            if draw.random() < 0.5:
                row[draw.randrange(len(row))] = draw.choice(PIECES)
            if draw.random() < 0.05:
                row = row[:-1]
            rows.append(",".join(row))
        path.write_bytes(end.join([header, *rows, ""] if draw.random() < 0.8 else [header, *rows])
                         .encode())  # fmt: skip
        taken += plain_csv(path, KINDS) is not None
        quick = outcome(path)
        with monkeypatch.context() as without:
            without.setattr(files, "plain_csv", lambda *_: None)
            assert quick == outcome(path), path.read_bytes()
            without.setattr(tables, "_split", lambda *_: None)
            assert quick == outcome(path), path.read_bytes()
    assert taken > 50 or end == "\r"


def outcome(path):
    try:
        return facts(hasa.Clients.read_csv(path))
    except InputError as error:
        return str(error)
