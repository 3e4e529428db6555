"""``hasa-opt verify``: a verdict on two files, and an exit code that scripts can use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import hasa_opt as hasa


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Path]:
    problem = hasa.AllocationProblem.build(
        hasa.Clients([120, 80, 200, 50]), widths=[0.25, 0.5, 1.0], budget=0.5,
        utility=hasa.utility.alpha_fair(),
    )  # fmt: skip
    files = tmp_path / "fleet.problem", tmp_path / "fleet.result"
    problem.save(files[0])
    hasa.solve(problem, "highs").save(files[1])
    return files


def test_an_optimum_is_proven(run, saved: tuple[Path, Path]) -> None:
    ran = run("verify", *saved)
    assert (ran.code, ran.out) == (0, "optimal\n")
    ran = run("verify", *saved, "--json")
    assert (ran.code, json.loads(ran.out)) == (0, {"proven": True, "verdict": "optimal"})


def test_a_result_for_another_problem_is_none(run, saved: tuple[Path, Path]) -> None:
    problem = hasa.AllocationProblem.load(saved[0])
    problem.with_budget(0.4).save(saved[0])
    ran = run("verify", *saved)
    assert (ran.code, ran.out) == (1, "false: it is for another problem\n")


def test_damaged_and_exchanged_files_are_wrong_input(run, saved: tuple[Path, Path]) -> None:
    ran = run("verify", saved[1], saved[0])
    assert ran.code == 2
    assert "keeps 'Allocation'" in ran.err
    data = bytearray(saved[1].read_bytes())
    data[len(data) // 2] ^= 1
    saved[1].write_bytes(data)
    ran = run("verify", *saved)
    assert (ran.code, ran.out) == (2, "")
    assert "damaged" in ran.err
