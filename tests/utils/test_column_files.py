"""Files of columns: the bytes that :mod:`csv` would write, and Parquet."""

from __future__ import annotations

import csv
import io

import pyarrow.parquet as pq
import pytest

from hasa_opt._utils.column_files import write_columns

COLUMNS = [
    {"name": ["a", "b", "c", "d", "e"], "n": [1, 2, 3, 4, 5], "x": [0.5, 0.5, 1e-7, 0.5, 0.5]},
    {"name": ["a,b", 'c"', "d\n"], "x": [1.0, 2.0, float("inf")]},
    {"x": [0.0, -0.0, 0.0, -0.0, 0.0], "y": [True, None, "z", 1.5, 2]},
    {"alone": ["", "a"]},
    {"a": [], "b": []},
]


@pytest.mark.parametrize("columns", COLUMNS)
def test_csv_is_what_the_standard_library_writes(columns, tmp_path):
    text = io.StringIO(newline="")
    out = csv.writer(text)
    out.writerow(columns)
    out.writerows(zip(*columns.values(), strict=True))
    write_columns(tmp_path / "some.csv", columns)
    assert (tmp_path / "some.csv").read_bytes() == text.getvalue().encode()


def test_parquet_keeps_the_values(tmp_path):
    write_columns(tmp_path / "some.PARQUET", COLUMNS[0])
    assert pq.read_table(tmp_path / "some.PARQUET").to_pydict() == COLUMNS[0]
