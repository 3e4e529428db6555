"""The command that groups clients: both kinds of files, and what is wrong with one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

SQUARE = """client,phone,tablet,camera
phone,1,0.9,-0.5
tablet,0.9,1,-0.2
camera,-0.5,-0.2,1
"""
PAIRS = """client,other,similarity
phone,tablet,0.9
camera,phone,-0.5
tablet,camera,-0.2
"""


@pytest.mark.parametrize("text", [SQUARE, PAIRS])
def test_groups_are_printed_and_written(run, tmp_path: Path, text: str) -> None:
    path, output = tmp_path / "similarity.csv", tmp_path / "groups.csv"
    path.write_text(text)
    ran = run("partition", path, "--output", output)
    assert ran.code == 0, ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["0", "2", "phone,", "tablet"] in lines
    assert ["1", "1", "camera"] in lines
    assert "highs: optimal, 2 groups, objective 0.9, bound 0.9, gap 0" in ran.out
    with output.open(newline="") as file:
        assert dict(csv.reader(file)) == {
            "name": "group", "phone": "0", "tablet": "0", "camera": "1",
        }  # fmt: skip


def test_groups_as_json_with_limits(run, tmp_path: Path) -> None:
    path = tmp_path / "similarity.csv"
    path.write_text(PAIRS.replace(",", ";"))
    ran = run(
        "partition", path, "--delimiter", ";", "--solver", "greedy", "--max-groups", 1, "--seed", 3,
        "--time-limit-s", 5, "--json",
    )  # fmt: skip
    told = json.loads(ran.out)
    assert told["groups"] == {"phone": 0, "tablet": 0, "camera": 0}
    assert told["objective"] == pytest.approx(0.2)
    assert told["solver"] == "greedy"
    failed = run("partition", path, "--delimiter", ";", "--max-groups", 1, "--max-size", 2)
    assert failed.code == 1
    assert "max_groups 1 with max_size 2 hold 2 clients" in failed.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SQUARE.replace("tablet,0.9", "watch,0.9"), "'watch' stands where the header has 'tablet'"),
        (SQUARE.rpartition("camera")[0], "'' stands where the header has 'camera'"),
        (SQUARE.replace("0.9,-0.5", "0.8,-0.5"), "similarity of 0 and 1 is 0.8, of 1 and 0 0.9"),
        (SQUARE.replace("-0.2,1", "x,1"), "line 4, column 'tablet': 'x' is not a number"),
        (PAIRS.replace("camera,phone", "phone,phone"), "line 3, column 'other': 'phone' is the"),
        (PAIRS + "tablet,phone,1\n", "line 5, column 'other'"),
        ("client,other,similarity\n", "similarity has no clients"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(run, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "similarity.csv"
    path.write_text(text)
    ran = run("partition", path)
    assert ran.code == 2
    assert message in ran.err


def test_the_input_is_not_overwritten(run, tmp_path: Path) -> None:
    path = tmp_path / "similarity.csv"
    path.write_text(PAIRS)
    ran = run("partition", path, "--output", path)
    assert ran.code == 2
    assert "is the input" in ran.err
    assert path.read_text() == PAIRS
